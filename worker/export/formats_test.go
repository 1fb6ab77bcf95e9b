package export_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"

	"github.com/hark-jobs/hark/worker/export"
)

// formatConfig is a config of one column with a number format.
func formatConfig(value, format string) string {
	return fmt.Sprintf("databases: {a: {driver: sqlite, dsn: a.db}}\ndatasets: {f: {database: a, query: %q, columns: {v: {format: %q}}}}\n", "SELECT "+value+" AS v", format)
}

func TestEveryFormatOfDatesMakesDates(t *testing.T) {
	t.Parallel()
	formats := []struct{ format, shown string }{
		{"date", "2026-09-30"}, {"datetime", "2026-09-30 13:45:30"},
		{"yyyy-mm-dd;@", "2026-09-30"}, {"dd/mm/yy;@", "30/09/26"}, {"[$-409]d-mmm-yy;@", "30-Sep-26"}, {`yyyy\-mm\-dd;@`, "2026-09-30"},
		{"hh:mm:ss.000", "13:45:30.250"}, {"hh:mm:ss.00", "13:45:30.25"}, {"mm:ss.0;@", "45:30.3"}, {"yyyy-mm-dd hh:mm:ss.000;@", "2026-09-30 13:45:30.250"},
		{"h:mm AM/PM", "1:45 PM"}, {"[h]:mm", "1111093:45"}, {"[mm]:ss.00", "66665625:30.25"},
		{`"on" dddd, d. mmmm yyyy`, "on Wednesday, 30. September 2026"}, {"yyyy;;;@", "2026"}, {"[Red]yyyy", "2026"}, {`yyyy"年"m"月"`, "2026年9月"},
	}
	var query, columns strings.Builder
	for i, f := range formats {
		fmt.Fprintf(&query, ", '2026-09-30 13:45:30.250' AS c%d", i)
		fmt.Fprintf(&columns, "c%d: {format: %q}, ", i, f.format)
	}
	e := openEmpty(t, fmt.Sprintf("databases: {a: {driver: sqlite, dsn: a.db}}\ndatasets: {f: {database: a, query: %q, columns: {%s}}}\n", "SELECT 1 AS n"+query.String(), columns.String()))
	data, _ := run(t, e, `{"dataset":"f"}`)
	checkBook(t, data)
	workbook := openBook(t, data)
	shown := readByLibreOffice(t, saveBook(t, e, `{"dataset":"f"}`))["F"][1]
	for i, f := range formats {
		cell, err := excelize.CoordinatesToCellName(i+2, 2)
		if err != nil {
			t.Fatal(err)
		}
		if typ, err := workbook.GetCellType("F", cell); err != nil || typ != excelize.CellTypeUnset || shown[i+1] != f.shown {
			t.Errorf("%s: a %v shown as %q (%v), want %q", f.format, typ, shown[i+1], err, f.shown)
		}
	}
}

func TestFormatsThatExcelDoesNotTakeAreRefused(t *testing.T) {
	t.Parallel()
	parse := func(format string) error {
		_, err := export.Parse("hark.yaml", []byte(formatConfig("1", format)))
		return err
	}
	for _, format := range []string{
		"0 pcs", "yyyy 0", "hh:mm:ss.0000", `0 "open`, "[nope]0", "[0", "0;0;0;0;0", `0\`, "0_", "0*", "moneyy", "dat", "Uhr hh", "[>x]0", "[Color57]0",
		"yyyy@", "aa", "yyyyſ0", "[ſ]", ";;;", " ", "0" + strings.Repeat("0", 255),
	} {
		if err := parse(format); err == nil || !strings.Contains(err.Error(), "columns.v.format is ") {
			t.Errorf("%.40q: %v", format, err)
		}
	}
	for _, format := range []string{
		"0", "0.000", "#,##0.00", "0.00%", "0.00E+00", "# ?/?", "# ??/16", "General", "@", `0 "pcs"`, `0\ \k\g`, "[Red]0;[Color 12]-0", "[>=100]0;[<0]-0;0.0",
		`_-* #,##0.00\ "€"_-;\-* #,##0.00\ "€"_-;_-* "-"??\ "€"_-;_-@_-`, "[$€-407] #,##0.00", "€ 0", "0,,", `"Nr. "@`, "(0)", "+0;-0;0",
	} {
		if err := parse(format); err != nil {
			t.Errorf("%q: %v", format, err)
		}
	}
}

