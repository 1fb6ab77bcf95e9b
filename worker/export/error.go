package export

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
)

// The codes of an [Error].
const (
	CodeDatabaseUnavailable = "database_unavailable" // the database cannot be reached, or went away
	CodeQueryFailed         = "query_failed"         // the database refused or broke off the query
	CodeQueryTimeout        = "query_timeout"        // the query took longer than it may
	CodeColumnMissing       = "column_missing"       // the config describes a column that the query does not return
	CodeTooWide             = "export_too_wide"      // more columns than a sheet can have
	CodeTooLarge            = "export_too_large"     // more bytes than a workbook can have
	CodeParamInvalid        = "param_invalid"        // a param is missing, unknown or of the wrong type
	CodeIdentityMissing     = "identity_missing"     // the query takes a claim that the job was enqueued without
)

// Error is why an export failed, in words that its user may read: no SQL, no DSN, no address. What the
// database said is its cause, for the log.
type Error struct {
	Code    string
	Message string // one sentence
	// Retryable says that the same export may well succeed later.
	Retryable bool
	cause     error
}

// Error returns the message and the cause. Show [Error.Message] to users.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Message
	}
	return e.Message + " (" + e.cause.Error() + ")"
}

// Unwrap returns what the database said.
func (e *Error) Unwrap() error { return e.cause }

// readError turns what a driver returned while a dataset was read into an [*Error].
func readError(d *Dataset, err error) *Error {
	if unreachable(err) {
		return &Error{CodeDatabaseUnavailable, "The connection to the database of " + d.Title + " was lost.", true, err}
	}
	if timedOut(err) {
		return &Error{CodeQueryTimeout, "The query of " + d.Title + " took longer than it may; ask for less.", false, err}
	}
	return &Error{CodeQueryFailed, "The database could not run the query of " + d.Title + ".", passing(err), err}
}

// timedOut reports whether the database ended the statement because it took too long.
func timedOut(err error) bool {
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	if errors.As(err, &pg) {
		return pg.Code == "57014" // query_canceled
	}
	return errors.As(err, &my) && (my.Number == 3024 || my.Number == 1969) // of MySQL and of MariaDB
}

// unreachable reports whether err is about the connection, not about the query.
func unreachable(err error) bool {
	var network net.Error
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &pg):
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "57P0")
	}
	return errors.As(err, &network) || errors.As(err, &connect) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// passing reports whether the same query may succeed later: the database was busy, out of room, or chose
// it as the victim of a deadlock.
func passing(err error) bool {
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	var lite *sqlite.Error
	switch {
	case errors.As(err, &pg):
		switch pg.Code[:min(2, len(pg.Code))] {
		case "40", "53", "55", "57", "58":
			return true
		}
	case errors.As(err, &my):
		switch my.Number {
		case 1040, 1053, 1205, 1213, 1317:
			return true
		}
	case errors.As(err, &lite):
		switch lite.Code() & 0xff {
		case 5, 6, 10: // SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR
			return true
		}
	}
	return false
}
