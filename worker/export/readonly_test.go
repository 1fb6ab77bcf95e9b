package export_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/hark-jobs/hark/internal/mariatest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/worker/export"
)

// A count runs in a read-only transaction, like the query: functions that it calls cannot write.
func TestACountCannotWrite(t *testing.T) {
	t.Parallel()
	const table = "CREATE TABLE kept (id INTEGER)"
	for _, db := range []struct {
		driver, open string
		dsn          func() string
		function     string
		count        string
	}{
		{"sqlite", "sqlite", func() string { return filepath.Join(t.TempDir(), "a.db") }, "", "DELETE FROM kept RETURNING 1"},
		{"postgres", "pgx", func() string { return pgtest.DSN(t) },
			"CREATE FUNCTION wipe() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN DELETE FROM kept; RETURN 1; END $$", "SELECT wipe()"},
		{"mysql", "mysql", func() string { return mariatest.Start(t) },
			"CREATE FUNCTION wipe() RETURNS BIGINT MODIFIES SQL DATA BEGIN DELETE FROM kept; RETURN 1; END", "SELECT wipe()"},
	} {
		t.Run(db.driver, func(t *testing.T) {
			dsn := db.dsn()
			conn, err := sql.Open(db.open, dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for _, statement := range []string{table, "INSERT INTO kept VALUES (1), (2)", db.function} {
				if statement == "" {
					continue
				}
				if _, err := conn.Exec(statement); err != nil {
					t.Fatal(err)
				}
			}
			c, err := export.Parse("hark.yaml", fmt.Appendf(nil, `databases: {a: {driver: %s, dsn: %q, max_open: 1}}
datasets:
  written: {database: a, query: SELECT id FROM kept, count: %s}
  derived: {database: a, query: %[3]s}
  read: {database: a, query: SELECT id FROM kept}
`, db.driver, dsn, db.count))
			if err != nil {
				t.Fatal(err)
			}
			e := openConfig(t, c)
			for _, dataset := range []string{"written", "derived"} {
				var got *export.Error
				if _, err := e.Run(t.Context(), params(t, `{"dataset":"`+dataset+`"}`), io.Discard, nil); !errors.As(err, &got) || got.Code != export.CodeQueryFailed {
					t.Errorf("%s: %v", dataset, err)
				}
			}
			var left int
			if err := conn.QueryRow("SELECT count(*) FROM kept").Scan(&left); err != nil || left != 2 {
				t.Errorf("%d rows are left (%v), want 2", left, err)
			}
			if _, info := run(t, e, `{"dataset":"read","format":"csv"}`); info.Rows != 2 {
				t.Errorf("a dataset that only reads: %+v", info)
			}
		})
	}
}
