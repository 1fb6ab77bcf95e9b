// Package export turns a configured dataset into a spreadsheet. A dataset is a named query with params on
// a SQLite, PostgreSQL or MySQL database, written down in hark.yaml; what comes from a request is only the
// name of a dataset and the values of its params, never SQL.
//
//	hark.yaml ─▶ [Config] ─▶ [Exporter] ─▶ rows ─▶ cells ─▶ pump ─┬▶ xlsx ─▶ temporary files ─▶ deflate ─▶ w
//	                                                              └▶ csv ─────────────────────────────▶ w
//
// One goroutine reads rows while another writes them. Workbooks are made by excelize: rows go through its
// StreamWriter, which keeps what goes past 16 MiB of a sheet in a temporary file, and when the last row was
// read the sheets are deflated straight to w. Memory does not grow with the rows of a sheet.
package export
