package export_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/worker/export"
)

// hark writes workbooks with excelize, and other tests read them with excelize. Here independent programs read them.

// pythonReader prints the sheets of a workbook with openpyxl, in one of its two modes.
const pythonReader = `
import datetime, json, sys
import openpyxl

def shown(c):
    v = c.value
    if v is None:
        return ""
    if isinstance(v, (datetime.datetime, datetime.date, datetime.time)):
        v = v.isoformat()
    elif isinstance(v, int) and not isinstance(v, bool) and abs(v) >= 10**15:
        v = float(v)
    text = "%s %s" % (c.data_type, v)
    return text if c.number_format == "General" else text + " {" + c.number_format + "}"

workbook = openpyxl.load_workbook(sys.argv[1], read_only=sys.argv[2] == "read-only")
json.dump([{"name": s.title, "rows": s.max_row, "columns": s.max_column, "cells": [[shown(c) for c in row] for row in s.rows]} for s in workbook.worksheets], sys.stdout)
`

type sheetRead struct {
	Name          string
	Rows, Columns int
	Cells         [][]string // type, value and number format
}

// readByOpenpyxl reads a workbook with openpyxl, from Debian's package python3-openpyxl.
func readByOpenpyxl(t *testing.T, file, mode string) (sheets []sheetRead) {
	t.Helper()
	out := command(t, "/usr/bin/python3", "-c", pythonReader, file, mode)
	if err := json.Unmarshal(out, &sheets); err != nil {
		t.Fatal(err)
	}
	return sheets
}

// readByLibreOffice converts each sheet to a CSV with LibreOffice, with the values as shown.
func readByLibreOffice(t *testing.T, file string) map[string][][]string {
	t.Helper()
	dir := t.TempDir()
	// Comma, quote, UTF-8, from line 1, US English, quotes where needed, as shown, all sheets.
	const filter = "csv:Text - txt - csv (StarCalc):44,34,76,1,,1033,false,true,true,false,false,-1"
	command(t, "soffice", "-env:UserInstallation=file://"+filepath.Join(dir, "profile"), "--headless", "--convert-to", filter, "--outdir", dir, file)
	files, err := filepath.Glob(filepath.Join(dir, "*.csv"))
	if err != nil || len(files) == 0 {
		t.Fatalf("LibreOffice wrote nothing: %v", err)
	}
	sheets := make(map[string][][]string)
	base := strings.TrimSuffix(filepath.Base(file), ".xlsx") + "-"
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		sheets[strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), base), ".csv")] = rows
	}
	return sheets
}

// command runs a program that scripts/test-setup.sh installs, and returns its output.
func command(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n(scripts/test-setup.sh installs what the tests need)", name, err, stderr.Bytes())
	}
	return out
}

