// Package export turns a configured dataset into a spreadsheet. A dataset is a named query with params on
// a SQLite, PostgreSQL or MySQL database, defined in hark.yaml. A request has only the name of a dataset and the
// values of its params, never SQL.
//
//	hark.yaml ─▶ [Config] ─▶ [Exporter] ─▶ rows ─▶ cells ─▶ batchWriter ─┬▶ xlsx ─▶ temporary files ─▶ deflate ─▶ w
//	                                                                     └▶ csv ─────────────────────────────▶ w
//
// One goroutine reads rows while another writes them. excelize writes workbooks: its StreamWriter stores a sheet beyond
// 16 MiB in a temporary file. After the last row the sheets are deflated directly to w, each with a head that has its
// range and the widths of its columns. Memory does not grow with the rows of a sheet.
package export
