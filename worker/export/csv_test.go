package export_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/hark-jobs/hark/worker/export"
)

const textsConfig = `
databases: {texts: {driver: sqlite, dsn: texts.db}}
datasets:
  texts: {database: texts, query: "SELECT id, t FROM texts ORDER BY id"}
  alone: {database: texts, query: "SELECT t FROM texts ORDER BY id"}
  german: {database: texts, columns: {n: {format: money}}, query: "SELECT '-123456789012345678.90' AS n, -1.5 AS f, 1e300 AS e, 'a;b' AS t, NULL AS none, '' AS empty", csv: {separator: ";", decimal: ",", bom: false}}
  numbers:
    database: texts
    query: "SELECT -1234567890123456 AS n, -0.5 AS f, '-123456789012345678.90' AS d, '-7' AS t, 7 AS shown, -1e300 AS e"
    columns: {d: {format: money}, shown: {format: text}}
  times: {database: texts, query: "SELECT '2026-01-02 03:04:05.000001' AS a, '2026-01-02 03:04:05.25' AS b", columns: {a: {format: datetime}, b: {format: datetime}}}
`

// openTexts returns an exporter of a table of texts. A NULL is among the texts as "NULL".
func openTexts(t *testing.T, texts []string) *export.Exporter {
	t.Helper()
	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, "texts.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE texts (id INTEGER PRIMARY KEY, t TEXT)"); err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		if _, err := db.Exec("INSERT INTO texts VALUES (?, nullif(?, 'NULL'))", i, text); err != nil {
			t.Fatal(err)
		}
	}
	return open(t, dir, textsConfig)
}

