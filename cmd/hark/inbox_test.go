package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
)

// hark serve keeps the inbox in the schema of --inbox-schema, below the prefix of --inbox-table-prefix, and nothing elsewhere.
func TestInboxTables(t *testing.T) {
	for name, c := range map[string]struct {
		driver   string
		database string
		flags    []string
		tables   string // selects all tables of the database, as schema.name
		prefix   string // of all of them
		count    string // selects the number of notifications
	}{
		"postgres": {
			"pgx", pgtest.DSN(t), []string{"--inbox-schema", "my app"},
			`SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`,
			"my app.hark_", `SELECT count(*) FROM "my app".hark_notifications`},
		"postgres with a prefix": {
			"pgx", pgtest.DSN(t), []string{"--inbox-schema", "app", "--inbox-table-prefix", "bell_"},
			`SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`,
			"app.bell_", `SELECT count(*) FROM app.bell_notifications`},
		"sqlite": {
			"sqlite", filepath.Join(t.TempDir(), "inbox.db"), []string{"--inbox-table-prefix", "bell_"},
			`SELECT 'main.' || name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'`,
			"main.bell_", `SELECT count(*) FROM bell_notifications`},
	} {
		t.Run(name, func(t *testing.T) {
			freshAccount(t)
			data := t.TempDir()
			url, stop := serveUntil(t, append([]string{"--data", data, "--database", c.database}, c.flags...)...)
			defer stop()
			if code, out, errs := harkCommand(t.Context(), "notify", "--user", "ana", "--title", "Hello", "--url", url, "--data", data); code != 0 {
				t.Fatalf("hark notify: %d\n%s%s", code, out, errs)
			}
			db, err := sql.Open(c.driver, c.database)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			polltest.Nil(t, "the notification in the inbox", func() error {
				n, err := column(t.Context(), db, c.count)
				if err == nil && !slices.Equal(n, []string{"1"}) {
					err = fmt.Errorf("it has %q notifications", n)
				}
				return err
			})
			tables, err := column(t.Context(), db, c.tables)
			if err != nil || len(tables) < 4 {
				t.Errorf("tables %q, %v", tables, err)
			}
			for _, table := range tables {
				if !strings.HasPrefix(table, c.prefix) {
					t.Errorf("table %s does not begin with %s", table, c.prefix)
				}
			}
		})
	}
}

// A name that the database cannot have ends the start, and the error names the flag.
func TestInboxTablesRefused(t *testing.T) {
	freshAccount(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a notifier that starts waits for NATS
	defer cancel()
	postgres := "postgres://nobody@127.0.0.1:1/none"
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--inbox-schema", "app"}, `--inbox-schema "app" is not possible with SQLite`},
		{[]string{"--inbox-table-prefix", "1_"}, `--inbox-table-prefix "1_" is not possible; use 1 to 32`},
		{[]string{"--database", postgres, "--inbox-table-prefix", `a"`}, `--inbox-table-prefix "a\"" is not possible`},
		{[]string{"--database", postgres, "--inbox-schema", strings.Repeat("a", 64)}, `--inbox-schema "aaa`},
	} {
		for _, command := range [][]string{{"serve"}, {"notifier", "--nats", "nats://127.0.0.1:1", "--database", filepath.Join(t.TempDir(), "inbox.db")}} {
			args := slices.Concat(command, []string{"--data", t.TempDir(), "--listen", "127.0.0.1:0"}, c.args)
			if code, out, errs := harkCommand(ctx, args...); code != exitFailed || out != "" || !strings.Contains(errs, c.want) {
				t.Errorf("hark %s: %d, want %q\n%s%s", strings.Join(args, " "), code, c.want, out, errs)
			}
		}
	}
}

var openURL = regexp.MustCompile(`(?m)^  Open +(\S+)$`)

// serveUntil runs hark serve until stop is called. It returns when hark is ready.
func serveUntil(t *testing.T, args ...string) (url string, stop func()) {
	t.Helper()
	gin.SetMode(gin.TestMode) // main does not run
	ctx, cancel := context.WithCancel(t.Context())
	out, errs, ended := new(logtest.Buffer), new(logtest.Buffer), make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0", "--drain", "1s"}, args...), Streams{In: new(bytes.Buffer), Out: out, Err: errs})
	}()
	stop = func() {
		cancel()
		if code := <-ended; code != exitOK {
			t.Errorf("hark serve: %d\n%s", code, errs)
		}
	}
	polltest.Until(t, "hark to be ready", func() bool {
		select {
		case code := <-ended:
			ended <- code
			t.Fatalf("hark serve: %d\n%s", code, errs)
		default:
		}
		found := openURL.FindStringSubmatch(out.String())
		if found != nil {
			url = found[1]
		}
		return found != nil
	})
	return url, stop
}

// column returns the first column of a query.
func column(ctx context.Context, db *sql.DB, query string) (values []string, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var value string
		if err := rows.Scan(&value); err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, rows.Err()
}
