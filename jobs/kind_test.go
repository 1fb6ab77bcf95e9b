package jobs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/jobs"
)

var exportLike = jobs.Kind{Name: "export", Params: []jobs.Param{
	{Name: "dataset", Type: jobs.TypeString, Required: true, Options: []jobs.Option{
		{Value: "orders", Params: []jobs.Param{{Name: "from", Type: jobs.TypeDate, Required: true}, {Name: "min", Type: jobs.TypeNumber}}},
		{Value: "products"},
	}},
	{Name: "format", Type: jobs.TypeString, Default: "xlsx", Options: []jobs.Option{{Value: "xlsx"}, {Value: "csv"}}},
	{Name: "note", Type: jobs.TypeString}, {Name: "long", Type: jobs.TypeString, MaxLength: 100_000}, {Name: "r", Type: jobs.TypeNumber},
	{Name: "n", Type: jobs.TypeInteger}, {Name: "b", Type: jobs.TypeBoolean}, {Name: "at", Type: jobs.TypeTime}, {Name: "x", Type: jobs.TypeAny},
	{Name: "zone", Type: jobs.TypeTimezone},
}}

func TestKindCheck(t *testing.T) {
	for params, want := range map[string]string{
		`{"dataset":"products"}`:                                  `{"dataset":"products","format":"xlsx"}`,
		`{"dataset":"orders","from":"2026-01-31","format":"csv"}`: `{"dataset":"orders","format":"csv","from":"2026-01-31"}`,
		`{"dataset":"products","n":7,"b":false,"x":[1,{}]}`:       `{"b":false,"dataset":"products","format":"xlsx","n":7,"x":[1,{}]}`,
		`{"dataset":"products","n":null}`:                         `{"dataset":"products","format":"xlsx"}`,
		`{"dataset":"products","n":9007199254740993}`:             `{"dataset":"products","format":"xlsx","n":9007199254740993}`,
		`{"dataset":"products","at":"2026-01-31T10:00:00+02:00"}`: `{"at":"2026-01-31T10:00:00+02:00","dataset":"products","format":"xlsx"}`,
		`{"dataset":"products","zone":"Europe/Berlin"}`:           `{"dataset":"products","format":"xlsx","zone":"Europe/Berlin"}`,
		`{"dataset":"orders","from":"2026-01-31","min":1.50}`:     `{"dataset":"orders","format":"xlsx","from":"2026-01-31","min":1.50}`,
	} {
		if got, err := exportLike.Check(json.RawMessage(params)); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", params, got, err)
		}
	}
	for params, want := range map[string]jobs.InvalidError{
		``:                      {Code: "param_missing", Field: "params.dataset"},
		`[]`:                    {Code: "invalid_request", Field: "params"},
		`null`:                  {Code: "invalid_request", Field: "params"},
		`{"dataset":"nothing"}`: {Code: "param_invalid", Field: "params.dataset"},
		`{"dataset":7}`:         {Code: "param_invalid", Field: "params.dataset"},
		`{"dataset":"orders"}`:  {Code: "param_missing", Field: "params.from"},
		`{"dataset":"orders","from":"yesterday"}`:      {Code: "param_invalid", Field: "params.from"},
		`{"dataset":"orders","from":"2026-02-30"}`:     {Code: "param_invalid", Field: "params.from"},
		`{"dataset":"products","from":"2026-01-31"}`:   {Code: "param_unknown", Field: "params.from"},
		`{"dataset":"products","n":1.5}`:               {Code: "param_invalid", Field: "params.n"},
		`{"dataset":"products","n":"1"}`:               {Code: "param_invalid", Field: "params.n"},
		`{"dataset":"products","b":"true"}`:            {Code: "param_invalid", Field: "params.b"},
		`{"dataset":"products","at":"2026-01-31"}`:     {Code: "param_invalid", Field: "params.at"},
		`{"dataset":"products","zone":"Mars/Base"}`:    {Code: "param_invalid", Field: "params.zone"},
		`{"dataset":"products","zone":"Local"}`:        {Code: "param_invalid", Field: "params.zone"},
		`{"dataset":"products","zone":"localtime"}`:    {Code: "param_invalid", Field: "params.zone"},
		`{"dataset":"products","zone":"right/UTC"}`:    {Code: "param_invalid", Field: "params.zone"},
		`{"dataset":"products","zone":""}`:             {Code: "param_invalid", Field: "params.zone"},
		`{"dataset":"products","zone":"../zone"}`:      {Code: "param_invalid", Field: "params.zone"},
		`{"dataset":"products","zone":2}`:              {Code: "param_invalid", Field: "params.zone"},
		`{"dataset":"products","N":1}`:                 {Code: "param_unknown", Field: "params.N"},
		`{"dataset":"products","n":1,"n":2}`:           {Code: "param_duplicate", Field: "params.n"},
		`{"dataset":"products","x":{"a":1,"a":1}}`:     {Code: "param_duplicate", Field: "params.x.a"},
		"{\"dataset\":\"products\",\"note\":\"\xff\"}": {Code: "invalid_request", Field: "params"},
	} {
		_, err := exportLike.Check(json.RawMessage(params))
		var got *jobs.InvalidError
		if !errors.As(err, &got) || got.Code != want.Code || got.Field != want.Field {
			t.Errorf("%s: %v", params, err)
		}
	}
}

