package export_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"github.com/hark-jobs/hark/worker/export"
)

// oddities is a table of all kinds of cells.
const oddities = `
CREATE TABLE odd (id INTEGER PRIMARY KEY, t TEXT, d DATE, dt DATETIME, f REAL, b BOOLEAN, raw BLOB, num TEXT, n INTEGER);
INSERT INTO odd VALUES
 (1, 'plain', '2026-11-21', '2026-11-21 13:45:30', 1.5, 1, x'00ff', '12.50', 42),
 (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (3, '=1+1', '2024-02-29', '2024-02-29 00:00:00', -0.125, 0, x'616263', '-7.25', -42),
 (4, '+49 30 1234', '1899-12-31', '1970-01-01 00:00:00', 1e300, 1, NULL, '123456789012345678.90', 1234567890123456789),
 (5, '-2+3', '9999-12-31', '2000-01-01 23:59:59', 0, 0, NULL, 'n/a', 999999999999999),
 (6, '@SUM(A1)', '1900-03-01', NULL, 1e-9, 1, NULL, '-5', 1000000000000000),
 (7, char(9) || '=cmd', NULL, NULL, 0.1, 1, NULL, '0049', 0),
 (8, 'Zoë Łukasz 北京 🎁', NULL, NULL, 100000, 1, NULL, '0.5', 7),
 (9, 'a & b < c > "d" ''e''', NULL, NULL, 3.14, 1, NULL, '1e5', 7),
 (10, '  outer  ', NULL, NULL, 3, 1, NULL, '', 7),
 (11, 'two' || char(10) || 'lines', NULL, NULL, 3, 1, NULL, '.5', 7),
 (12, 'bell' || char(7) || '!', NULL, NULL, 3, 1, NULL, '+1', 7),
 (13, '_x0041_ stays', NULL, NULL, 3, 1, NULL, '1', 7),
 (14, '', NULL, NULL, 3, 1, NULL, '1', 7);
`

const oddConfig = `
databases: {odd: {driver: sqlite, dsn: odd.db}}
datasets:
  odd:
    database: odd
    query: SELECT id, t, d, dt, f, b, raw, num, n FROM odd WHERE id >= :least ORDER BY id
    params: [{name: least, type: integer, default: 0}]
    columns:
      id: {title: "=Number"}
      num: {format: money}
      dt: {title: When, width: 30}
  long:
    database: odd
    query: SELECT :text || 'x' AS long, :text AS fits
    params: [{name: text, type: string, required: true, max_length: 200000}]
  many:
    database: odd
    sheet: A name of thirty-one letters, x
    query: WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows) SELECT i, 'row ' || i AS t FROM n
    count: SELECT :rows
    params: [{name: rows, type: integer, required: true}]
  wrong:
    database: odd
    query: SELECT * FROM nowhere
  undescribed:
    database: odd
    query: SELECT id FROM odd
    columns: {idd: {title: x}}
  shown:
    database: odd
    query: SELECT 0.5 AS p, '2026-01-02T03:04:05Z' AS w, 7 AS zip, '2026-01-02' AS d, :at AS at, :price AS price, :yes AS yes
    params: [{name: at, type: time}, {name: price, type: number}, {name: yes, type: boolean}]
    columns: {p: {format: percent}, w: {format: datetime}, zip: {format: text}, d: {format: dd/mm/yyyy}}
`

// openOdd returns an exporter of the oddities.
func openOdd(t testing.TB) *export.Exporter {
	t.Helper()
	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, "odd.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(oddities); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, oddConfig)
}