const widthConfig = `
databases: {a: {driver: sqlite, dsn: a.db}}
datasets:
  w:
    database: a
    query: |
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)
      SELECT i AS id, '2026-09-30 13:45:30.250' AS a, '2026-09-30' AS b, CASE WHEN i > 550 THEN i * 1000000.5 ELSE i END AS c,
        CASE WHEN i > 550 THEN -i * 1000000000 ELSE i END AS d, CASE WHEN i > 550 THEN -i * 1234567.25 ELSE i END AS e,
        '2026-09-30 13:45:30.250' AS f, '2026-09-30' AS g, i * 100000 AS h, i * 1000000.0 AS j, i * 1234567890123 AS k,
        CASE WHEN i > 550 THEN i * 1000000000 ELSE i END AS l, i * 1000 + 0.5 AS m, CASE WHEN i > 550 THEN 999999999.999 ELSE 1 END AS n
      FROM n
    columns:
      a: {format: "dddd, d. mmmm yyyy hh:mm:ss AM/PM;@"}
      b: {format: "dddd, d. mmmm yyyy;@"}
      c: {format: money}
      e: {format: '[$€-407] #,##0.000 "each";[Red]"minus" #,##0.00'}
      f: {format: "hh:mm:ss.000"}
      g: {format: "[h]:mm:ss"}
      h: {format: percent}
      j: {format: "0.00E+00"}
      k: {format: "#,##0,, \"million\""}
      l: {format: "0000000"}
      m: {format: "# ??/??"}
      n: {format: "#,##0.0"}
`

// Excel shows ### for a number or a date that is wider than its column. Columns are wide enough for the texts that LibreOffice shows.
func TestColumnsHaveRoomForDatesAndForAmountsOfLateRows(t *testing.T) {
	t.Parallel()
	e := openEmpty(t, widthConfig)
	data, _ := run(t, e, `{"dataset":"w"}`)
	cols := checkBook(t, data).sheets[0].all("col")
	rows := readByLibreOffice(t, saveBook(t, e, `{"dataset":"w"}`))["W"]
	if len(rows) != 601 || len(cols) != len(rows[0]) {
		t.Fatalf("%d rows, %d columns", len(rows), len(cols))
	}
	for i, name := range rows[0] {
		width, err := strconv.ParseFloat(cols[i].attr("width"), 64)
		if err != nil {
			t.Fatal(err)
		}
		widest := ""
		for _, row := range rows[1:] {
			if len(row[i]) > len(widest) {
				widest = row[i]
			}
		}
		if n := utf8.RuneCountInString(widest); width < float64(n)+1 || width > float64(2*n)+8 {
			t.Errorf("the column %s is %v wide, for %q", name, width, widest)
		}
	}
}

// In Excel, TRUE is a longer word in other languages.
func TestColumnsHaveRoomForBooleans(t *testing.T) {
	t.Parallel()
	data, _ := run(t, openOdd(t), `{"dataset":"odd"}`)
	if width, err := openBook(t, data).GetColWidth("Odd", "F"); err != nil || width < float64(len("VERDADEIRO"))+1 {
		t.Errorf("%v wide, %v", width, err)
	}
}

// With a format for dates Excel shows ### for a number that is not a date, in any width.
func TestANumberThatIsNoDateIsShownAsItIs(t *testing.T) {
	t.Parallel()
	for value, shown := range map[string]string{"1767225600": "1767225600", "-5": "-5", "46295": "2026-09-30", "2958465": "9999-12-31", "2958466": "2958466", "-0.5": "-0.5"} {
		data, _ := run(t, openEmpty(t, formatConfig(value, "date")), `{"dataset":"f"}`)
		if got, err := openBook(t, data).GetCellValue("F", "A2"); err != nil || got != shown {
			t.Errorf("%s is shown as %q (%v), want %q", value, got, err, shown)
		}
	}
}