// No param is longer than anybody needs: not a text, nor a number.
func TestParamsAreBounded(t *testing.T) {
	long := func(n int) string { return strings.Repeat("7", n) }
	for params, ok := range map[string]bool{
		`"note":"` + long(16<<10) + `"`:                    true,
		`"note":"` + long(16<<10+1) + `"`:                  false,
		`"long":"` + long(100_000) + `"`:                   true,
		`"long":"` + long(100_001) + `"`:                   false,
		`"r":0.` + long(100):                               true,
		`"r":0.` + long(250_000):                           false,
		`"at":"2026-01-31T10:00:00.` + long(17_000) + `Z"`: false,
		`"x":"` + long(17_000) + `"`:                       false,
		`"x":["` + long(17_000) + `"]`:                     true,
	} {
		_, err := exportLike.Check(json.RawMessage(`{"dataset":"products",` + params + `}`))
		var invalid *jobs.InvalidError
		if errors.As(err, &invalid); (err == nil) != ok || err != nil && (invalid == nil || invalid.Code != "param_invalid" || len(err.Error()) > 200) {
			t.Errorf("%.40s…: %.200v", params, err)
		}
	}
}

// A text that no database can hold is the user's mistake, and no job that fails.
func TestParamsHaveNoNul(t *testing.T) {
	for params, ok := range map[string]bool{
		`"note":"a\u0000b"`:            false,
		`"long":"\u0000"`:              false,
		`"format":"csv\u0000"`:         false,
		`"at":"2026-01-31\u0000"`:      false,
		`"x":"any\u0000"`:              true, // as a handler of its own may want it
		`"note":"\u0001\u001f\\u0000"`: true,
	} {
		_, err := exportLike.Check(json.RawMessage(`{"dataset":"products",` + params + `}`))
		var invalid *jobs.InvalidError
		if errors.As(err, &invalid); (err == nil) != ok || err != nil && (invalid == nil || invalid.Code != "param_invalid") {
			t.Errorf("%s: %v", params, err)
		}
	}
}

// Whatever is asked for, it is refused as the user's mistake, or it is params that pass again unchanged.
func FuzzKindCheck(f *testing.F) {
	for _, params := range []string{``, `{}`, `{"dataset":"orders","from":"2026-01-31"}`, `{"dataset":"products","n":1e3,"x":{"a":[]}}`, `{"dataset":"products","dataset":"orders"}`, `{"n":1e999}`, "\xff", `{"a":`} {
		f.Add([]byte(params))
	}
	f.Fuzz(func(t *testing.T, params []byte) {
		checked, err := exportLike.Check(params)
		if err != nil {
			var invalid *jobs.InvalidError
			if !errors.As(err, &invalid) || invalid.Code == "" || invalid.Field == "" {
				t.Fatalf("%q: %v", params, err)
			}
			return
		}
		again, err := exportLike.Check(checked)
		if err != nil || string(again) != string(checked) {
			t.Fatalf("%q becomes %s, and that %s, %v", params, checked, again, err)
		}
	})
}

// A range must not end before it begins: such params would silently select nothing.
func TestParamsInOrder(t *testing.T) {
	kind := jobs.Kind{Name: "ranges", Params: []jobs.Param{
		{Name: "from", Type: jobs.TypeDate}, {Name: "to", Type: jobs.TypeDate, NotBefore: "from", Default: "2026-06-30"},
		{Name: "begin", Type: jobs.TypeTime}, {Name: "end", Type: jobs.TypeTime, NotBefore: "begin"},
		{Name: "low", Type: jobs.TypeNumber}, {Name: "high", Type: jobs.TypeNumber, NotBefore: "low"},
	}}
	for params, field := range map[string]string{
		`{"from":"2026-01-31","to":"2026-01-31"}`:                            "",
		`{"from":"2026-01-31"}`:                                              "",
		`{"to":"2026-01-31"}`:                                                "",
		`{"from":"2026-02-01","to":"2026-01-31"}`:                            "params.to",
		`{"from":"2026-07-01"}`:                                              "params.to", // by default
		`{"begin":"2026-01-31T10:00:00+05:00","end":"2026-01-31T06:00:00Z"}`: "",
		`{"begin":"2026-01-31T10:00:00Z","end":"2026-01-31T11:00:00+05:00"}`: "params.end",
		`{"begin":"2026-01-31T10:00:00.5Z","end":"2026-01-31T10:00:00.25Z"}`: "params.end",
		`{"low":9,"high":10}`:                                                "",
		`{"low":10,"high":9.5}`:                                              "params.high",
	} {
		_, err := kind.Check(json.RawMessage(params))
		invalid, _ := errors.AsType[*jobs.InvalidError](err)
		if (err == nil) != (field == "") || err != nil && (invalid == nil || invalid.Code != "param_invalid" || invalid.Field != field) {
			t.Errorf("%s: %v", params, err)
		}
	}
}

func TestNumbersInRange(t *testing.T) {
	kind := jobs.Kind{Name: "ranges", Params: []jobs.Param{
		{Name: "pages", Type: jobs.TypeInteger, Minimum: new(1.0), Maximum: new(500.0)}, {Name: "debt", Type: jobs.TypeNumber, Maximum: new(0.0)},
	}}
	for params, want := range map[string]string{
		`{"pages":1,"debt":-0.5}`: "",
		`{"pages":500,"debt":0}`:  "",
		`{"pages":0}`:             "params.pages must be an integer from 1 to 500",
		`{"pages":501}`:           "params.pages must be an integer from 1 to 500",
		`{"debt":0.01}`:           "params.debt must be a number up to 0",
	} {
		_, err := kind.Check(json.RawMessage(params))
		if got := fmt.Sprint(err); want == "" && err != nil || want != "" && got != want {
			t.Errorf("%s: %v", params, err)
		}
	}
}
