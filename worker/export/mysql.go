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

// mysqlDSN returns the DSN for opening MySQL. Dates arrive as MySQL's texts, since some of its dates are not valid for time.Time
// (2021-00-00). The server binds params, so that all values use the same protocol.
func mysqlDSN(dsn string) (string, error) {
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		return "", err
	}
	c.ParseTime, c.Loc, c.MultiStatements, c.InterpolateParams = false, time.UTC, false, false
	return c.FormatDSN(), nil
}

// sessionConnector sets the time zone of each MySQL session to UTC, with any settings of the server and the DSN.
type sessionConnector struct{ driver.Connector }

func (c sessionConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.(driver.ExecerContext).ExecContext(ctx, "SET SESSION time_zone = '+00:00'", nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Error numbers of MySQL.
const (
	errUnknownVariable = 1193 // ER_UNKNOWN_SYSTEM_VARIABLE
	errNoSuchThread    = 1094 // ER_NO_SUCH_THREAD
)

// setMySQLTime sets the timeout of statements of the session in the server. MySQL and MariaDB have different variables for it, and each
// refuses the other's. A server with neither has no timeout. Without a limit it is what the server has for all.
func setMySQLTime(ctx context.Context, tx *sql.Tx, limit time.Duration) error {
	execution, statement := "DEFAULT", "DEFAULT"
	if limit > 0 {
		ms := max(limit.Milliseconds(), 1) // 0 would mean no limit
		execution, statement = fmt.Sprint(ms), fmt.Sprintf("%d.%03d", ms/1000, ms%1000)
	}
	for _, s := range []string{
		"SET SESSION max_execution_time = " + execution, // MySQL, in milliseconds
		"SET SESSION max_statement_time = " + statement, // MariaDB, in seconds
	} {
		_, err := tx.ExecContext(ctx, s)
		var refused *mysql.MySQLError
		if err != nil && !(errors.As(err, &refused) && refused.Number == errUnknownVariable) {
			return err
		}
	}
	return nil
}

// thread identifies a connection in its server. The id is 0 if it is unknown.
type thread struct {
	id      int64
	server  string // identifies the server: several servers behind one address have the same connection ids
	started int64  // when the server started, in Unix seconds by its own clock: a restart begins the ids again
}

// startedApart is the allowed difference of two readings of a server's start, in seconds. No server restarts that fast.
const startedApart = 2

// whichThread returns the thread of a connection. Through a proxy that does not support this, KILL cannot be used: the id is 0 then.
func whichThread(ctx context.Context, tx *sql.Tx) (t thread, err error) {
	var now, uptime int64
	var name string
	err = tx.QueryRowContext(ctx, "SELECT CONNECTION_ID(), CONCAT_WS(':', @@hostname, @@port, @@server_id, @@datadir), UNIX_TIMESTAMP()").Scan(&t.id, &t.server, &now)
	if err == nil {
		err = tx.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Uptime'").Scan(&name, &uptime)
	}
	var refused *mysql.MySQLError
	switch {
	case errors.As(err, &refused), errors.Is(err, sql.ErrNoRows):
		return thread{}, nil
	case err != nil:
		return thread{}, err
	}
	t.started = now - uptime
	return t, nil
}

// killTimeout is the timeout of a KILL.
const killTimeout = 5 * time.Second

// kill ends a thread, over a new connection, since all connections of the pool may be in use. It returns an error if the address leads
// to another server, or if the server was restarted.
func (s *source) kill(ctx context.Context, t thread) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	db := sql.OpenDB(s.connector)
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil) // a transaction uses one connection
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // nothing was changed
	here, err := whichThread(ctx, tx)
	switch {
	case err != nil:
		return err
	case here.server != t.server, max(here.started-t.started, t.started-here.started) > startedApart:
		return errors.New("the address of the database leads to another server now, or the server was restarted")
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf("KILL %d", t.id))
	var refused *mysql.MySQLError
	if errors.As(err, &refused) && refused.Number == errNoSuchThread {
		return nil // it has ended by itself
	}
	return err
}
