package export_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/mariatest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/worker/export"
)

// The server has another time zone, and modes that allow the special dates of MySQL.
var myTable = []string{
	`SET GLOBAL time_zone = '+05:00'`,
	`SET time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES'`,
	`CREATE TABLE odd (
		id BIGINT PRIMARY KEY, day DATE, at TIMESTAMP(6) NULL, local DATETIME(6), clock TIME(3), yr YEAR, amount DECIMAL(40,10),
		f FLOAT, d DOUBLE, tiny TINYINT, big BIGINT UNSIGNED, bits BIT(8), wide BIT(64), yes BOOLEAN, name VARCHAR(100), note TEXT,
		mood ENUM('good','bad'), tags SET('a','b'), doc JSON, fixed BINARY(4), raw VARBINARY(20), image BLOB)`,
	`INSERT INTO odd VALUES
		(1, '2026-11-21', '2026-11-21 15:00:00.25', '2026-11-21 13:45:30.000001', '13:45:00', 2026, 12.5,
		 16777215, 0.1, -7, 18446744073709551615, 65, 18446744073709551615, TRUE, '=1+1', 'Zoë 北京',
		 'good', 'a,b', '{"a": [1, 2]}', 'abc', x'00ff', 'abc'),
		(2, '0000-00-00', '0000-00-00 00:00:00', '2021-00-00 10:00:00', '-838:59:59', 1901, 12345678901234567.8901234567,
		 0.1, -1e300, 0, 9223372036854775807, 0, 1, FALSE, '', NULL, 'bad', '', '"x"', 'abcd', '', ''),
		(3, '2021-00-00', NULL, '2021-02-31 00:00:00', '838:59:59', 0, -0.0000000001,
		 NULL, NULL, NULL, 1234567890123456, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`,
	`INSERT INTO odd (id) VALUES (4)`,
}

const myConfig = `
databases:
  my: {driver: mysql, dsn: %q}
  one: {driver: mysql, dsn: %[1]q, max_open: 1}
datasets:
  odd: {database: my, query: SELECT * FROM odd ORDER BY id}
  one: {database: my, query: "SELECT id, f, bits, day FROM odd WHERE id >= :id ORDER BY id", params: [{name: id, type: integer, default: 1}]}
  since: {database: my, query: "SELECT id FROM odd WHERE at >= :at AND at < :before", params: [{name: at, type: time}, {name: before, type: time}]}
  params:
    database: my
    query: |
      SELECT :s AS s, :n AS n, :price AS price, :yes AS yes, :day AS day, :at AS at, ':s' AS text
      FROM DUAL WHERE (:s IS NULL OR :s = 'x') AND (:day IS NULL OR :day >= '2026-01-01') AND (:n IS NULL OR :n > 1)
    params:
      - {name: s, type: string}
      - {name: n, type: integer}
      - {name: price, type: number}
      - {name: yes, type: boolean}
      - {name: day, type: date}
      - {name: at, type: time}
  endless: {database: one, query: "SELECT a.seq AS n FROM seq_1_to_1000000 a, seq_1_to_1000000 b", count: none}
  sleeping: {database: one, query: "SELECT sleep(600) FROM seq_1_to_9", count: none}
  quick: {database: one, query: SELECT 1}
  napping: {database: one, query: SELECT sleep(2)}
  slow_count: {database: one, query: "SELECT 1", count: "SELECT sleep(600) FROM seq_1_to_9"}
  writing: {database: my, query: "INSERT INTO odd (id) VALUES (7) RETURNING id", count: none}
  wrong: {database: my, query: SELECT nothing FROM odd}
`

