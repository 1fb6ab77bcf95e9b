package jobs_test

import (
	"encoding/json"
	"errors"
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
}}

func TestKindCheck(t *testing.T) {
	for params, want := range map[string]string{
		`{"dataset":"products"}`:                                  `{"dataset":"products","format":"xlsx"}`,
		`{"dataset":"orders","from":"2026-01-31","format":"csv"}`: `{"dataset":"orders","format":"csv","from":"2026-01-31"}`,
		`{"dataset":"products","n":7,"b":false,"x":[1,{}]}`:       `{"b":false,"dataset":"products","format":"xlsx","n":7,"x":[1,{}]}`,
		`{"dataset":"products","n":null}`:                         `{"dataset":"products","format":"xlsx"}`,
		`{"dataset":"products","n":9007199254740993}`:             `{"dataset":"products","format":"xlsx","n":9007199254740993}`,
		`{"dataset":"products","at":"2026-01-31T10:00:00+02:00"}`: `{"at":"2026-01-31T10:00:00+02:00","dataset":"products","format":"xlsx"}`,
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
		`{"dataset":"orders","from":"yesterday"}`:    {Code: "param_invalid", Field: "params.from"},
		`{"dataset":"orders","from":"2026-02-30"}`:   {Code: "param_invalid", Field: "params.from"},
		`{"dataset":"products","from":"2026-01-31"}`: {Code: "param_unknown", Field: "params.from"},
		`{"dataset":"products","n":1.5}`:             {Code: "param_invalid", Field: "params.n"},
		`{"dataset":"products","n":"1"}`:             {Code: "param_invalid", Field: "params.n"},
		`{"dataset":"products","b":"true"}`:          {Code: "param_invalid", Field: "params.b"},
		`{"dataset":"products","at":"2026-01-31"}`:   {Code: "param_invalid", Field: "params.at"},
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