// python reads a CSV with Python's csv, which keeps line ends as they are.
func python(t *testing.T, data []byte, separator string, skipBlanks bool) (rows [][]string) {
	t.Helper()
	path, err := exec.LookPath("python3") // a dependency of python3-openpyxl
	if err != nil {
		t.Fatal("Python is missing: run scripts/test-setup.sh (apt-get install python3)")
	}
	cmd := exec.Command(path, "-c", `
import csv, io, json, sys
text = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="").read().removeprefix("\ufeff")
json.dump(list(csv.reader(io.StringIO(text, newline=""), delimiter=sys.argv[1], skipinitialspace=sys.argv[2] == "true")), sys.stdout)
`, separator, fmt.Sprint(skipBlanks))
	cmd.Stdin = strings.NewReader(string(data))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python: %v", err)
	}
	if err := json.Unmarshal(out, &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

var separatorParams = map[string]string{",": ",", ";": ";", "\t": "tab", "|": "|"}

// A text without a formula is exported exactly.
func TestCSVKeepsTextsAsTheyAre(t *testing.T) {
	t.Parallel()
	texts := []string{
		"lone\rCR", "a line\nand another", "CR and\r\nLF", "\r", "\n", "\r\n", "ends\n", `"quoted" ""`, `"`, "a,b;c|d\te", "\ufeffa mark first", "\ta tab first",
		"  blanks  ", "\u00a0", "", "ends with \\", "'an apostrophe", "-5", "-12345678901234567890.50", "-1.5E+10", "0049", "1e5", "TRUE", "Zoë 北京 🎁", "a=b", "1+1", "a@b.example", "x - y",
	}
	e := openTexts(t, texts)
	for separator, param := range separatorParams {
		for _, bom := range []bool{true, false} {
			data, _ := run(t, e, fmt.Sprintf(`{"dataset":"texts","format":"csv","csv_separator":%q,"csv_bom":%t}`, param, bom))
			if got := strings.HasPrefix(string(data), "\ufeff"); got != bom {
				t.Errorf("a byte order mark: %t, want %t", got, bom)
			}
			rows := python(t, data, separator, false)
			if len(rows) != len(texts)+1 {
				t.Fatalf("separator %q: %d rows, want %d", separator, len(rows), len(texts)+1)
			}
			for i, row := range rows[1:] {
				if fmt.Sprintf("%q", row) != fmt.Sprintf("%q", []string{fmt.Sprint(i), texts[i]}) {
					t.Errorf("separator %q: %q came back as %q", separator, texts[i], row)
				}
			}
		}
	}
}

// In a file with one column, NULL and an empty text are rows, too.
func TestCSVHasNoEmptyLines(t *testing.T) {
	t.Parallel()
	texts := []string{"a", "NULL", "", "b"}
	data, _ := run(t, openTexts(t, texts), `{"dataset":"alone","format":"csv"}`)
	if want := "\ufeff\"t\"\r\n\"a\"\r\n\"\"\r\n\"\"\r\n\"b\"\r\n"; string(data) != want {
		t.Errorf("%q, want %q", data, want)
	}
	if rows := python(t, data, ",", false); fmt.Sprintf("%q", rows) != `[["t"] ["a"] [""] [""] ["b"]]` {
		t.Errorf("%q", rows)
	}
}

// Numbers of any length are not quoted and get no apostrophe. Texts are quoted, also numeric ones.
func TestCSVLeavesNumbersAlone(t *testing.T) {
	t.Parallel()
	data, _ := run(t, openTexts(t, nil), `{"dataset":"numbers","format":"csv"}`)
	if _, got, _ := strings.Cut(string(data), "\r\n"); got != `-1234567890123456,-0.5,-123456789012345678.90,"-7","7",-1E+300`+"\r\n" {
		t.Errorf("%s", got)
	}
}

// The separator, the decimal mark and the byte order mark are those of the request, or else of the dataset.
func TestCSVFormatIsChosen(t *testing.T) {
	t.Parallel()
	e := openTexts(t, nil)
	for params, want := range map[string]string{
		``:                                      `"n";"f";"e";"t";"none";"empty"` + "\r\n" + `-123456789012345678,90;-1,5;1E+300;"a;b";;""` + "\r\n",
		`,"csv_separator":"tab","csv_bom":true`: "\ufeff" + strings.ReplaceAll(`"n";"f";"e";"t";"none";"empty"`, ";", "\t") + "\r\n-123456789012345678,90\t-1,5\t1E+300\t\"a;b\"\t\t\"\"\r\n",
		`,"csv_separator":",","csv_bom":false`:  `"n","f","e","t","none","empty"` + "\r\n" + `-123456789012345678.90,-1.5,1E+300,"a;b",,""` + "\r\n",
		`,"csv_separator":";","csv_decimal":".","csv_bom":false`:       `"n";"f";"e";"t";"none";"empty"` + "\r\n" + `-123456789012345678.90;-1.5;1E+300;"a;b";;""` + "\r\n",
		`,"csv_separator":"|","csv_decimal":",","csv_bom":false`:       `"n"|"f"|"e"|"t"|"none"|"empty"` + "\r\n" + `-123456789012345678,90|-1,5|1E+300|"a;b"||""` + "\r\n",
		`,"csv_separator":"|","timezone":"Asia/Tokyo","csv_bom":false`: `"n"|"f"|"e"|"t"|"none"|"empty"` + "\r\n" + `-123456789012345678,90|-1,5|1E+300|"a;b"||""` + "\r\n",
	} {
		data, _ := run(t, e, `{"dataset":"german","format":"csv"`+params+`}`)
		if string(data) != want {
			t.Errorf("%s:\n%q, want\n%q", params, data, want)
		}
	}
}

func TestCSVKeepsMicroseconds(t *testing.T) {
	t.Parallel()
	data, _ := run(t, openTexts(t, nil), `{"dataset":"times","format":"csv"}`)
	if got := strings.Join(readCSV(t, data)[1], "|"); got != "2026-01-02 03:04:05.000001|2026-01-02 03:04:05.250" {
		t.Errorf("%s", got)
	}
}

// formulas has texts and their form in a CSV with commas.
var formulas = [][2]string{
	{"=1+41", "'=1+41"}, {"+49 30 1234", "'+49 30 1234"}, {"-2+3", "'-2+3"}, {"- 5", "'- 5"}, {"@SUM(A1)", "'@SUM(A1)"},
	{"＝1+1", "'＝1+1"}, {"＋1", "'＋1"}, {"－1", "'－1"}, {"＠A1", "'＠A1"},
	{"  =1+41", "'  =1+41"}, {"\u00a0=1+41", "'\u00a0=1+41"}, {"\u3000=1+41", "'\u3000=1+41"}, {"\ufeff=1+41", "'\ufeff=1+41"}, {"\u200b=1+41", "'\u200b=1+41"},
	{"\x00=1+41", "'\x00=1+41"}, {"\t=1+41", "\t'=1+41"}, {"\r=1+41", "\r'=1+41"}, {"\n=1+41", "\n'=1+41"}, {`"=1+41"`, `'"=1+41"`},
	{"note;=1+41", "note;'=1+41"}, {"note; =1+41", "note;' =1+41"}, {"note;\ufeff\"=1+41", "note;'\ufeff\"=1+41"}, {"note\t=1+41", "note\t'=1+41"}, {"note|@A1", "note|'@A1"},
	{"note\r\n=1+41", "note\r\n'=1+41"}, {"note\n-cmd", "note\n'-cmd"}, {"note;-5", "note;'-5"}, {"note;-5+1", "note;'-5+1"}, {"-5;1", "'-5;1"}, {"-5,3+cmd", "'-5,3+cmd"}, {"-5e", "'-5e"},
	{"note,=1+41", "note,=1+41"}, {"note;,=1+41", "note;,=1+41"}, {"=1;=2", "'=1;'=2"},
}

// A program that expects any separator finds no formula in a CSV.
func TestNoTextOfACSVBecomesAFormula(t *testing.T) {
	t.Parallel()
	var texts []string
	for _, f := range formulas {
		texts = append(texts, f[0])
	}
	e := openTexts(t, texts)
	for separator, param := range separatorParams {
		data, _ := run(t, e, fmt.Sprintf(`{"dataset":"texts","format":"csv","csv_separator":%q}`, param))
		if separator == "," {
			for i, row := range python(t, data, separator, false)[1:] {
				if row[1] != formulas[i][1] {
					t.Errorf("%q is %q, want %q", formulas[i][0], row[1], formulas[i][1])
				}
			}
		}
		for reader := range separatorParams {
			for _, skip := range []bool{false, true} {
				for _, row := range python(t, data, reader, skip) {
					for _, cell := range row {
						if isFormula(cell) {
							t.Errorf("separator %q, read with %q: the cell %q is a formula", separator, reader, cell)
						}
					}
				}
			}
		}
	}
}

// LibreOffice finds no formula in a CSV either, with any separator. It does find one in an unguarded file.
func TestLibreOfficeFindsNoFormulaInACSV(t *testing.T) {
	t.Parallel()
	var texts []string
	for _, f := range formulas {
		texts = append(texts, f[0])
	}
	data, _ := run(t, openTexts(t, texts), `{"dataset":"texts","format":"csv"}`)
	dir := t.TempDir()
	cells := func(name string, data []byte, separator byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file+".csv", data, 0o600); err != nil {
			t.Fatal(err)
		}
		command(t, "soffice", "-env:UserInstallation=file://"+filepath.Join(dir, "profile"), "--headless",
			"--convert-to", "fods", fmt.Sprintf("--infilter=CSV:%d,34,76,1", separator), "--outdir", dir, file+".csv")
		sheet, err := os.ReadFile(file + ".fods")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(sheet), "note") {
			t.Errorf("%s: LibreOffice has not read the file", name)
		}
		return string(sheet)
	}
	if sheet := cells("unguarded", []byte("id,t\r\n1,\"note;=1+41\"\r\n2,\"note;=1+41;\"\r\n"), ';'); !strings.Contains(sheet, `table:formula="of:=1+41"`) {
		t.Error("LibreOffice takes nothing for a formula")
	}
	for _, separator := range []byte(",;\t|") {
		if sheet := cells(fmt.Sprint("guarded", separator), data, separator); strings.Contains(sheet, "table:formula") {
			t.Errorf("read with %q there is a formula", separator)
		}
	}
}

// isFormula reports whether some spreadsheet program may evaluate a cell as a formula.
func isFormula(cell string) bool {
	cell = strings.TrimLeftFunc(cell, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '"'
	})
	if cell == "" || !strings.ContainsAny(cell[:1], "=+-@") && !strings.HasPrefix(cell, "＝") && !strings.HasPrefix(cell, "＋") && !strings.HasPrefix(cell, "－") && !strings.HasPrefix(cell, "＠") {
		return false
	}
	return true
}
