package export

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/hark-jobs/hark/jobs"
)

// dsnExample has an example of a DSN for each driver.
var dsnExample = map[Driver]string{
	SQLite:   "shop.db or file:shop.db",
	Postgres: "postgres://user:password@host:5432/shop?sslmode=require",
	MySQL:    "user:password@tcp(host:3306)/shop",
}

// connectTimeout is the timeout of connecting to a database.
const connectTimeout = 10 * time.Second

// checkDSN returns the DSN for opening the database. Its error may contain the DSN, unless it is a dsnError.
func checkDSN(driver Driver, dsn, base string) (string, error) {
	switch driver {
	case SQLite:
		return sqliteDSN(dsn, base)
	case Postgres:
		_, err := pgx.ParseConfig(dsn)
		return dsn, err
	default:
		return mysqlDSN(dsn)
	}
}

// dsnError is an error in a DSN whose text does not contain the DSN.
type dsnError string

func (e dsnError) Error() string { return string(e) }

// sqliteDSN returns the URI of a path: read-only, and never creating a missing file.
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
	if values.Has("mode") && values.Get("mode") != "ro" {
		return "", dsnError("sets a mode; hark always opens SQLite with mode=ro, leave it out")
	}
	values.Set("mode", "ro")
	values.Add("_pragma", "query_only(1)")
	values.Add("_pragma", "busy_timeout(5000)")
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + values.Encode(), nil
}

// open returns the pool of a database. It does not connect. limit is the timeout of a statement; 0 means none.
func (d *Database) open(limit time.Duration) (*source, error) {
	s := &source{Database: d, limit: limit, slot: make(chan struct{}, 1), ready: d.prepare == nil}
	switch d.Driver {
	case Postgres:
		c, err := pgx.ParseConfig(d.DSN)
		if err != nil {
			return nil, fmt.Errorf("the DSN of the database %s is wrong", d.Name)
		}
		if c.ConnectTimeout == 0 {
			c.ConnectTimeout = connectTimeout
		}
		_, s.limited = c.RuntimeParams["statement_timeout"]
		setUTC(c)
		// Do not prepare statements in the session: through a pooler another client would use the session next, and this one
		// would get another session. An export runs a query once.
		c.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
		s.db = stdlib.OpenDB(*c)
	case MySQL:
		c, err := mysql.ParseDSN(d.DSN)
		if err != nil {
			return nil, fmt.Errorf("the DSN of the database %s is wrong", d.Name)
		}
		connector, err := mysql.NewConnector(c)
		if err != nil {
			return nil, fmt.Errorf("the DSN of the database %s is wrong", d.Name)
		}
		s.limited = c.Params["max_execution_time"] != "" || c.Params["max_statement_time"] != ""
		s.connector = sessionConnector{connector}
		s.db = sql.OpenDB(s.connector)
	default:
		var err error
		if s.db, err = sql.Open(string(d.Driver), d.DSN); err != nil {
			return nil, fmt.Errorf("the DSN of the database %s is wrong", d.Name)
		}
	}
	s.db.SetMaxOpenConns(d.MaxOpen)
	s.db.SetMaxIdleConns(1)
	s.db.SetConnMaxIdleTime(time.Minute)
	return s, nil
}

// setUTC sets the time zone of a PostgreSQL session to UTC, with any settings of the server, the role and the DSN. The session's zone is
// used when a timestamptz is compared with a date, truncated to a day or converted to text.
func setUTC(c *pgx.ConnConfig) {
	for name := range c.RuntimeParams {
		if strings.EqualFold(name, "timezone") {
			delete(c.RuntimeParams, name)
		}
	}
	c.RuntimeParams["timezone"] = "UTC"
}

// bind returns the arguments of a statement. An absent param is NULL.
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

// argument converts a param's value from JSON to the driver's type. Numbers stay decimal if the database can compare decimals.
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
		if driver == SQLite { // the format of its own datetime()
			return t.UTC().Format(secondsFormat(t.Nanosecond())), nil
		}
		return t.UTC(), nil
	}
	return nil, fmt.Errorf("a %T cannot be bound", v)
}
