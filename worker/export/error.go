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
	sqlite3 "modernc.org/sqlite/lib"
)

// The codes of an [Error].
const (
	CodeDatabaseUnavailable = "database_unavailable" // the database cannot be reached, or the connection was lost
	CodeQueryFailed         = "query_failed"         // the database refused or aborted the query
	CodeQueryTimeout        = "query_timeout"        // the query exceeded its timeout
	CodeColumnMissing       = "column_missing"       // the config describes a column that the query does not return
	CodeTooWide             = "export_too_wide"      // more columns than a sheet can have
	CodeTooLarge            = "export_too_large"     // more bytes than a workbook can have
	CodeParamInvalid        = "param_invalid"        // a param is missing, unknown or of the wrong type
	CodeIdentityMissing     = "identity_missing"     // the query needs a claim that the job was enqueued without
	CodeIdentityInvalid     = "identity_invalid"     // the query needs a user or a claim that no database can store
)

// Error is the reason why an export failed, in words for its user: no SQL, no DSN, no address. The error of the database is its
// cause, for the log.
type Error struct {
	Code    string
	Message string // one sentence
	// Retryable says that the same export may succeed later.
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

// Unwrap returns the error of the database.
func (e *Error) Unwrap() error { return e.cause }

// readError converts an error of a driver while it reads a dataset to an [*Error].
func readError(d *Dataset, err error) *Error {
	if !errors.Is(err, errLate) && unreachable(err) {
		return &Error{CodeDatabaseUnavailable, "The connection to the database of " + d.Title + " was lost.", true, err}
	}
	if halfWritten(err) {
		return repairError("The database of "+d.Title, err)
	}
	if timedOut(err) {
		return &Error{CodeQueryTimeout, "The query of " + d.Title + " took longer than it may; ask for less.", false, err}
	}
	return &Error{CodeQueryFailed, "The database could not run the query of " + d.Title + ".", isRetryable(err), err}
}

// timedOut reports whether the database or hark ended the statement because of its timeout.
func timedOut(err error) bool {
	if errors.Is(err, errLate) {
		return true
	}
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	if errors.As(err, &pg) {
		return pg.Code == "57014" // query_canceled
	}
	return errors.As(err, &my) && (my.Number == 3024 || my.Number == 1969) // of MySQL and of MariaDB
}

// halfWritten reports whether a SQLite file needs recovery after its program was killed, for which a program must open it for writing.
func halfWritten(err error) bool {
	var lite *sqlite.Error
	return errors.As(err, &lite) && (lite.Code() == sqlite3.SQLITE_READONLY_ROLLBACK || lite.Code() == sqlite3.SQLITE_READONLY_RECOVERY || lite.Code() == sqlite3.SQLITE_READONLY_CANTINIT)
}

func repairError(what string, err error) *Error {
	return &Error{CodeDatabaseUnavailable, what + " was left in the middle of a write; it can be read when its own program has opened it again.", true, err}
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

// isRetryable reports whether the same query may succeed later: the database was busy, its disk was full, or it chose the query as
// the victim of a deadlock.
func isRetryable(err error) bool {
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
