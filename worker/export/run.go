package export

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Info is what an export came to. It is the result of its job.
type Info struct {
	Rows int64 `json:"rows"`
	// Sheets is 0 for CSV.
	Sheets int `json:"sheets,omitempty"`
	// Truncated counts the texts that were too long for a cell.
	Truncated int64 `json:"truncated,omitempty"`
}

// Summary says it in a sentence.
func (i Info) Summary() string {
	s := plural(i.Rows, "row")
	if i.Sheets > 1 {
		s += " on " + plural(int64(i.Sheets), "sheet")
	}
	if i.Truncated > 0 {
		s += "; " + plural(i.Truncated, "text") + " cut to the 32,767 characters that a cell can hold"
	}
	return s + "."
}

func plural(n int64, noun string) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if n != 1 {
		noun += "s"
	}
	return digits + " " + noun
}

// Progress hears how far an export has come: rows written, rows there are (0 while that is not known), and
// what is being done. It is called from the goroutine that called Run, at most every 200 ms while rows are
// written.
type Progress func(done, total int64, message string)

// sheet is a format in the making: rows go in one at a time.
type sheet interface {
	write(cells []cell) error
	// close finishes the file. Nothing is written after it, nor after abort, which gives up; abort does
	// nothing after close.
	close() error
	abort()
	info() Info
}

// Run writes an export to w, row by row, and returns what it came to. What a user can be told about a
// failure is an [*Error]; a failure to write to w is returned as it is. When ctx ends Run soon returns its
// cause; a Write to w that blocks for ever, though, blocks Run as well. What w has got then is no whole file.
// progress may be nil.
func (e *Exporter) Run(ctx context.Context, params Params, w io.Writer, progress Progress) (info Info, err error) {
	if progress == nil {
		progress = func(int64, int64, string) {}
	}
	if params, err = e.config.check(params); err != nil {
		return Info{}, err
	}
	defer func() {
		if err != nil && ctx.Err() != nil { // what a driver says then is about the cancelling
			info, err = Info{}, fmt.Errorf("export: %w", context.Cause(ctx))
		}
	}()

	d := e.config.Dataset(params.Dataset)
	src := e.sources[d.Database]
	if err := src.prepareOnce(ctx, func() { progress(0, 0, src.preparing) }); err != nil {
		return Info{}, &Error{CodeDatabaseUnavailable, "The database " + src.Name + " could not be prepared.", true, err}
	}
	if err := src.ping(ctx); err != nil {
		return Info{}, err
	}
	total, err := e.count(ctx, d, src, params, progress)
	if err != nil {
		return Info{}, err
	}

	out, rows, err := e.read(ctx, d, src, params, w, total, progress)
	if err != nil {
		return Info{}, err
	}
	// The database is not needed any more: a large workbook takes a while to compress.
	defer out.abort()
	if params.Format == CSV {
		progress(rows, rows, "Finishing the file")
	} else {
		progress(rows, rows, "Compressing")
	}
	if err := out.close(); err != nil {
		return Info{}, err
	}
	info = out.info()
	info.Rows = rows
	return info, nil
}

// read runs the query and writes what it returns. It returns the file, which is to be closed, and its rows.
func (e *Exporter) read(ctx context.Context, d *Dataset, src *source, params Params, w io.Writer, total int64, progress Progress) (sheet, int64, error) {
	progress(0, total, "Running the query")
	args, err := bind(src.Driver, d.Query, d.Params, params.Values, params.Identity)
	if err != nil {
		return nil, 0, fmt.Errorf("export: %w", err)
	}
	reading, cancel := context.WithCancel(ctx)
	tx, err := src.db.BeginTx(reading, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		cancel()
		return nil, 0, readError(d, err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was changed
	defer cancel()
	rows, err := tx.QueryContext(reading, d.Query.SQL, args...)
	if err != nil {
		return nil, 0, readError(d, err)
	}
	defer rows.Close()
	defer cancel() // first of all: leaving before the last row must end the query, not read the rest of it
	columns, err := d.columns(rows)
	if err != nil {
		return nil, 0, err
	}
	var out sheet
	if params.Format == CSV {
		out, err = newCSV(w, columns)
	} else {
		out, err = newBook(ctx, w, d.Sheet, columns, e.maxRows)
	}
	if err != nil {
		return nil, 0, err
	}
	done, err := write(ctx, d, rows, columns, out, total, progress)
	if err != nil {
		out.abort()
		return nil, 0, err
	}
	return out, done, nil
}

// count returns how many rows there will be, or 0 if that is not known.
func (e *Exporter) count(ctx context.Context, d *Dataset, src *source, params Params, progress Progress) (int64, error) {
	if d.Count.SQL == "" {
		return 0, nil
	}
	progress(0, 0, "Counting rows")
	args, err := bind(src.Driver, d.Count, d.Params, params.Values, params.Identity)
	if err != nil {
		return 0, fmt.Errorf("export: %w", err)
	}
	var total int64
	err = src.db.QueryRowContext(ctx, d.Count.SQL, args...).Scan(&total)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil && d.CountOptional:
		return 0, nil
	case err != nil:
		return 0, readError(d, fmt.Errorf("count: %w", err))
	}
	return total, nil
}

// How often Run looks up from the rows, and how often it tells of its progress.
const (
	lookEvery     = 256
	progressEvery = 200 * time.Millisecond
)

// write reads the rows while another goroutine writes them, so that two cores are used.
func write(ctx context.Context, d *Dataset, rows *sql.Rows, columns []column, out sheet, total int64, progress Progress) (done int64, err error) {
	p := newPump(out, len(columns))
	defer func() { err = cmp.Or(p.close(), err) }()

	values := make([]any, len(columns))
	dest := make([]any, len(columns))
	for i := range dest {
		dest[i] = &values[i]
	}
	told := time.Now()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return 0, readError(d, err)
		}
		cells, err := p.row()
		if err != nil {
			return 0, err
		}
		for i := range values {
			cells[i].set(&columns[i], values[i])
		}
		if done++; done%lookEvery == 0 {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			if now := time.Now(); now.Sub(told) >= progressEvery {
				told = now
				progress(done, atLeast(total, done), "Writing rows")
			}
		}
	}
	if err := rows.Err(); err != nil {
		return 0, readError(d, err)
	}
	return done, nil
}

// atLeast keeps a total that rows were added to since from falling behind what is done.
func atLeast(total, done int64) int64 {
	if total == 0 {
		return 0
	}
	return max(total, done)
}

// columns returns the columns that the query has, as the config describes them.
func (d *Dataset) columns(rows *sql.Rows) ([]column, error) {
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, readError(d, err)
	}
	columns := make([]column, len(types))
	found := make(map[string]bool)
	for i, t := range types {
		found[t.Name()] = true
		columns[i] = newColumn(d.Columns[t.Name()], t.Name(), t)
	}
	for name := range d.Columns {
		if !found[name] {
			return nil, &Error{Code: CodeColumnMissing, Message: fmt.Sprintf("The config describes a column %q, which the query of %s does not return.", name, d.Title)}
		}
	}
	return columns, nil
}
