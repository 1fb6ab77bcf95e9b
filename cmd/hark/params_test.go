package main

import (
	"encoding/json"
	"errors"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/jobs"
)

// exports is a kind as GET /v1/kinds answers it.
const exports = `{"name":"export","title":"Export","max_attempts":3,"params":[
 {"name":"dataset","type":"string","required":true,"options":[
  {"value":"orders","params":[
   {"name":"from","type":"date"},{"name":"at","type":"time"},{"name":"limit","type":"integer"},{"name":"min_total","type":"number"},
   {"name":"paid","type":"boolean"},{"name":"note","type":"string"},{"name":"extra","type":"any"},
   {"name":"year","type":"integer","options":[{"value":2025},{"value":2026}]},
   {"name":"split","type":"boolean","default":true,"options":[{"value":true,"params":[{"name":"parts","type":"integer"}]},{"value":false}]}]},
  {"value":"customers"},
  {"value":"ledger","params":[{"name":"account","type":"string","required":true}]}]},
 {"name":"format","type":"string","default":"xlsx","options":[{"value":"xlsx"},{"value":"csv","params":[{"name":"header","type":"boolean"}]}]}]}`

func exportKindFromJSON(t *testing.T) *jobs.Kind {
	t.Helper()
	var kind jobs.Kind
	if err := json.Unmarshal([]byte(exports), &kind); err != nil {
		t.Fatal(err)
	}
	return &kind
}

func TestTypeParams(t *testing.T) {
	for typed, want := range map[string]string{
		"dataset=orders from=2026-01-01":             `{"dataset":"orders","from":"2026-01-01"}`,
		"dataset=orders at=2026-01-01T10:00:00Z":     `{"at":"2026-01-01T10:00:00Z","dataset":"orders"}`,
		"dataset=orders limit=-7":                    `{"dataset":"orders","limit":-7}`,
		"dataset=orders limit=9007199254740993":      `{"dataset":"orders","limit":9007199254740993}`,
		"dataset=orders min_total=1.50":              `{"dataset":"orders","min_total":1.50}`,
		"dataset=orders min_total=12345678901234567": `{"dataset":"orders","min_total":12345678901234567}`,
		"dataset=orders paid=yes":                    `{"dataset":"orders","paid":true}`,
		"dataset=orders paid=FALSE":                  `{"dataset":"orders","paid":false}`,
		"dataset=orders note=7":                      `{"dataset":"orders","note":"7"}`,
		"dataset=orders note=":                       `{"dataset":"orders","note":""}`,
		"dataset=orders note=a=b":                    `{"dataset":"orders","note":"a=b"}`,
		`dataset=orders extra={"a":[1]}`:             `{"dataset":"orders","extra":{"a":[1]}}`,
		"dataset=orders extra=text":                  `{"dataset":"orders","extra":"text"}`,
		"dataset=orders year=2026":                   `{"dataset":"orders","year":2026}`,
		"dataset=orders parts=3":                     `{"dataset":"orders","parts":3}`,
		"dataset=orders split=true parts=3":          `{"dataset":"orders","parts":3,"split":true}`,
		"dataset=customers format=csv header=no":     `{"dataset":"customers","format":"csv","header":false}`,
		"dataset=ledger account=0815":                `{"account":"0815","dataset":"ledger"}`,
	} {
		given := make(map[string]string)
		if err := splitParams(given, strings.Fields(typed)); err != nil {
			t.Fatal(err)
		}
		got, err := typeParams(exportKindFromJSON(t), given)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", typed, got, err, want)
		}
	}
}

func TestTypeParamsRefuses(t *testing.T) {
	for typed, want := range map[string]string{
		"dataset=nonsense":                          "dataset must be one of orders, customers, ledger",
		"dataset=orders form=2026-01-01":            "form is not a param of export orders xlsx; it takes at, dataset, extra, format, from, limit, min_total, note, paid, parts, split, year",
		"dataset=customers from=2026-01-01":         "from is not a param of export customers xlsx; it takes dataset, format",
		"dataset=ledger":                            "account is missing; it must be a string",
		"dataset=orders from=yesterday":             "from must be a date like 2026-01-31",
		"dataset=orders at=2026-01-01":              "at must be a time like 2026-01-31T15:04:05Z",
		"dataset=orders limit=7.5":                  "limit must be an integer",
		"dataset=orders limit=0x10":                 "limit must be an integer",
		"dataset=orders min_total=NaN":              "min_total must be a number",
		"dataset=orders min_total=0x1p4":            "min_total must be a number",
		"dataset=orders paid=maybe":                 "paid must be true or false",
		"dataset=orders year=1999":                  "year must be one of 2025, 2026",
		"dataset=orders split=false parts=3":        "parts is not a param of export orders xlsx; it takes at, dataset, extra, format, from, limit, min_total, note, paid, split, year",
		"dataset=orders format=pdf":                 "format must be one of xlsx, csv",
		"dataset=customers header=yes":              "header is not a param of export customers xlsx; it takes dataset, format",
		"dataset=orders note":                       "--param note is not like name=value",
		"dataset=orders =x":                         "--param =x is not like name=value",
		"dataset=orders note=a note=a":              "the param note is given twice",
		"dataset=orders dataset=customers":          "the param dataset is given twice",
		"dataset=orders limit=99999999999999999999": "limit must be an integer",
	} {
		given := make(map[string]string)
		err := splitParams(given, strings.Fields(typed))
		if err == nil {
			before := maps.Clone(given)
			_, err = typeParams(exportKindFromJSON(t), given)
			if !maps.Equal(given, before) {
				t.Errorf("%s: what was typed became %v", typed, given)
			}
		}
		var usage *usageError
		if !errors.As(err, &usage) || usage.sentence != want {
			t.Errorf("%s: got %v, want %s", typed, err, want)
		}
	}
}

// The program knows every time zone, also where the system has none.
func TestZonesAreInTheProgram(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Fields(string(out)), "time/tzdata") {
		t.Error("the program is built without time/tzdata")
	}
}
