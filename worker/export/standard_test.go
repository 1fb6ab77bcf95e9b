package export_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/worker/export"
)

const standardConfig = `
databases: {a: {driver: sqlite, dsn: a.db}}
datasets:
  formats:
    title: "Q1 & Q2 <all>"
    database: a
    query: SELECT '2026-01-31' AS a, 1.5 AS b, 0.25 AS c, 7 AS d, 1 = 1 AS e
    columns:
      a: {format: "dd/mm/yyyy;@"}
      b: {format: '[$€-407] #,##0.00 "each";[Red]-#,##0.00'}
      c: {format: percent}
      d: {format: text, width: 12.5}
  large: # more than excelize keeps in memory
    database: a
    query: WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700) SELECT i, printf('%.*c', 30000, 'x') AS t FROM n
  wide:
    database: a
    query: SELECT WIDE
`

// openEmpty returns an exporter of a SQLite database a.db that has no tables.
func openEmpty(t testing.TB, config string) *export.Exporter {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, config)
}

func TestWorkbooksAreWhatTheStandardDemands(t *testing.T) {
	t.Parallel()
	odd, split := openOdd(t), openOdd(t)
	export.SetSheetRows(split, 300)
	wide := make([]string, 1000)
	for i := range wide {
		wide[i] = fmt.Sprintf("%d AS c%d", i, i)
	}
	own := openEmpty(t, strings.ReplaceAll(standardConfig, "WIDE", strings.Join(wide, ", ")))
	for _, test := range []struct {
		name   string
		e      *export.Exporter
		object string
		sheets int
	}{
		{"all that a cell can hold", odd, `{"dataset":"odd"}`, 1},
		{"no rows", odd, `{"dataset":"odd","least":1000}`, 1},
		{"named formats", odd, `{"dataset":"shown"}`, 1},
		{"a text that is cut", odd, `{"dataset":"long","text":" ` + strings.Repeat("ü", 40_000) + `"}`, 1},
		{"formats of its own", own, `{"dataset":"formats"}`, 1},
		{"a sheet in a temporary file", own, `{"dataset":"large"}`, 1},
		{"many columns", own, `{"dataset":"wide"}`, 1},
		{"three sheets", split, `{"dataset":"many","rows":700}`, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			data, _ := run(t, test.e, test.object)
			if p := checkBook(t, data); len(p.sheets) != test.sheets {
				t.Errorf("%d sheets, want %d", len(p.sheets), test.sheets)
			}
		})
	}
}

// The properties are of this export and not of excelize's template, and have the prefixes by which exceljs finds them.
func TestPropertiesAreOfTheExport(t *testing.T) {
	t.Parallel()
	before := time.Now().Truncate(time.Second)
	data, _ := run(t, openEmpty(t, strings.ReplaceAll(standardConfig, "WIDE", "1")), `{"dataset":"formats"}`)
	p := checkBook(t, data)
	core := string(p.data["docProps/core.xml"])
	for _, want := range []string{"<dc:title>Q1 &amp; Q2 &lt;all&gt;</dc:title>", "<dc:creator>hark</dc:creator>", "<cp:lastModifiedBy>hark</cp:lastModifiedBy>"} {
		if !strings.Contains(core, want) {
			t.Errorf("no %s in %s", want, core)
		}
	}
	for _, name := range []string{"created", "modified"} {
		at, err := time.Parse("2006-01-02T15:04:05Z", p.parts["docProps/core.xml"].all(name)[0].text)
		if err != nil || at.Before(before) || at.After(time.Now()) {
			t.Errorf("%s at %v (%v), want now", name, at, err)
		}
	}
	if app := string(p.data["docProps/app.xml"]); !strings.Contains(app, "<Application>hark</Application>") {
		t.Errorf("%s", app)
	}
}

// The check finds violations of the standard: each of these changes to a valid workbook is a fault.
func TestTheCheckOfWorkbooksFindsFaults(t *testing.T) {
	t.Parallel()
	data, _ := run(t, openOdd(t), `{"dataset":"odd"}`)
	checkBook(t, data)
	const sheet, core, styles, workbook, types, rels = "xl/worksheets/sheet1.xml", "docProps/core.xml", "xl/styles.xml", "xl/workbook.xml", "[Content_Types].xml", "xl/_rels/workbook.xml.rels"
	for _, test := range []struct{ part, old, new string }{
		{sheet, `ref="A1:I15"`, `ref="A1"`},
		{sheet, `<dimension ref="A1:I15"/>`, `<sheetFormatPr defaultRowHeight="15"/><dimension ref="A1:I15"/>`},
		{sheet, `<row r="2">`, `<row r="1">`},
		{sheet, `<c r="A2">`, `<c r="A3">`},
		{sheet, `<c r="A2">`, `<c r="A2" r="A2">`},
		{sheet, `<c r="A2">`, `<c r="A2" s="99">`},
		{sheet, `<c r="A2">`, `<c r="A2" xml:space="preserve">`},
		{sheet, `<c r="A2">`, `<c r="A2" nope:x="1">`},
		{sheet, `<v>1</v>`, `<v>one</v>`},
		{sheet, `<v>1</v>`, `<v>1</v><f>1+1</f>`},
		{sheet, `<t xml:space="preserve">`, `<t>`},
		{sheet, `<col min="1" max="1"`, `<col min="9" max="9"`},
		{sheet, `encoding="UTF-8"`, `encoding="ISO-8859-1"`},
		{sheet, `<worksheet `, `<!DOCTYPE worksheet><worksheet `},
		{sheet, `</worksheet>`, `</worksheet><worksheet/>`},
		{core, `cp:lastModifiedBy`, `lastModifiedBy`},
		{core, `<dc:creator>hark</dc:creator>`, `<dc:creator>a</dc:creator><dc:creator>b</dc:creator>`},
		{core, `xsi:type="dcterms:W3CDTF"`, ``},
		{core, `<dcterms:created xsi:type="dcterms:W3CDTF">`, `<dcterms:created xsi:type="dcterms:W3CDTF">on `},
		{core, `Z</dcterms:modified>`, `</dcterms:modified>`},
		{styles, `numFmtId="164" formatCode`, `numFmtId="200" formatCode`},
		{styles, `fontId="1"`, `fontId="7"`},
		{styles, `<cellXfs count="5">`, `<cellXfs count="6">`},
		{workbook, `r:id="rId1"`, `r:id="rId9"`},
		{workbook, `name="Odd"`, `name="Odd?"`},
		{workbook, `xmlns:r=`, `xmlns:q=`},
		{types, `/xl/worksheets/sheet1.xml`, `/xl/worksheets/sheet2.xml`},
		{rels, `worksheets/sheet1.xml`, `worksheets/sheet2.xml`},
	} {
		if len(readPack(replaceIn(t, data, test.part, test.old, test.new)).faults) == 0 {
			t.Errorf("%s with %s for %s passes", test.part, test.new, test.old)
		}
	}
}

// replaceIn returns the workbook with the first such text of one part replaced.
func replaceIn(t *testing.T, data []byte, part, old, new string) []byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	found := false
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == part {
			found = bytes.Contains(body, []byte(old))
			body = bytes.Replace(body, []byte(old), []byte(new), 1)
		}
		to, err := w.Create(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !found {
		t.Fatalf("%s has no %s", part, old)
	}
	return out.Bytes()
}