// openMaria starts a server with the table, and returns it, an exporter, and the DSN.
func openMaria(t *testing.T, dsnParams string) (*sql.DB, *export.Exporter, string) {
	t.Helper()
	dsn := mariatest.Start(t)
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, statement := range myTable {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return db, open(t, t.TempDir(), fmt.Sprintf(myConfig, dsn+dsnParams)), dsn
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	db, e, dsn := openMaria(t, "?time_zone=%27-03%3A00%27&loc=Asia%2FTokyo&parseTime=true&interpolateParams=true")

	t.Run("cells", func(t *testing.T) {
		data, info := run(t, e, `{"dataset":"odd"}`)
		if info != (export.Info{Rows: 4, Sheets: 1}) {
			t.Errorf("info: %+v", info)
		}
		f := openBook(t, data)
		for cell, want := range map[string]string{
			"B2": "2026-11-21", "C2": "2026-11-21 15:00:00", "D2": "2026-11-21 13:45:30", "E2": "13:45:00.000", "F2": "2026", "G2": "12.5",
			"H2": "16777215", "I2": "0.1", "J2": "-7", "K2": "18446744073709551615", "L2": "65", "M2": "18446744073709551615", "N2": "1",
			"O2": "=1+1", "P2": "Zoë 北京", "Q2": "good", "R2": "a,b", "S2": `{"a": [1, 2]}`, "T2": "0x61626300", "U2": "0x00ff", "V2": "abc",
			"E3": "-838:59:59.000", "G3": "12345678901234567.8901234567", "H3": "0.1", "I3": "-1" + "E+300", "K3": "9223372036854775807", "L3": "0",
			"E4": "838:59:59.000", "G4": "-0.0000000001", "B5": "", "L5": "", "N5": "",
		} {
			if got, err := f.GetCellValue("Odd", cell); err != nil || got != want {
				t.Errorf("%s is %q (%v), want %q", cell, got, err, want)
			}
		}
	})

	t.Run("a negative TIME in CSV gets no apostrophe", func(t *testing.T) {
		data, _ := run(t, e, `{"dataset":"odd","format":"csv"}`)
		if !strings.Contains(string(data), ",-838:59:59.000,") {
			t.Errorf("%s", data)
		}
	})
	t.Run("TIMESTAMP is in UTC with any zone of the server", func(t *testing.T) {
		data, _ := run(t, e, `{"dataset":"odd","format":"csv"}`)
		if got := readCSV(t, data)[1][2]; got != "2026-11-21 15:00:00.250" {
			t.Errorf("a TIMESTAMP of 15:00Z is %s", got)
		}
	})
	t.Run("time params select rows in UTC", func(t *testing.T) {
		for object, want := range map[string]int64{
			`{"dataset":"since","at":"2026-11-21T15:00:00.25Z","before":"2026-11-21T16:00:00.3+01:00"}`: 1,
			`{"dataset":"since","at":"2026-11-21T15:00:00.3Z","before":"2026-11-22T00:00:00Z"}`:         0,
			`{"dataset":"since","at":"2026-11-21T00:00:00Z","before":"2026-11-21T15:00:00Z"}`:           0,
		} {
			if _, info := run(t, e, object); info.Rows != want {
				t.Errorf("%s: %d rows, want %d", object, info.Rows, want)
			}
		}
	})
	t.Run("zero and partial dates are the text of the database", func(t *testing.T) {
		csv, _ := run(t, e, `{"dataset":"odd","format":"csv"}`)
		rows := readCSV(t, csv)
		xlsx, _ := run(t, e, `{"dataset":"odd"}`)
		workbook, err := openBook(t, xlsx).GetRows("Odd")
		if err != nil {
			t.Fatal(err)
		}
		for place, want := range map[[2]int]string{
			{2, 1}: "0000-00-00", {2, 2}: "0000-00-00 00:00:00.000000", {2, 3}: "2021-00-00 10:00:00.000000",
			{3, 1}: "2021-00-00", {3, 3}: "2021-02-31 00:00:00.000000",
		} {
			if got := rows[place[0]][place[1]]; got != want {
				t.Errorf("CSV: %s is %q, want %q", rows[0][place[1]], got, want)
			}
			if got := workbook[place[0]][place[1]]; got != want {
				t.Errorf("xlsx: %s is %q, want %q", workbook[0][place[1]], got, want)
			}
		}
	})
	// With a param the driver uses another protocol. The export is the same.
	t.Run("queries with and without params give the same", func(t *testing.T) {
		all, _ := run(t, e, `{"dataset":"odd","format":"csv"}`)
		some, _ := run(t, e, `{"dataset":"one","format":"csv"}`)
		for i, row := range readCSV(t, some)[1:] {
			whole := readCSV(t, all)[i+1]
			if want := []string{whole[0], whole[7], whole[11], whole[1]}; fmt.Sprint(row) != fmt.Sprint(want) {
				t.Errorf("row %d is %q with a param and %q without", i, row, want)
			}
		}
	})

	t.Run("params", func(t *testing.T) {
		data, _ := run(t, e, `{"dataset":"params","format":"csv"}`)
		if got := strings.Join(readCSV(t, data)[1], "|"); got != "||||||:s" {
			t.Errorf("no params: %s", got)
		}
		data, _ = run(t, e, `{"dataset":"params","format":"csv","s":"x","n":5,"price":12345678901234567890.123456789,"yes":false,"day":"2026-02-03","at":"2026-02-03T05:05:06+01:00"}`)
		if got := strings.Join(readCSV(t, data)[1], "|"); got != "x|5|12345678901234567890.123456789000000000000000000000|0|2026-02-03|2026-02-03 04:05:06|:s" {
			t.Errorf("all params: %s", got)
		}
		data, _ = run(t, e, `{"dataset":"params","format":"csv","at":"2026-02-03T01:00:00+01:00"}`)
		if got := readCSV(t, data)[1][5]; got != "2026-02-03 00:00:00" {
			t.Errorf("a time at midnight is %q", got)
		}
	})

	t.Run("a cancelled export ends in the server", func(t *testing.T) {
		for _, dataset := range []string{"endless", "sleeping", "slow_count"} {
			ctx, cancel := context.WithCancel(t.Context())
			wanted, ended := params(t, `{"dataset":"`+dataset+`","format":"csv"}`), make(chan error, 1)
			go func() {
				_, err := e.Run(ctx, wanted, &stopWriter{left: 100_000, stop: cancel}, nil)
				ended <- err
			}()
			if dataset != "endless" {
				waitRuns(t, db)
				cancel()
			}
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", dataset, err)
			}
			cancel()
			nothingRuns(t, db, dataset)
		}
	})
	t.Run("a writer that fails ends the query in the server", func(t *testing.T) {
		full := errors.New("disk full")
		if _, err := e.Run(t.Context(), params(t, `{"dataset":"endless","format":"csv"}`), &stopWriter{stop: func() {}, err: full}, nil); !errors.Is(err, full) {
			t.Errorf("%v", err)
		}
		nothingRuns(t, db, "")
	})
	t.Run("an export past its time limit ends in the server", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var got *export.Error
		if _, err := e.Run(ctx, params(t, `{"dataset":"sleeping"}`), io.Discard, nil); !errors.As(err, &got) || got.Code != export.CodeQueryTimeout || got.Retryable {
			t.Errorf("%v", err)
		}
		nothingRuns(t, db, "")
	})

	t.Run("the time limit of one export is not that of the next", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1250*time.Millisecond)
		defer cancel()
		// On a machine that stands still this may fail. Then the connection is closed, and the next export has a new one.
		_, _ = e.Run(ctx, params(t, `{"dataset":"quick"}`), io.Discard, nil)
		if _, err := e.Run(t.Context(), params(t, `{"dataset":"napping"}`), io.Discard, nil); err != nil {
			t.Errorf("an export without a time limit ended with that of the one before: %v", err)
		}
	})

	// The server itself ends a query at its timeout, and hark does if the DSN has a longer one.
	t.Run("statement timeout", func(t *testing.T) {
		for _, more := range []string{"", "?max_statement_time=500"} {
			c, err := export.Parse("hark.yaml", fmt.Appendf(nil, myConfig, dsn+more))
			if err != nil {
				t.Fatal(err)
			}
			c.StatementTimeout = 200 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // longer than hark's own timeout, and shorter than the DSN's
			defer cancel()
			var got *export.Error
			_, err = openConfig(t, c).Run(ctx, params(t, `{"dataset":"sleeping"}`), io.Discard, nil)
			if !errors.As(err, &got) || got.Code != export.CodeQueryTimeout || got.Retryable || ctx.Err() != nil {
				t.Errorf("with %q: %v", more, err)
			}
			nothingRuns(t, db, more)
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
		var n int
		if err := db.QueryRow("SELECT count(*) FROM odd WHERE id = 7").Scan(&n); err != nil || n != 0 {
			t.Errorf("a dataset has written %d rows, %v", n, err)
		}
	})
}

// running returns the statements that the server runs for other connections.
func running(t *testing.T, db *sql.DB) (statements []string) {
	t.Helper()
	rows, err := db.Query("SELECT info FROM information_schema.processlist WHERE info IS NOT NULL AND id <> CONNECTION_ID() AND command <> 'Daemon'")
	if err != nil {
		t.Error(err)
		return nil
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Error(err)
		}
		statements = append(statements, s)
	}
	if err := rows.Err(); err != nil {
		t.Error(err)
	}
	return statements
}

// nothingRuns waits until the server runs no statement of the exporter any more.
func nothingRuns(t *testing.T, db *sql.DB, what string) {
	t.Helper()
	polltest.Nil(t, what+": the query ends", func() error {
		if left := running(t, db); len(left) > 0 {
			return fmt.Errorf("the server still runs %q", left)
		}
		return nil
	})
}

// waitRuns waits until the server runs a statement of the exporter.
func waitRuns(t *testing.T, db *sql.DB) {
	t.Helper()
	polltest.Until(t, "the query runs", func() bool {
		return slices.ContainsFunc(running(t, db), func(s string) bool { return strings.Contains(s, "sleep") })
	})
}
