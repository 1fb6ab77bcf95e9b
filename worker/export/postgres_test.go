package export_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/xuri/excelize/v2"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/worker/export"
)

const pgTable = `
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE odd (
    id bigint PRIMARY KEY, day date, at timestamptz, local timestamp, clock time, amount numeric(30,10), f4 real, f8 double precision,
    yes boolean, who uuid, doc jsonb, raw bytea, name varchar(100), feels mood, tags text[], cash money);
INSERT INTO odd VALUES
 (1, '2026-11-21', '2026-11-21 14:45:30+01', '2026-11-21 13:45:30.25', '13:45', 12.5, 0.1, 0.1, true,
  'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": [1, 2]}', '\x00ff', '=1+1', 'good', '{a,b}', 5),
 (3, 'infinity', 'infinity', '0001-01-01', '00:00', 12345678901234567.8901234567, 'NaN', 'Infinity', false, NULL, '"x"', 'abc', 'Zoë 北京', 'bad', '{}', -1);
INSERT INTO odd (id) VALUES (2);
INSERT INTO odd (id, amount) VALUES (9223372036854775807, -0.0000000001);
`

func TestPostgres(t *testing.T) {
	t.Parallel()
	for name, dsn := range map[string]func(testing.TB) string{"direct": pgtest.DSN, "pgbouncer": pgtest.Pooled} {
		t.Run(name, func(t *testing.T) { testPostgres(t, dsn(t), name == "pgbouncer") })
	}
}

