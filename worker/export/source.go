package export

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/hark-jobs/hark/jobs"
)

// dsnExample shows what a DSN looks like.
var dsnExample = map[Driver]string{
	SQLite:   "shop.db or file:shop.db",
	Postgres: "postgres://user:password@host:5432/shop?sslmode=require",
	MySQL:    "user:password@tcp(host:3306)/shop",
}

// connectTimeout limits how long a database may take to answer at all.
const connectTimeout = 10 * time.Second

// checkDSN returns the DSN as it is opened. Its error may hold the DSN.
func checkDSN(driver Driver, dsn, base string) (string, error) {
	switch driver {
	case SQLite:
		return sqliteDSN(dsn, base)
	case Postgres:
		_, err := pgx.ParseConfig(dsn)
		return dsn, err
	default:
		c, err := mysql.ParseDSN(dsn)
		if err != nil {
			return "", err
		}
		// Dates arrive as dates, and as they are stored.
		c.ParseTime, c.Loc, c.MultiStatements = true, time.UTC, false
		return c.FormatDSN(), nil
	}
}

// sqliteDSN makes a URI of a path: read only as far as queries go, and never a new, empty database where
// the file is missing.
func sqliteDSN(dsn, base string) (string, error) {
	path, query, _ := strings.Cut(dsn, "?")
	if rest, ok := strings.CutPrefix(path, "file:"); ok {
		unescaped, err := url.PathUnescape(rest)
		if err != nil {
			return "", err
		}
		path = strings.TrimPrefix(unescaped, "//")
	}
	if path == "" || path == ":memory:" || strings.ContainsRune(path, 0) {
		return "", errors.New("no path of a file")
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(base, path)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", err
	}
	if !values.Has("mode") {
		values.Set("mode", "rw")
	}
	values.Add("_pragma", "query_only(1)")
	values.Add("_pragma", "busy_timeout(5000)")
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + values.Encode(), nil
}

// open returns the pool of a database. It connects to nothing yet. The timeout is the database's own: SQLite, which is in
// this process, has none and needs none.
func (d *Database) open(timeout time.Duration) (*sql.DB, error) {
	var db *sql.DB
	switch d.Driver {
	case Postgres:
		c, err := pgx.ParseConfig(d.DSN)
		if err != nil {
			return nil, fmt.Errorf("the DSN of the database %s is wrong", d.Name)
		}
		if c.ConnectTimeout == 0 {
			c.ConnectTimeout = connectTimeout
		}
		if _, given := c.RuntimeParams["statement_timeout"]; !given && timeout > 0 {
			c.RuntimeParams["statement_timeout"] = strconv.FormatInt(timeout.Milliseconds(), 10)
		}
		db = stdlib.OpenDB(*c)
	case MySQL:
		c, err := mysql.ParseDSN(d.DSN)
		if err != nil {
			return nil, fmt.Errorf("the DSN of the database %s is wrong", d.Name)
		}
		connector, err := mysql.NewConnector(c)
		if err != nil {
			return nil, fmt.Errorf("the DSN of the database %s is wrong", d.Name)
		}
		db = sql.OpenDB(timedConnector{connector, timeout})
	default:
		var err error
		if db, err = sql.Open(string(d.Driver), d.DSN); err != nil {
			return nil, fmt.Errorf("the DSN of the database %s is wrong", d.Name)
		}
	}
	db.SetMaxOpenConns(d.MaxOpen)
	db.SetMaxIdleConns(1)
	db.SetConnMaxIdleTime(time.Minute)
	return db, nil
}

// timedConnector sets the longest time of a SELECT on each connection. MySQL and MariaDB call that differently, and each
// refuses the other's name.
type timedConnector struct {
	driver.Connector
	timeout time.Duration
}

const errUnknownVariable = 1193 // ER_UNKNOWN_SYSTEM_VARIABLE

func (c timedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil || c.timeout <= 0 {
		return conn, err
	}
	for _, set := range []string{
		fmt.Sprintf("SET SESSION max_execution_time = %d", c.timeout.Milliseconds()), // MySQL
		fmt.Sprintf("SET SESSION max_statement_time = %.3f", c.timeout.Seconds()),    // MariaDB
	} {
		_, err := conn.(driver.ExecerContext).ExecContext(ctx, set, nil)
		var refused *mysql.MySQLError
		if err != nil && !(errors.As(err, &refused) && refused.Number == errUnknownVariable) {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// bind returns the arguments of a statement. A param that was not given is NULL.
func bind(driver Driver, s Statement, params []jobs.Param, values map[string]any, who Identity) ([]any, error) {
	types := make(map[string]jobs.ParamType, len(params))
	for _, p := range params {
		types[p.Name] = p.Type
	}
	args := make([]any, len(s.Args))
	for i, name := range s.Args {
		var v any
		var err error
		if claim, ok := isIdentity(name); ok {
			v, err = who.argument(claim)
		} else {
			v, err = argument(driver, types[name], values[name])
		}
		if err != nil {
			return nil, fmt.Errorf("param %s: %w", name, err)
		}
		if driver == SQLite {
			v = sql.Named(sqliteName(name), v)
		}
		args[i] = v
	}
	return args, nil
}

// argument converts a param's value, as it was decoded from JSON, into what the driver takes. Numbers stay
// decimal where the database can compare decimals.
func argument(driver Driver, typ jobs.ParamType, v any) (any, error) {
	switch v := v.(type) {
	case nil, bool:
		return v, nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			if typ == jobs.TypeNumber && driver != SQLite {
				return v.String(), nil
			}
			return n, nil
		}
		if driver != SQLite {
			return v.String(), nil
		}
		return v.Float64()
	case string:
		if typ != jobs.TypeTime {
			return v, nil
		}
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return nil, err
		}
		if driver == SQLite { // as its own datetime() writes it
			return t.UTC().Format(time.DateTime), nil
		}
		return t.UTC(), nil
	}
	return nil, fmt.Errorf("a %T cannot be bound", v)
}