// saveBook writes an export to a file.
func saveBook(t *testing.T, e *export.Exporter, object string) string {
	t.Helper()
	data, _ := run(t, e, object)
	file := filepath.Join(t.TempDir(), "workbook.xlsx")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// oddByOpenpyxl are the oddities in openpyxl's form: s is a text, n a number, d a date and b a boolean.
var oddByOpenpyxl = [][]string{
	{"s =Number", "s t", "s d", "s When", "s f", "s b", "s raw", "s num", "s n"},
	{"n 1", "s plain", "d 2026-11-21T00:00:00 {yyyy-mm-dd}", "d 2026-11-21T13:45:30 {yyyy-mm-dd hh:mm:ss}", "n 1.5", "b True", "s 0x00ff", "n 12.5 {#,##0.00}", "n 42"},
	{"n 2", "", "", "", "", "", "", "", ""},
	{"n 3", "s =1+1", "d 2024-02-29T00:00:00 {yyyy-mm-dd}", "d 2024-02-29T00:00:00 {yyyy-mm-dd hh:mm:ss}", "n -0.125", "b False", "s abc", "n -7.25 {#,##0.00}", "n -42"},
	{"n 4", "s +49 30 1234", "s 1899-12-31", "d 1970-01-01T00:00:00 {yyyy-mm-dd hh:mm:ss}", "n 1e+300", "b True", "", "s 123456789012345678.90 {#,##0.00}", "s 1234567890123456789"},
	{"n 5", "s -2+3", "d 9999-12-31T00:00:00 {yyyy-mm-dd}", "d 2000-01-01T23:59:59 {yyyy-mm-dd hh:mm:ss}", "n 0", "b False", "", "s n/a {#,##0.00}", "n 999999999999999"},
	{"n 6", "s @SUM(A1)", "d 1900-03-01T00:00:00 {yyyy-mm-dd}", "", "n 1e-09", "b True", "", "n -5 {#,##0.00}", "s 1000000000000000"},
	{"n 7", "s \t=cmd", "", "", "n 0.1", "b True", "", "s 0049 {#,##0.00}", "n 0"},
	{"n 8", "s Zoë Łukasz 北京 🎁", "", "", "n 100000", "b True", "", "n 0.5 {#,##0.00}", "n 7"},
	{"n 9", `s a & b < c > "d" 'e'`, "", "", "n 3.14", "b True", "", "s 1e5 {#,##0.00}", "n 7"},
	{"n 10", "s   outer  ", "", "", "n 3", "b True", "", "", "n 7"},
	{"n 11", "s two\nlines", "", "", "n 3", "b True", "", "s .5 {#,##0.00}", "n 7"},
	{"n 12", "s bell\uFFFD!", "", "", "n 3", "b True", "", "s +1 {#,##0.00}", "n 7"},
	// openpyxl does not undo the escape of ST_Xstring (ECMA-376 Part 1, 22.9.2.19), which Excel and LibreOffice do.
	{"n 13", "s _x005F_x0041_ stays", "", "", "n 3", "b True", "", "n 1 {#,##0.00}", "n 7"},
	{"n 14", "", "", "", "n 3", "b True", "", "n 1 {#,##0.00}", "n 7"},
}

func TestOpenpyxlReadsAllCells(t *testing.T) {
	t.Parallel()
	file := saveBook(t, openOdd(t), `{"dataset":"odd"}`)
	for _, mode := range []string{"normal", "read-only"} {
		sheets := readByOpenpyxl(t, file, mode)
		if len(sheets) != 1 || sheets[0].Name != "Odd" {
			t.Fatalf("%s: %d sheets", mode, len(sheets))
		}
		sameRows(t, "openpyxl, "+mode, sheets[0].Cells, oddByOpenpyxl)
	}
}

// Without the range of a sheet, readers that use it (openpyxl, read_only) would stop after the first row.
func TestOpenpyxlReadsAllRowsOfAllSheets(t *testing.T) {
	t.Parallel()
	e := openOdd(t)
	export.SetSheetRows(e, 300)
	file := saveBook(t, e, `{"dataset":"many","rows":700}`)
	for _, mode := range []string{"normal", "read-only"} {
		sheets := readByOpenpyxl(t, file, mode)
		if len(sheets) != 3 {
			t.Fatalf("%s: %d sheets", mode, len(sheets))
		}
		n := 0
		for i, rows := range []int{300, 300, 103} {
			s := sheets[i]
			if s.Rows != rows || s.Columns != 2 || len(s.Cells) != rows {
				t.Fatalf("%s: the sheet %s has a range of %d rows and %d columns, and %d rows, want %d", mode, s.Name, s.Rows, s.Columns, len(s.Cells), rows)
			}
			for _, row := range s.Cells[1:] {
				n++
				if row[0] != fmt.Sprintf("n %d", n) || row[1] != fmt.Sprintf("s row %d", n) {
					t.Fatalf("%s: %q, want row %d", mode, row, n)
				}
			}
		}
	}
}

func TestLibreOfficeShowsAllCells(t *testing.T) {
	t.Parallel()
	e := openOdd(t)
	sameRows(t, "LibreOffice", readByLibreOffice(t, saveBook(t, e, `{"dataset":"odd"}`))["Odd"], [][]string{
		{"=Number", "t", "d", "When", "f", "b", "raw", "num", "n"},
		{"1", "plain", "2026-11-21", "2026-11-21 13:45:30", "1.5", "TRUE", "0x00ff", "12.50", "42"},
		{"2", "", "", "", "", "", "", "", ""},
		{"3", "=1+1", "2024-02-29", "2024-02-29 00:00:00", "-0.125", "FALSE", "abc", "-7.25", "-42"},
		{"4", "+49 30 1234", "1899-12-31", "1970-01-01 00:00:00", "1E+300", "TRUE", "", "123456789012345678.90", "1234567890123456789"},
		{"5", "-2+3", "9999-12-31", "2000-01-01 23:59:59", "0", "FALSE", "", "n/a", "999999999999999"},
		{"6", "@SUM(A1)", "1900-03-01", "", "0.000000001", "TRUE", "", "-5.00", "1000000000000000"},
		{"7", "\t=cmd", "", "", "0.1", "TRUE", "", "0049", "0"},
		{"8", "Zoë Łukasz 北京 🎁", "", "", "100000", "TRUE", "", "0.50", "7"},
		{"9", `a & b < c > "d" 'e'`, "", "", "3.14", "TRUE", "", "1e5", "7"},
		{"10", "  outer  ", "", "", "3", "TRUE", "", "", "7"},
		{"11", "two\nlines", "", "", "3", "TRUE", "", ".5", "7"},
		{"12", "bell\uFFFD!", "", "", "3", "TRUE", "", "+1", "7"},
		{"13", "_x0041_ stays", "", "", "3", "TRUE", "", "1.00", "7"},
		{"14", "", "", "", "3", "TRUE", "", "1.00", "7"},
	})
	export.SetSheetRows(e, 300)
	sheets := readByLibreOffice(t, saveBook(t, e, `{"dataset":"many","rows":700}`))
	for name, rows := range map[string]int{"A name of thirty-one letters, x": 300, "A name of thirty-one letter (2)": 300, "A name of thirty-one letter (3)": 103} {
		if len(sheets[name]) != rows {
			t.Errorf("LibreOffice shows %d rows on the sheet %q, want %d", len(sheets[name]), name, rows)
		}
	}
}

func sameRows(t *testing.T, reader string, got, want [][]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s has %d rows, want %d", reader, len(got), len(want))
	}
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("%s: row %d is\n%q, want\n%q", reader, i, got[i], want[i])
		}
	}
}
