package export_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker/export"
)

const zoneConfig = `
databases: {db: {driver: %s, dsn: %q}}
datasets:
  times: {database: db, query: "SELECT day, at, local, note FROM times ORDER BY id"}
  berlin:
    database: db
    query: "SELECT day, at, local, note FROM times ORDER BY id"
    timezone: Europe/Berlin
    columns: {at: {title: At}, local: {title: Local, utc: true}, note: {format: datetime, utc: true}, day: {utc: true}}
`

const zoneRows = `INSERT INTO times VALUES
	(1, '2026-01-31', '2026-01-31 23:30:00', '2026-01-31 23:30:00', '2026-01-31T23:30:00Z'),
	(2, '2026-07-01', '2026-07-01 00:00:00.000001', '2026-07-01 00:00:00.000001', '2026-07-01')`

// Times are shown in the zone of the request, or else of the dataset, and the header has the zone. A time without a zone and a pure date are
// never shifted.
func TestTimeZones(t *testing.T) {
	t.Parallel()
	const table = "CREATE TABLE times (id INTEGER, day DATE, at %s, local %s, note TEXT)"
	for _, test := range []struct {
		name  string
		open  func(t *testing.T) *export.Exporter
		zoned bool // whether the type of at has a time zone
	}{
		{"sqlite", func(t *testing.T) *export.Exporter {
			dsn := filepath.Join(t.TempDir(), "times.db")
			db, err := sql.Open("sqlite", dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for _, s := range []string{fmt.Sprintf(table, "DATETIME", "DATETIME"), zoneRows} {
				if _, err := db.Exec(s); err != nil {
					t.Fatal(err)
				}
			}
			return open(t, t.TempDir(), fmt.Sprintf(zoneConfig, "sqlite", dsn))
		}, false},
		{"postgres", func(t *testing.T) *export.Exporter {
			dsn := pgtest.DSN(t)
			conn, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			for _, s := range []string{"SET timezone TO 'UTC'", fmt.Sprintf(table, "TIMESTAMPTZ(6)", "TIMESTAMP(6)"), zoneRows} {
				if _, err := conn.Exec(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			return open(t, t.TempDir(), fmt.Sprintf(zoneConfig, "postgres", dsn))
		}, true},
		{"mysql", func(t *testing.T) *export.Exporter {
			db, _, dsn := openMaria(t, "")
			conn, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for _, s := range []string{"SET time_zone = '+00:00'", fmt.Sprintf(table, "TIMESTAMP(6)", "DATETIME(6)"), zoneRows} {
				if _, err := conn.ExecContext(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			return open(t, t.TempDir(), fmt.Sprintf(zoneConfig, "mysql", dsn))
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := test.open(t)
			check := func(object string, want ...string) {
				t.Helper()
				data, _ := run(t, e, strings.Replace(object, "{", `{"format":"csv",`, 1))
				for i, row := range readCSV(t, data) {
					if got := strings.Join(row, "|"); got != want[i] {
						t.Errorf("%s: CSV row %d is %s, want %s", object, i, got, want[i])
					}
				}
				data, _ = run(t, e, object)
				f := openBook(t, data)
				rows, err := f.GetRows(f.GetSheetName(0))
				if err != nil {
					t.Fatal(err)
				}
				for i, row := range rows {
					// A cell is shown in seconds.
					if got := strings.Join(row, "|"); got != strings.ReplaceAll(want[i], ".000001", "") {
						t.Errorf("%s: xlsx row %d is %s, want %s", object, i, got, want[i])
					}
				}
			}
			header, winter, summer := "day|at|local|note", "2026-01-31 23:30:00", "2026-07-01 00:00:00.000001"
			if test.zoned {
				header = "day|at (UTC)|local|note"
			}
			check(`{"dataset":"times"}`, header, "2026-01-31|"+winter+"|"+winter+"|2026-01-31T23:30:00Z", "2026-07-01|"+summer+"|"+summer+"|2026-07-01")
			at, winterAt, summerAt := "At", winter, summer
			if test.zoned {
				at, winterAt, summerAt = "At (Europe/Berlin)", "2026-02-01 00:30:00", "2026-07-01 02:00:00.000001"
				header = "day|at (America/New_York)|local|note"
				check(`{"dataset":"times","timezone":"America/New_York"}`, header,
					"2026-01-31|2026-01-31 18:30:00|"+winter+"|2026-01-31T23:30:00Z", "2026-07-01|2026-06-30 20:00:00.000001|"+summer+"|2026-07-01")
			}
			check(`{"dataset":"berlin"}`, "day|"+at+"|Local (Europe/Berlin)|note (Europe/Berlin)",
				"2026-01-31|"+winterAt+"|2026-02-01 00:30:00|2026-02-01 00:30:00", "2026-07-01|"+summerAt+"|2026-07-01 02:00:00.000001|2026-07-01 00:00:00")
		})
	}
}

// A PostgreSQL session computes in UTC, with any settings of its role and the DSN.
func TestPostgresComputesInUTC(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone TO %L', current_database(), 'Asia/Tokyo'); END $$"); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"", "TimeZone=America/New_York"} {
		separator := "?"
		if strings.Contains(dsn, "?") {
			separator = "&"
		}
		if !strings.Contains(dsn, "://") {
			separator = " "
		}
		e := open(t, t.TempDir(), fmt.Sprintf(`
databases: {pg: {driver: postgres, dsn: %q}}
datasets:
  days:
    database: pg
    query: "SELECT at::date AS day, at::text AS text, at >= :day AS since FROM (VALUES ('2026-01-31T23:30:00Z'::timestamptz)) AS t(at)"
    params: [{name: day, type: date}]
`, dsn+separator+more))
		data, _ := run(t, e, `{"dataset":"days","format":"csv","day":"2026-02-01"}`)
		if got := strings.Join(readCSV(t, data)[1], "|"); got != "2026-01-31|2026-01-31 23:30:00+00|FALSE" {
			t.Errorf("with %q: %s", more, got)
		}
	}
}

// Invalid params are refused when the job is enqueued, and the error names the param.
func TestFormatParamsAreChecked(t *testing.T) {
	t.Parallel()
	c, err := export.Parse("hark.yaml", fmt.Appendf(nil, zoneConfig, "sqlite", "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	kind := c.Kind()
	for params, want := range map[string]string{
		`"timezone":"Mars/Olympus"`:                          "params.timezone must be a time zone of the IANA database, like Europe/Berlin or UTC",
		`"timezone":""`:                                      "params.timezone must be a time zone of the IANA database, like Europe/Berlin or UTC",
		`"timezone":"localtime"`:                             "params.timezone must be a time zone of the IANA database, like Europe/Berlin or UTC",
		`"timezone":"posix/Europe/Berlin"`:                   "params.timezone must be a time zone of the IANA database, like Europe/Berlin or UTC",
		`"timezone":"Local"`:                                 "params.timezone must be a time zone of the IANA database, like Europe/Berlin or UTC",
		`"timezone":1`:                                       "params.timezone must be a time zone of the IANA database, like Europe/Berlin or UTC",
		`"format":"csv","csv_separator":"x"`:                 `params.csv_separator must be one of ",", ";", tab, "|"`,
		`"format":"csv","csv_separator":"\""`:                `params.csv_separator must be one of ",", ";", tab, "|"`,
		`"format":"csv","csv_decimal":","`:                   `params.csv_decimal must be one of "."`,
		`"format":"csv","csv_decimal":";"`:                   `params.csv_decimal must be one of "."`,
		`"format":"csv","csv_bom":"yes"`:                     "params.csv_bom must be true or false",
		`"format":"xlsx","csv_separator":";"`:                "params.csv_separator is not a param of export times; it takes dataset, format, timezone",
		`"format":"csv","csv_separator":";","csv_decimal":1`: `params.csv_decimal must be one of ".", ","`,
	} {
		var invalid *jobs.InvalidError
		if _, err := kind.Check(json.RawMessage(`{"dataset":"times",` + params + `}`)); !errors.As(err, &invalid) || invalid.Error() != want {
			t.Errorf("%s: %v\nwant %s", params, err, want)
		}
	}
}

// SQLite compares times as texts, so a param keeps its fraction of a second.
func TestTimeParamsKeepTheirFraction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE x (y)"); err != nil {
		t.Fatal(err)
	}
	e := open(t, dir, `
databases: {db: {driver: sqlite, dsn: x.db}}
datasets: {at: {database: db, query: SELECT :at AS at, params: [{name: at, type: time}]}}
`)
	for at, want := range map[string]string{
		"2026-05-06T09:08:09+02:00": "2026-05-06 07:08:09", "2026-05-06T07:08:09.25Z": "2026-05-06 07:08:09.250", "2026-05-06T07:08:09.000001Z": "2026-05-06 07:08:09.000001",
	} {
		data, _ := run(t, e, `{"dataset":"at","format":"csv","at":"`+at+`"}`)
		if got := readCSV(t, data)[1][0]; got != want {
			t.Errorf("%s is bound as %s, want %s", at, got, want)
		}
	}
}

// Invalid settings of a dataset are an error at the start of hark, with their position.
func TestDatasetFormatsAreChecked(t *testing.T) {
	t.Parallel()
	const head = "databases:\n  shop: {driver: sqlite, dsn: shop.db}\ndatasets:\n  a:\n    database: shop\n    query: SELECT 1\n"
	for text, want := range map[string]string{
		`    csv: {separator: x}`:                      "c.yaml:7:22: datasets.a.csv.separator is \"x\"; expected \",\", \";\", \"|\" or tab",
		`    csv: {separator: "\""}`:                   "datasets.a.csv.separator is \"\\\"\"; expected",
		`    csv: {separator: "\t"}`:                   "datasets.a.csv.separator is empty; expected",
		`    csv: {separator: 7}`:                      "datasets.a.csv.separator is the number 7; expected",
		`    csv: {decimal: ";"}`:                      `datasets.a.csv.decimal is ";"; expected "." or ","`,
		`    csv: {decimal: ","}`:                      `datasets.a.csv.decimal is the separator of fields as well; expected separator: ";" beside it`,
		`    csv: {bom: maybe}`:                        `datasets.a.csv.bom is "maybe"; expected true or false`,
		`    csv: {quote: x}`:                          "datasets.a.csv.quote is not known; expected one of separator, decimal, bom",
		`    timezone: Mars/Olympus`:                   `datasets.a.timezone is "Mars/Olympus"; expected a time zone of the IANA database, like Europe/Berlin or UTC`,
		`    timezone: localtime`:                      `datasets.a.timezone is "localtime"; expected a time zone`,
		`    timezone: right/Europe/Berlin`:            `datasets.a.timezone is "right/Europe/Berlin"; expected a time zone`,
		`    timezone: Local`:                          `datasets.a.timezone is "Local"; expected a time zone`,
		`    columns: {a: {utc: Europe/Berlin}}`:       `datasets.a.columns.a.utc is "Europe/Berlin"; expected true or false`,
		`    params: [{name: csv_bom, type: boolean}]`: `is "csv_bom", which every export has already; expected another name`,
	} {
		_, err := export.Parse("c.yaml", []byte(head+text+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}