func testPostgres(t *testing.T, dsn string, pooled bool) {
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), pgTable); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := open(t, t.TempDir(), `
databases: {pg: {driver: postgres, dsn: "`+dsn+`"}}
datasets:
  odd: {database: pg, query: SELECT * FROM odd ORDER BY id}
  typed: {database: pg, query: "SELECT '-1'::money AS m, '-1 hour'::interval AS i, 'NaN'::numeric AS n, '-Infinity'::float8 AS f, '-infinity'::timestamp AS t, '0001-01-01'::date AS d, -12345678901234567890 AS long"}
  params:
    database: pg
    query: |
      SELECT :s AS s, :n AS n, :price AS price, :yes AS yes, :day AS day, :at AS at, ':s' AS text, '7'::int AS seven
      WHERE (:s IS NULL OR :s = 'x') AND (:day IS NULL OR :day >= '2026-01-01') AND (:n IS NULL OR :n > 1)
    params:
      - {name: s, type: string}
      - {name: n, type: integer}
      - {name: price, type: number}
      - {name: yes, type: boolean}
      - {name: day, type: date}
      - {name: at, type: time}
  endless: {database: pg, query: "SELECT generate_series(1, 1000000000) AS i", count: none}
  sleeping: {database: pg, query: SELECT pg_sleep(600), count: none}
  writing: {database: pg, query: "INSERT INTO odd VALUES (7) RETURNING id", count: none}
  wrong: {database: pg, query: SELECT nothing FROM odd}
`)

	t.Run("cells", func(t *testing.T) {
		data, info := run(t, e, `{"dataset":"odd"}`)
		if info != (export.Info{Rows: 4, Sheets: 1}) {
			t.Errorf("info: %+v", info)
		}
		f := openBook(t, data)
		for cell, want := range map[string]string{
			"A2": "1", "B2": "2026-11-21", "C2": "2026-11-21 13:45:30", "D2": "2026-11-21 13:45:30", "E2": "13:45:00", "F2": "12.5",
			"G2": "0.1", "H2": "0.1", "I2": "TRUE", "J2": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "K2": `{"a": [1, 2]}`, "L2": "0x00ff",
			"M2": "=1+1", "N2": "good", "O2": "{a,b}", "P2": "$5.00",
			"B3": "", "F3": "", "I3": "", "P3": "",
			"B4": "infinity", "D4": "0001-01-01 00:00:00", "F4": "12345678901234567.8901234567", "G4": "NaN", "H4": "Infinity", "I4": "FALSE",
			"L4": "abc", "M4": "Zoë 北京", "A5": "9223372036854775807", "F5": "-0.0000000001",
		} {
			if got, err := f.GetCellValue("Odd", cell); err != nil || got != want {
				t.Errorf("%s is %q (%v), want %q", cell, got, err, want)
			}
		}
		for cell, want := range map[string]excelize.CellType{
			"A2": excelize.CellTypeUnset, "B2": excelize.CellTypeUnset, "F2": excelize.CellTypeUnset, "G2": excelize.CellTypeUnset,
			"I2": excelize.CellTypeBool, "J2": excelize.CellTypeInlineString, "F4": excelize.CellTypeInlineString, "A5": excelize.CellTypeInlineString,
		} {
			if got, err := f.GetCellType("Odd", cell); err != nil || got != want {
				t.Errorf("%s is a %v (%v), want %v", cell, got, err, want)
			}
		}
	})

	t.Run("types other than text get no apostrophe in CSV", func(t *testing.T) {
		data, _ := run(t, e, `{"dataset":"typed","format":"csv"}`)
		if _, got, _ := strings.Cut(string(data), "\r\n"); got != `-$1.00,-01:00:00,NaN,-Infinity,-infinity,0001-01-01,-12345678901234567890`+"\r\n" {
			t.Errorf("%s", got)
		}
	})

	t.Run("params", func(t *testing.T) {
		data, _ := run(t, e, `{"dataset":"params","format":"csv"}`)
		if got := strings.Join(readCSV(t, data)[1], "|"); got != "||||||:s|7" {
			t.Errorf("no params: %s", got)
		}
		data, _ = run(t, e, `{"dataset":"params","format":"csv","s":"x","n":5,"price":12345678901234567890.123456789,"yes":false,"day":"2026-02-03","at":"2026-02-03T05:05:06+01:00"}`)
		if got := strings.Join(readCSV(t, data)[1], "|"); got != "x|5|12345678901234567890.123456789|FALSE|2026-02-03|2026-02-03 04:05:06|:s|7" {
			t.Errorf("all params: %s", got)
		}
		data, info := run(t, e, `{"dataset":"params","s":"y"}`)
		if f := openBook(t, data); info.Rows != 0 || info.Sheets != 1 || len(f.GetSheetList()) != 1 {
			t.Errorf("no rows: %+v", info)
		}
	})

	t.Run("a cancelled export ends in the server", func(t *testing.T) {
		watch, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer watch.Close(t.Context())
		for _, dataset := range []string{"endless", "sleeping"} {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := e.Run(ctx, params(t, `{"dataset":"`+dataset+`","format":"csv"}`), &stopWriter{left: 100_000, stop: cancel}, func(_, _ int64, message string) {
				if dataset == "sleeping" && message == "Running the query" {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", dataset, err)
			}
			cancel()
			polltest.Nil(t, dataset+": the query ends", func() error {
				var n int
				if err := watch.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()").Scan(&n); err != nil {
					t.Fatal(err)
				}
				if n != 0 {
					return fmt.Errorf("the server still runs %d", n)
				}
				return nil
			})
		}
	})

	// The database itself ends a query at its timeout, also if hark has crashed, and hark does if the DSN has a longer timeout.
	t.Run("statement timeout", func(t *testing.T) {
		dsns := []string{dsn}
		if !pooled { // a pooler refuses it
			dsns = append(dsns, dsn+"&statement_timeout=500000")
		}
		for _, dsn := range dsns {
			c, err := export.Parse("hark.yaml", []byte(`{databases: {pg: {driver: postgres, dsn: "`+dsn+`"}}, datasets: {sleeping: {database: pg, query: SELECT pg_sleep(600), count: none}}}`))
			if err != nil {
				t.Fatal(err)
			}
			c.StatementTimeout = 200 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // longer than hark's own timeout, and shorter than the DSN's
			defer cancel()
			var got *export.Error
			_, err = openConfig(t, c).Run(ctx, params(t, `{"dataset":"sleeping"}`), io.Discard, nil)
			if !errors.As(err, &got) || got.Code != export.CodeQueryTimeout || got.Retryable || ctx.Err() != nil {
				t.Errorf("with %s: %v", dsn, err)
			}
		}
	})

	t.Run("errors", func(t *testing.T) {
		for _, dataset := range []string{"writing", "wrong"} {
			var got *export.Error
			_, err := e.Run(t.Context(), params(t, `{"dataset":"`+dataset+`"}`), io.Discard, nil)
			if !errors.As(err, &got) || got.Code != export.CodeQueryFailed || got.Retryable {
				t.Errorf("%s: %v", dataset, err)
			}
		}
	})
}

// Through a pooler an export can run several times, with any earlier statements of its session in the server, and it computes in UTC each
// time. A column may change meanwhile.
func TestAnExportRunsAgainBehindAPooler(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Pooled(t)
	conn, err := pgx.Connect(t.Context(), dsn+"&default_query_exec_mode=exec")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	exec := func(statement string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE TABLE t AS SELECT 1 AS n; ALTER DATABASE " + conn.Config().Database + " SET timezone = 'Asia/Tokyo'")
	e := open(t, t.TempDir(), `
databases: {pg: {driver: postgres, dsn: "`+dsn+`"}}
datasets: {t: {database: pg, query: "SELECT *, current_setting('timezone') AS zone FROM t", count: SELECT count(n) FROM t}}
`)
	again := func(want string) {
		t.Helper()
		for range 6 { // there are three sessions
			data, _ := run(t, e, `{"dataset":"t","format":"csv"}`)
			if got := strings.Join(readCSV(t, data)[1], "|"); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	}
	again("1|UTC")
	exec("ALTER TABLE t ALTER COLUMN n TYPE text USING 'one'")
	again("one|UTC")
}
