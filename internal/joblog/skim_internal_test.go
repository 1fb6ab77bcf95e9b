package joblog

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// An order is read without its params as it is read with them, whatever they hold.
func FuzzWithoutParams(f *testing.F) {
	for _, params := range []string{
		``, `{}`, `{"a":1}`, `{"params":{"params":[{}]},"max_attempts":7}`, `{"a":"\\\"}],"}`, `{"a":"\\"}`, `[1,2,"]"]`, `null`, `12`, `"x"`,
		`{"a":[[],{},"{"],"b":{"c":-1.5e7,"d":true}}`,
	} {
		f.Add("title", params)
		f.Add(`","params":{"x":"\`, params)
	}
	f.Fuzz(func(t *testing.T, title, params string) {
		want := Spec{ID: "X", Kind: "k", Title: strings.ToValidUTF8(title, ""), User: "u", Params: json.RawMessage(params), MaxAttempts: 3, CreatedAt: time.Unix(1, 0).UTC(), Run: 2}
		data, err := json.Marshal(&want)
		if err != nil {
			return // not JSON
		}
		var got Spec
		if err := json.Unmarshal(withoutParams(data), &got); err != nil {
			t.Fatalf("%s became %s: %v", data, withoutParams(data), err)
		}
		if want.Params = nil; !reflect.DeepEqual(got, want) {
			t.Fatalf("%s became %s", data, withoutParams(data))
		}
	})
}

// What is not such an object stays as it is, and nothing reads behind its end.
func TestWithoutParamsOfSomethingElse(t *testing.T) {
	for _, data := range []string{``, `{`, `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1}`, `{"a":1,`, `[1]`, `1`, `{"a" : 1}`, `{"params":{"a`, `{}`} {
		if got := string(withoutParams([]byte(data))); got != data {
			t.Errorf("%s became %s", data, got)
		}
	}
	for data, want := range map[string]string{`{"params":1}`: `{}`, `{"a":1,"params":1}`: `{"a":1}`, `{"params":1,"a":1}`: `{"a":1}`} {
		if got := string(withoutParams([]byte(data))); got != want {
			t.Errorf("%s became %s, want %s", data, got, want)
		}
	}
}
