package export

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Info describes a finished export. It is the result of its job.
type Info struct {
	Rows int64 `json:"rows"`
	// Sheets is 0 for CSV.
	Sheets int `json:"sheets,omitempty"`
	// Truncated counts the texts that were too long for a cell.
	Truncated int64 `json:"truncated,omitempty"`
}

// Summary describes the export in a sentence.
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

// Progress receives the progress of an export: written rows, all rows (0 if unknown), and the current step. It is called on the
// goroutine that called Run, at most every 200 ms while rows are written.
type Progress func(done, total int64, message string)

// sheet writes rows in a format.
type sheet interface {
	write(cells []cell) error
	// close completes the file. abort gives up, and does nothing after close. Nothing may be written after them.
	close() error
	abort()
	info() Info
}

// Run writes an export to w, row by row, and blocks until it is complete. An error for the user is an [*Error]; an error of w is returned
// unchanged. When ctx ends, Run ends the query in the database and returns the cause of ctx. With a MySQL that does not respond that
// takes 5 s. A Write to w that blocks for ever blocks Run, too. After an error the file in w is incomplete. progress may be nil.
func (e *Exporter) Run(ctx context.Context, params Params, w io.Writer, progress Progress) (info Info, err error) {
	if progress == nil {
		progress = func(int64, int64, string) {}
	}
	if params, err = e.config.check(params); err != nil {
		return Info{}, err
	}
	defer func() {
		// The driver's error for a cancelled query is about the cancellation, unless the query had timed out before.
		if err != nil && ctx.Err() != nil && !errors.Is(err, errLate) {
			var left *notEndedError
			errors.As(err, &left)
			info, err = Info{}, fmt.Errorf("export: %w", context.Cause(ctx))
			if left != nil {
				err = joined(err, left)
			}
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
	// The connection is released by now, since compressing a large workbook takes a while.
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

// read runs the query and writes its rows. It returns the file, which the caller must close, and the number of rows.
func (e *Exporter) read(ctx context.Context, d *Dataset, src *source, params Params, w io.Writer, total int64, progress Progress) (out sheet, done int64, err error) {
	progress(0, total, "Running the query")
	zone, err := jobs.LoadZone(params.Timezone)
	if err != nil {
		return nil, 0, &Error{Code: CodeParamInvalid, Message: "This worker does not know the time zone " + params.Timezone + "."}
	}
	args, err := bind(src.Driver, d.Query, d.Params, params.Values, params.Identity)
	if err != nil {
		return nil, 0, fmt.Errorf("export: %w", err)
	}
	conn, err := src.session(ctx, 1)
	if err != nil {
		return nil, 0, readError(d, err)
	}
	defer func() { err = joined(err, conn.end(ctx, err)) }()
	rows, err := conn.query(d.Query.SQL, args)
	if err != nil {
		return nil, 0, readError(d, err)
	}
	columns, err := d.columns(rows, src.Driver, zone)
	if err != nil {
		return nil, 0, err
	}
	if params.Format == CSV {
		out, err = newCSV(w, columns, params.CSV)
	} else {
		out, err = newWorkbook(ctx, w, d.Sheet, columns, e.maxRows)
	}
	if err != nil {
		return nil, 0, err
	}
	done, err = write(ctx, d, conn, columns, out, total, progress)
	if err != nil {
		out.abort()
		return nil, 0, err
	}
	return out, done, nil
}

// joined returns both errors joined, or err if more is nil.
func joined(err, more error) error {
	if more == nil {
		return err
	}
	return errors.Join(err, more)
}

// count returns the number of rows, or 0 if it is unknown.
func (e *Exporter) count(ctx context.Context, d *Dataset, src *source, params Params, progress Progress) (total int64, err error) {
	if d.Count.SQL == "" {
		return 0, nil
	}
	progress(0, 0, "Counting rows")
	args, err := bind(src.Driver, d.Count, d.Params, params.Values, params.Identity)
	if err != nil {
		return 0, fmt.Errorf("export: %w", err)
	}
	// The count gets half of the remaining time, since the query needs some, too. It has its own transaction, since PostgreSQL
	// refuses all statements after a failed one.
	conn, err := src.session(ctx, 2)
	if err != nil {
		return 0, readError(d, err)
	}
	failed := conn.late(conn.tx.QueryRowContext(conn.ctx, d.Count.SQL, args...).Scan(&total))
	left := conn.end(ctx, failed)
	switch {
	case ctx.Err() != nil:
		return 0, joined(ctx.Err(), left)
	case failed != nil && d.CountOptional:
		return 0, nil
	case failed != nil:
		return 0, joined(readError(d, fmt.Errorf("count: %w", failed)), left)
	}
	return total, nil
}

const (
	ctxCheckRows     = 256 // rows between two checks of the context
	progressInterval = 200 * time.Millisecond
)

// write reads the rows while another goroutine writes them, so that two cores are used.
func write(ctx context.Context, d *Dataset, conn *session, columns []column, out sheet, total int64, progress Progress) (done int64, err error) {
	p := newBatchWriter(out, len(columns))
	defer func() { err = cmp.Or(p.close(), err) }()

	values := make([]any, len(columns))
	dest := make([]any, len(columns))
	for i := range dest {
		dest[i] = &values[i]
	}
	lastReport := time.Now()
	rows := conn.rows
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return 0, readError(d, conn.late(err))
		}
		cells, err := p.row()
		if err != nil {
			return 0, err
		}
		for i := range values {
			cells[i].set(&columns[i], values[i])
		}
		done++
		if done%ctxCheckRows == 0 {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			if now := time.Now(); now.Sub(lastReport) >= progressInterval {
				lastReport = now
				progress(done, atLeast(total, done), "Writing rows")
			}
		}
	}
	if err := rows.Err(); err != nil {
		return 0, readError(d, conn.late(err))
	}
	return done, nil
}

// atLeast returns a total that is not less than done: rows may have been added since the count.
func atLeast(total, done int64) int64 {
	if total == 0 {
		return 0
	}
	return max(total, done)
}

// columns returns the columns of the query, with their settings in the config. Times are shown in the zone.
func (d *Dataset) columns(rows *sql.Rows, driver Driver, zone *time.Location) ([]column, error) {
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, readError(d, err)
	}
	columns := make([]column, len(types))
	found := make(map[string]bool)
	for i, t := range types {
		found[t.Name()] = true
		columns[i] = newColumn(d.Columns[t.Name()], t, driver, zone)
	}
	for name := range d.Columns {
		if !found[name] {
			return nil, &Error{Code: CodeColumnMissing, Message: fmt.Sprintf("The config describes a column %q, which the query of %s does not return.", name, d.Title)}
		}
	}
	return columns, nil
}
