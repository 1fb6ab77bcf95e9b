package export_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"

	"github.com/hark-jobs/hark/internal/mariatest"
	"github.com/hark-jobs/hark/internal/pgtest"
)

// Infinities and NaN have the text of the database: in CSV without quotes, in xlsx as texts. The query has each value, and its
// conversion to text by the database. MariaDB and MySQL have neither: such a value is NULL or an error.
func TestInfinityIsWhatTheDatabaseWrites(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		driver string
		dsn    func(testing.TB) string
		query  string // each value, and then each one as a text
		want   []string
	}{
		{"postgres", pgtest.DSN, `WITH v AS (SELECT 'Infinity'::float8 AS a, '-Infinity'::float8 AS b, 'NaN'::float8 AS c, 'inf'::real AS d, '-inf'::real AS e, 'nan'::real AS f,
				'Infinity'::numeric AS g, '-Infinity'::numeric AS h, 'NaN'::numeric AS i, 'infinity'::date AS j, '-infinity'::date AS k,
				'infinity'::timestamp AS l, '-infinity'::timestamptz AS m)
			SELECT *, a::text, b::text, c::text, d::text, e::text, f::text, g::text, h::text, i::text, j::text, k::text, l::text, m::text FROM v`,
			[]string{"Infinity", "-Infinity", "NaN", "Infinity", "-Infinity", "NaN", "Infinity", "-Infinity", "NaN", "infinity", "-infinity", "infinity", "-infinity"}},
		{"sqlite", func(testing.TB) string { return "a.db" },
			"SELECT 9e999 AS a, -9e999 AS b, 9e999 - 9e999 AS c, CAST(9e999 AS TEXT), CAST(-9e999 AS TEXT), CAST(9e999 - 9e999 AS TEXT)",
			[]string{"Inf", "-Inf", ""}},
		{"mysql", func(t testing.TB) string { return mariatest.Start(t) },
			"SELECT 1/0 AS a, ln(0) AS b, sqrt(-1) AS c, CAST(1/0 AS CHAR), CAST(ln(0) AS CHAR), CAST(sqrt(-1) AS CHAR)",
			[]string{"", "", ""}},
	} {
		t.Run(test.driver, func(t *testing.T) {
			e := open(t, makeSQLite(t, "CREATE TABLE x (y)"), fmt.Sprintf(`
databases: {db: {driver: %s, dsn: %q}}
datasets:
  plain: {database: db, query: %q}
  formats: {database: db, query: %[3]q, columns: {a: {format: text}, b: {format: money}, c: {format: "0.0"}}}
`, test.driver, test.dsn(t), test.query))
			n := len(test.want)
			for _, dataset := range []string{"plain", "formats"} {
				data, _ := run(t, e, `{"dataset":"`+dataset+`","format":"csv"}`)
				row := readCSV(t, data)[1]
				for i := n; i < len(row); i++ {
					row[i] = strings.TrimPrefix(row[i], "'") // the guard of texts against formulas
				}
				if !slices.Equal(row[:n], test.want) || !slices.Equal(row[n:], test.want) {
					t.Errorf("CSV of %s: %q,\nthe database writes %q, want %q", dataset, row[:n], row[n:], test.want)
				}
				data, _ = run(t, e, `{"dataset":"`+dataset+`"}`)
				f := openBook(t, data)
				for i, want := range test.want {
					name, err := excelize.CoordinatesToCellName(i+1, 2)
					if err != nil {
						t.Fatal(err)
					}
					sheet := f.GetSheetName(0)
					got, err := f.GetCellValue(sheet, name)
					if typ, err2 := f.GetCellType(sheet, name); err != nil || err2 != nil || got != want || want != "" && typ != excelize.CellTypeInlineString {
						t.Errorf("xlsx of %s: %s is %q of type %v (%v, %v), want %q", dataset, name, got, typ, err, err2, want)
					}
				}
			}
		})
	}
}