func open(t testing.TB, dir, config string) *export.Exporter {
	t.Helper()
	path := filepath.Join(dir, "hark.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := export.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return openConfig(t, c)
}

func openConfig(t testing.TB, c *export.Config) *export.Exporter {
	t.Helper()
	e, err := export.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// params decodes a job's params.
func params(t testing.TB, object string) export.Params {
	t.Helper()
	var p export.Params
	if err := json.Unmarshal([]byte(object), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func run(t testing.TB, e *export.Exporter, object string) ([]byte, export.Info) {
	t.Helper()
	var out bytes.Buffer
	info, err := e.Run(t.Context(), params(t, object), &out, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), info
}

func openBook(t testing.TB, data []byte) *excelize.File {
	t.Helper()
	f, err := excelize.OpenReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func readCSV(t testing.TB, data []byte) [][]string {
	t.Helper()
	text, bom := strings.CutPrefix(string(data), "\ufeff")
	if !bom || !strings.Contains(text, "\r\n") {
		t.Error("the CSV has no byte order mark, or no CRLF")
	}
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestWorkbookHoldsWhatTheDatabaseHolds(t *testing.T) {
	t.Parallel()
	data, info := run(t, openOdd(t), `{"dataset":"odd"}`)
	if info != (export.Info{Rows: 14, Sheets: 1}) {
		t.Errorf("info: %+v", info)
	}
	f := openBook(t, data)
	if names := f.GetSheetList(); len(names) != 1 || names[0] != "Odd" {
		t.Errorf("sheets: %v", names)
	}
	text, number, flag := excelize.CellTypeInlineString, excelize.CellTypeUnset, excelize.CellTypeBool
	for cell, want := range map[string]struct {
		typ        excelize.CellType
		raw, shown string
	}{
		"A1": {text, "=Number", "=Number"}, "D1": {text, "When", "When"},
		"A2": {number, "1", "1"}, "B2": {text, "plain", "plain"},
		"C2": {number, "46347", "2026-11-21"}, "D2": {number, "46347.57326388889", "2026-11-21 13:45:30"},
		"E2": {number, "1.5", "1.5"}, "F2": {flag, "1", "TRUE"}, "G2": {text, "0x00ff", "0x00ff"},
		"H2": {number, "12.5", "12.50"}, "I2": {number, "42", "42"},
		"B3": {number, "", ""}, "C3": {number, "", ""}, "F3": {number, "", ""}, "H3": {number, "", ""},
		"B4": {text, "=1+1", "=1+1"}, "C4": {number, "45351", "2024-02-29"}, "D4": {number, "45351", "2024-02-29 00:00:00"},
		"E4": {number, "-0.125", "-0.125"}, "F4": {flag, "0", "FALSE"}, "G4": {text, "abc", "abc"}, "H4": {number, "-7.25", "-7.25"},
		"B5": {text, "+49 30 1234", "+49 30 1234"}, "C5": {text, "1899-12-31", "1899-12-31"}, "D5": {number, "25569", "1970-01-01 00:00:00"},
		"E5": {number, "1" + strings.Repeat("0", 300), "1E+300"}, "H5": {text, "123456789012345678.90", "123456789012345678.90"}, "I5": {text, "1234567890123456789", "1234567890123456789"},
		"B6": {text, "-2+3", "-2+3"}, "C6": {number, "2958465", "9999-12-31"}, "H6": {text, "n/a", "n/a"}, "I6": {number, "999999999999999", "999999999999999"},
		"B7": {text, "@SUM(A1)", "@SUM(A1)"}, "C7": {number, "61", "1900-03-01"}, "E7": {number, "0.000000001", "0.000000001"},
		"H7": {number, "-5", "-5.00"}, "I7": {text, "1000000000000000", "1000000000000000"},
		"B8": {text, "\t=cmd", "\t=cmd"}, "H8": {text, "0049", "0049"},
		"B9": {text, "Zoë Łukasz 北京 🎁", "Zoë Łukasz 北京 🎁"}, "E9": {number, "100000", "100000"}, "H9": {number, "0.5", "0.50"},
		"B10": {text, `a & b < c > "d" 'e'`, `a & b < c > "d" 'e'`}, "H10": {text, "1e5", "1e5"},
		"B11": {text, "  outer  ", "  outer  "}, "H11": {number, "", ""},
		"B12": {text, "two\nlines", "two\nlines"}, "H12": {text, ".5", ".5"},
		"B13": {text, "bell\uFFFD!", "bell\uFFFD!"}, "H13": {text, "+1", "+1"},
		"B14": {text, "_x0041_ stays", "_x0041_ stays"},
		"B15": {number, "", ""},
	} {
		typ, err := f.GetCellType("Odd", cell)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := f.GetCellValue("Odd", cell, excelize.Options{RawCellValue: true})
		if err != nil {
			t.Fatal(err)
		}
		shown, err := f.GetCellValue("Odd", cell)
		if err != nil {
			t.Fatal(err)
		}
		if typ != want.typ || raw != want.raw || shown != want.shown {
			t.Errorf("%s is %v %q shown as %q, want %v %q shown as %q", cell, typ, raw, shown, want.typ, want.raw, want.shown)
		}
		if formula, err := f.GetCellFormula("Odd", cell); err != nil || formula != "" {
			t.Errorf("%s has the formula %q, %v", cell, formula, err)
		}
	}
}

func TestWorkbookLooks(t *testing.T) {
	t.Parallel()
	data, _ := run(t, openOdd(t), `{"dataset":"odd"}`)
	f := openBook(t, data)
	panes, err := f.GetPanes("Odd")
	if err != nil || !panes.Freeze || panes.YSplit != 1 || panes.TopLeftCell != "A2" {
		t.Errorf("panes: %+v, %v", panes, err)
	}
	id, err := f.GetCellStyle("Odd", "C1")
	if err != nil {
		t.Fatal(err)
	}
	if style, err := f.GetStyle(id); err != nil || style.Font == nil || !style.Font.Bold {
		t.Errorf("the header's style: %+v, %v", style, err)
	}
	for col, want := range map[string]float64{"D": 30, "B": 21, "I": 21} {
		if width, err := f.GetColWidth("Odd", col); err != nil || width != want {
			t.Errorf("column %s is %v wide (%v), want %v", col, width, err, want)
		}
	}
	if p, err := f.GetDocProps(); err != nil || p.Title != "Odd" || p.Creator != "hark" {
		t.Errorf("properties: %+v, %v", p, err)
	}
}

func TestCSVHoldsWhatTheDatabaseHolds(t *testing.T) {
	t.Parallel()
	data, info := run(t, openOdd(t), `{"dataset":"odd","format":"csv"}`)
	if info != (export.Info{Rows: 14}) {
		t.Errorf("info: %+v", info)
	}
	want := [][]string{
		{"'=Number", "t", "d", "When", "f", "b", "raw", "num", "n"},
		{"1", "plain", "2026-11-21", "2026-11-21 13:45:30", "1.5", "TRUE", "0x00ff", "12.50", "42"},
		{"2", "", "", "", "", "", "", "", ""},
		{"3", "'=1+1", "2024-02-29", "2024-02-29 00:00:00", "-0.125", "FALSE", "abc", "-7.25", "-42"},
		{"4", "'+49 30 1234", "1899-12-31", "1970-01-01 00:00:00", "1E+300", "TRUE", "", "123456789012345678.90", "1234567890123456789"},
		{"5", "'-2+3", "9999-12-31", "2000-01-01 23:59:59", "0", "FALSE", "", "n/a", "999999999999999"},
		{"6", "'@SUM(A1)", "1900-03-01", "", "1E-09", "TRUE", "", "-5", "1000000000000000"},
		{"7", "\t'=cmd", "", "", "0.1", "TRUE", "", "0049", "0"},
		{"8", "Zoë Łukasz 北京 🎁", "", "", "100000", "TRUE", "", "0.5", "7"},
		{"9", `a & b < c > "d" 'e'`, "", "", "3.14", "TRUE", "", "1e5", "7"},
		{"10", "  outer  ", "", "", "3", "TRUE", "", "", "7"},
		{"11", "two\nlines", "", "", "3", "TRUE", "", ".5", "7"},
		{"12", "bell\a!", "", "", "3", "TRUE", "", "'+1", "7"},
		{"13", "_x0041_ stays", "", "", "3", "TRUE", "", "1", "7"},
		{"14", "", "", "", "3", "TRUE", "", "1", "7"},
	}
	got := readCSV(t, data)
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range want {
		if fmt.Sprintf("%q", got[i]) != fmt.Sprintf("%q", want[i]) {
			t.Errorf("row %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func TestFormatsAndTypedParams(t *testing.T) {
	t.Parallel()
	e := openOdd(t)
	data, _ := run(t, e, `{"dataset":"shown","at":"2026-05-06T09:08:09+02:00","price":19.90,"yes":true}`)
	f := openBook(t, data)
	for cell, want := range map[string]string{
		"A2": "50.00%", "B2": "2026-01-02 03:04:05", "C2": "7", "D2": "02/01/2026", "E2": "2026-05-06 07:08:09", "F2": "19.9", "G2": "1",
	} {
		if got, err := f.GetCellValue("Shown", cell); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", cell, got, err, want)
		}
	}
	if typ, _ := f.GetCellType("Shown", "C2"); typ != excelize.CellTypeInlineString {
		t.Errorf("a number with the format text is a %v", typ)
	}
	data, info := run(t, e, `{"dataset":"odd","least":1000}`)
	if rows, err := openBook(t, data).GetRows("Odd"); err != nil || len(rows) != 1 || info != (export.Info{Sheets: 1}) {
		t.Errorf("an export without rows: %v, %v, %+v", rows, err, info)
	}
	data, _ = run(t, e, `{"dataset":"shown","format":"csv"}`)
	if got := readCSV(t, data); fmt.Sprint(got[1][4:]) != "[  ]" {
		t.Errorf("params that were not given are %q, want NULLs", got[1][4:])
	}
}

func TestALongTextIsCutAndCounted(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 32_765) + "🎁" // 32,767 UTF-16 units
	object, err := json.Marshal(map[string]string{"dataset": "long", "text": long})
	if err != nil {
		t.Fatal(err)
	}
	data, info := run(t, openOdd(t), string(object))
	if info.Truncated != 1 || !strings.Contains(info.Summary(), "1 text cut") {
		t.Errorf("info: %+v %s", info, info.Summary())
	}
	f := openBook(t, data)
	if got, _ := f.GetCellValue("Long", "B2"); got != long {
		t.Errorf("a text that fits was changed: %d bytes of %d", len(got), len(long))
	}
	if got, _ := f.GetCellValue("Long", "A2"); got != strings.Repeat("ü", 32_767-14)+" … [truncated]" {
		t.Errorf("a text too long ends with %q", got[max(0, len(got)-40):])
	}
}

func TestSheetsAreSplit(t *testing.T) {
	t.Parallel()
	e := openOdd(t)
	export.SetSheetRows(e, 300)
	for _, test := range []struct{ rows, sheets int }{{1, 1}, {299, 1}, {300, 2}, {598, 2}, {599, 3}} {
		rows := test.rows
		data, info := run(t, e, fmt.Sprintf(`{"dataset":"many","rows":%d}`, test.rows))
		if info != (export.Info{Rows: int64(rows), Sheets: test.sheets}) {
			t.Errorf("%d rows: %+v", test.rows, info)
		}
		f := openBook(t, data)
		n := 0
		names := []string{"A name of thirty-one letters, x", "A name of thirty-one letter (2)", "A name of thirty-one letter (3)"}[:test.sheets]
		if got := f.GetSheetList(); fmt.Sprint(got) != fmt.Sprint(names) {
			t.Fatalf("sheets: %q", got)
		}
		for _, name := range names {
			got, err := f.GetRows(name)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got[0]) != "[i t]" || len(got) > 300 {
				t.Errorf("%s has %d rows and the header %v", name, len(got), got[0])
			}
			if panes, err := f.GetPanes(name); err != nil || !panes.Freeze {
				t.Errorf("%s: panes %+v, %v", name, panes, err)
			}
			for _, row := range got[1:] {
				n++
				if want := fmt.Sprintf("[%d row %d]", n, n); fmt.Sprint(row) != want {
					t.Fatalf("%s: %v, want %s", name, row, want)
				}
			}
		}
		if n != rows {
			t.Errorf("%d rows on the sheets, want %d", n, rows)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	var messages []string
	var lastDone, lastTotal int64
	_, err := openOdd(t).Run(t.Context(), params(t, `{"dataset":"many","rows":2000}`), io.Discard, func(done, total int64, message string) {
		if len(messages) == 0 || messages[len(messages)-1] != message {
			messages = append(messages, message)
		}
		lastDone, lastTotal = done, total
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.ReplaceAll(strings.Join(messages, ", "), "Writing rows, ", ""); got != "Counting rows, Running the query, Compressing" {
		t.Errorf("got %s", got)
	}
	if lastDone != 2000 || lastTotal != 2000 {
		t.Errorf("ends with %d of %d", lastDone, lastTotal)
	}
}

// stopWriter runs stop after a number of bytes.
type stopWriter struct {
	left int
	stop func()
	err  error
}

func (w *stopWriter) Write(p []byte) (int, error) {
	w.left -= len(p)
	if w.left < 0 && w.stop != nil {
		w.stop()
		w.stop = nil
		return 0, w.err
	}
	return len(p), nil
}

func TestCancelInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	e := openOdd(t)
	lost := errors.New("the lease was lost")
	for _, test := range []struct {
		format  string
		rows    int
		writing bool // cancel at the first byte, not while rows are read
	}{
		{"xlsx", 100_000_000, false}, {"csv", 100_000_000, false}, {"xlsx", 3_000, true}, {"csv", 100_000_000, true},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var at time.Time
		stop := func() { at = time.Now(); cancel(lost) }
		w := &stopWriter{}
		if test.writing {
			w.stop = stop
		}
		_, err := e.Run(ctx, params(t, fmt.Sprintf(`{"dataset":"many","rows":%d,"format":%q}`, test.rows, test.format)), w, func(_, _ int64, message string) {
			if !test.writing && message == "Writing rows" {
				stop()
			}
		})
		if !errors.Is(err, lost) {
			t.Errorf("%+v: a cancelled export: %v", test, err)
		}
		if took := time.Since(at); took > 30*time.Second {
			t.Errorf("%+v: it took %v to stop", test, took)
		}
	}
	emptyFolder(t, dir)
}

// emptyFolder checks that no temporary files are left.
func emptyFolder(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the folder for temporary files: %v, %v", left, err)
	}
}

func TestAWriterThatFails(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	e := openOdd(t)
	full := errors.New("disk full")
	for _, format := range []string{"xlsx", "csv"} {
		for _, rows := range []int{1, 3_000} {
			w := &stopWriter{stop: func() {}, err: full}
			_, err := e.Run(t.Context(), params(t, fmt.Sprintf(`{"dataset":"many","rows":%d,"format":%q}`, rows, format)), w, nil)
			var known *export.Error
			if !errors.Is(err, full) || errors.As(err, &known) {
				t.Errorf("%s, %d rows: %v", format, rows, err)
			}
		}
	}
	emptyFolder(t, dir)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	odd := openOdd(t)
	dead := open(t, t.TempDir(), `
databases:
  missing: {driver: sqlite, dsn: missing.db}
  pg: {driver: postgres, dsn: "postgres://hark:topsecret@127.0.0.1:1/shop?connect_timeout=2"}
  my: {driver: mysql, dsn: "hark:topsecret@tcp(127.0.0.1:1)/shop"}
datasets:
  missing: {database: missing, query: SELECT 1}
  pg: {database: pg, query: SELECT 1}
  my: {database: my, query: SELECT 1}
`)
	for _, test := range []struct {
		e         *export.Exporter
		params    string
		code      string
		message   string
		retryable bool
	}{
		{odd, `{"dataset":"wrong"}`, export.CodeQueryFailed, "The database could not run the query of Wrong.", false},
		{odd, `{"dataset":"undescribed"}`, export.CodeColumnMissing, `The config describes a column "idd", which the query of Undescribed does not return.`, false},
		{odd, `{"dataset":"nothing"}`, export.CodeParamInvalid, "params.dataset must be one of odd, long, many, wrong, undescribed, shown.", false},
		{odd, `{"dataset":"odd","least":"x"}`, export.CodeParamInvalid, "params.least must be an integer.", false},
		{odd, `{"dataset":"odd","format":"pdf"}`, export.CodeParamInvalid, "params.format must be one of xlsx, csv.", false},
		{odd, `{}`, export.CodeParamInvalid, "params.dataset must be one of odd, long, many, wrong, undescribed, shown.", false},
		{dead, `{"dataset":"missing"}`, export.CodeDatabaseUnavailable, "The database missing cannot be reached.", true},
		{dead, `{"dataset":"pg"}`, export.CodeDatabaseUnavailable, "The database pg cannot be reached.", true},
		{dead, `{"dataset":"my"}`, export.CodeDatabaseUnavailable, "The database my cannot be reached.", true},
	} {
		_, err := test.e.Run(t.Context(), params(t, test.params), io.Discard, nil)
		var got *export.Error
		if !errors.As(err, &got) || got.Code != test.code || got.Message != test.message || got.Retryable != test.retryable {
			t.Errorf("%s: %v %+v, want %s %s", test.params, err, got, test.code, test.message)
			continue
		}
		if strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: the error tells the password: %v", test.params, err)
		}
	}
}

func TestADatasetCannotWrite(t *testing.T) {
	t.Parallel()
	e := openEmpty(t, `
databases: {a: {driver: sqlite, dsn: a.db}}
datasets:
  writes: {database: a, query: CREATE TABLE x (y), count: none}
`)
	var got *export.Error
	if _, err := e.Run(t.Context(), params(t, `{"dataset":"writes"}`), io.Discard, nil); !errors.As(err, &got) || got.Code != export.CodeQueryFailed {
		t.Errorf("a dataset that writes: %v", err)
	}
}

func TestFileName(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	if name, typ := export.FileName(export.Params{Dataset: "orders"}, day); name != "orders-2026-11-21.xlsx" || !strings.HasSuffix(typ, "spreadsheetml.sheet") {
		t.Errorf("%s %s", name, typ)
	}
	if name, typ := export.FileName(export.Params{Dataset: "orders", Format: export.CSV}, day); name != "orders-2026-11-21.csv" || typ != "text/csv; charset=utf-8" {
		t.Errorf("%s %s", name, typ)
	}
}
