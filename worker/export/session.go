package export

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
)

// session is a connection with a transaction for one statement of a dataset.
type session struct {
	*sql.Conn
	source *source
	ctx    context.Context // ends at the statement's timeout, with the cause errLate
	cancel context.CancelFunc
	tx     *sql.Tx
	rows   *sql.Rows // nil if nothing was read
	thread thread    // in MySQL
}

// errLate is the cause of a session's context after the timeout of its statement.
var errLate = errors.New("the statement exceeded its timeout")

// session acquires a connection from the pool, and blocks while there is none. It begins a read-only transaction. The timeout of its
// statement is 1/share of the remaining time. The caller must call end.
func (s *source) session(ctx context.Context, share time.Duration) (*session, error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	limit := statementTime(ctx, s.limit) / share
	out := &session{Conn: conn, source: s}
	if limit > 0 {
		out.ctx, out.cancel = context.WithTimeoutCause(ctx, s.ownTime(limit), errLate)
	} else {
		out.ctx, out.cancel = context.WithCancel(ctx)
	}
	if err := out.begin(limit); err != nil {
		err = out.late(err)
		return nil, joined(err, out.end(ctx, err))
	}
	return out, nil
}

// maxReserve is the largest part of an export's time that is reserved for after its statement.
const maxReserve = 10 * time.Second

// statementTime returns the timeout of a statement: most, or less if ctx ends earlier. It reserves a fifth of the time of ctx, up to
// maxReserve, so that a statement times out before the export, and the error says which of both was too slow. 0 means no limit.
func statementTime(ctx context.Context, most time.Duration) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return most
	}
	left := max(time.Until(end), time.Millisecond) // 0 would mean no limit
	left -= min(left/5, maxReserve)
	if most > 0 {
		return min(most, left)
	}
	return left
}

// ownTime returns the time after which hark itself ends a statement with this timeout. A database server should end it earlier, but does
// not if the connection is lost or the DSN has another timeout. SQLite, which is in this process, has no timeout of its own.
func (s *source) ownTime(limit time.Duration) time.Duration {
	if s.Driver == SQLite {
		return limit
	}
	return limit + min(limit/10, maxReserve/2) // within the reserve of statementTime
}

// begin begins the transaction, and sets the timeout of its statement in the database.
func (s *session) begin(limit time.Duration) (err error) {
	if s.tx, err = s.BeginTx(s.ctx, &sql.TxOptions{ReadOnly: true}); err != nil {
		return err
	}
	if s.source.Driver == MySQL {
		if s.thread, err = whichThread(s.ctx, s.tx); err != nil {
			return err
		}
	}
	switch {
	case s.source.limited:
	case s.source.Driver == Postgres && limit > 0:
		// Only for the transaction, since a pooler refuses a connection that sets it for its session.
		_, err = s.tx.ExecContext(s.ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", max(limit.Milliseconds(), 1))) // 0 would mean no limit
	case s.source.Driver == MySQL: // also without a limit: the connection may have that of an earlier statement
		err = setMySQLTime(s.ctx, s.tx, limit)
	}
	return err
}

// query runs a query of a dataset. end closes its rows. For MySQL it prepares the query also without params, since the server would
// otherwise send values as texts, and a FLOAT with six digits.
func (s *session) query(query string, args []any) (rows *sql.Rows, err error) {
	if s.source.Driver != MySQL {
		s.rows, err = s.tx.QueryContext(s.ctx, query, args...)
		return s.rows, s.late(err)
	}
	stmt, err := s.tx.PrepareContext(s.ctx, query)
	if err != nil {
		return nil, s.late(err)
	}
	s.rows, err = stmt.QueryContext(s.ctx, args...) // the statement is closed with tx
	return s.rows, s.late(err)
}

// late adds errLate to an error if the statement has exceeded its timeout.
func (s *session) late(err error) error {
	if err != nil && errors.Is(context.Cause(s.ctx), errLate) {
		return fmt.Errorf("%w: %w", errLate, err)
	}
	return err
}

// end ends the statement and releases the connection. err is the error of reading. end returns a [*notEndedError] if the query may
// still be running in the database.
//
// When reading is aborted, the driver for MySQL closes the connection at most, which a computing server does not notice. So end ends
// the query with a KILL. It sends the KILL before it closes the rows, since that may read all remaining rows. It keeps the connection
// until then and discards it, since the KILL would hit the next user of the connection.
func (s *session) end(ctx context.Context, err error) (left error) {
	s.cancel() // first, so that an early end cancels the query
	var refused *mysql.MySQLError
	killed := s.thread.id != 0 && err != nil && !errors.As(err, &refused) // a query that the server has refused has ended
	if killed {
		if err := s.source.kill(ctx, s.thread); err != nil {
			left = &notEndedError{err}
		}
	}
	// Errors of a broken connection do not matter here.
	if s.rows != nil {
		_ = s.rows.Close()
	}
	if s.tx != nil {
		_ = s.tx.Rollback() // nothing was changed
	}
	if killed {
		_ = s.Raw(func(any) error { return driver.ErrBadConn }) // the pool closes it
	}
	_ = s.Close()
	return left
}

// notEndedError says that a cancelled query may still be running in the database.
type notEndedError struct{ err error }

func (e *notEndedError) Error() string {
	return "ending the query in the database failed: " + e.err.Error()
}
func (e *notEndedError) Unwrap() error { return e.err }
