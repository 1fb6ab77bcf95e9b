package exact_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/exact"
)

type embedded struct {
	Deep string `json:"deep"`
}

type body struct {
	embedded
	User  string          `json:"user"`
	Plain int             // its name is its field's
	Skip  string          `json:"-"`
	Raw   json.RawMessage `json:"raw,omitempty"`
	At    time.Time       `json:"at"`
	Any   map[string]any  `json:"any"`
	List  []body          `json:"list"`
	In    *body           `json:"in"`
	By    map[string]body `json:"by"`
}

// TestNamesAreExact holds what is taken and what is refused, and where it is said to stand.
func TestNamesAreExact(t *testing.T) {
	for _, c := range []struct {
		text  string
		fault exact.Fault // -1 means none
		path  string
	}{
		{`{"user":"ana","Plain":1,"deep":"x","at":"2026-01-02T03:04:05Z"}`, -1, ""},
		{` { "user" : "ana" , "list" : [ ] , "in" : { } , "raw" : [ 1 , -2.5e3 , true , null ] } `, -1, ""},
		{`{"user":"a:\"b\",{\\","any":{"user":1,"USER":2,"list":[{"user":1},{"user":2}]}}`, -1, ""},
		{`{"us\u0065r":"ana"}`, -1, ""},
		{`{"user":"ana","USER":"bob"}`, exact.Case, "USER"},
		{`{"u\u017fer":"bob"}`, exact.Case, "uſer"}, // which folds to s
		{`{"plain":1}`, exact.Case, "plain"},
		{`{"Deep":"x"}`, exact.Case, "Deep"},
		{`{"in":{"list":[{},{"User":"bob"}]}}`, exact.Case, "in.list[1].User"},
		{`{"by":{"x":{"User":"bob"}}}`, exact.Case, "by.x.User"},
		{`{"user":"ana","user":"bob"}`, exact.Twice, "user"},
		{`{"user":"ana","us\u0065r":"bob"}`, exact.Twice, "user"},
		{`{"nope":1}`, exact.Unknown, "nope"},
		{`{"Skip":"x"}`, exact.Unknown, "Skip"},
		{`{"embedded":{}}`, exact.Unknown, "embedded"},
		{`{"raw":{"a":{"b":1,"b":2}}}`, exact.Twice, "raw.a.b"},
		{`{"any":{"":1,"":2}}`, exact.Twice, "any."},
		{`{"any":{"\ud800":1,"\ud801":2}}`, exact.Twice, "any.\ufffd"},
		{`{"list":[{"user":"a"},{"user":"b","user":"c"}]}`, exact.Twice, "list[1].user"},
	} {
		var got body
		err := exact.Decode([]byte(c.text), &got)
		var wrong *exact.NameError
		if c.fault < 0 && err != nil || c.fault >= 0 && (!errors.As(err, &wrong) || wrong.Fault != c.fault || wrong.Path != c.path) {
			t.Errorf("%s: %v, want fault %d at %q", c.text, err, c.fault, c.path)
		}
		err = exact.DecodeKnown([]byte(c.text), &got)
		if want := c.fault == exact.Case || c.fault == exact.Twice; want != (err != nil) {
			t.Errorf("%s with unknown names: %v", c.text, err)
		}
	}
	for _, text := range []string{"", "{", "{} {}", "{}]", "\"\xff\"", strings.Repeat("[", 20000)} {
		if err := exact.Names([]byte(text)); !errors.Is(err, exact.ErrNotJSON) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	for _, text := range []string{"null", "[]", "7", `"x"`} {
		if _, err := exact.Object([]byte(text)); !errors.Is(err, exact.ErrNotObject) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// An error about a name costs no more than the text, however deep the name stands, and says only the end of the path.
func TestDeepNamesCostLittle(t *testing.T) {
	const depth = 9000
	long := strings.Repeat("n", 95)
	text := []byte(strings.Repeat(`{"`+long+`":`, depth) + `{"x":1,"x":2}` + strings.Repeat("}", depth))
	var err error
	allocated := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			err = exact.Names(text)
		}
	}).AllocedBytesPerOp()
	wrong, _ := errors.AsType[*exact.NameError](err)
	if wrong == nil || len(wrong.Path) > 1000 || !strings.HasPrefix(wrong.Path, "….") || !strings.HasSuffix(wrong.Path, long+".x") {
		t.Fatalf("%v", err)
	}
	if most := int64(20 * len(text)); allocated > most { // 4,600 times as much as the text if each level copies the path
		t.Errorf("a text of %d bytes took %d of memory, want at most %d", len(text), allocated, most)
	}
}

// FuzzNames compares the walk with what encoding/json finds: the map that it decodes has as many members as the text.
func FuzzNames(f *testing.F) {
	for _, text := range []string{`{"a":1,"a":2}`, `[{"a":[{"b":{}}]},1.5e3,"\\\"",null]`, ` {"\u0061" : [ ] , "a":{}}`, `{"list":[{"user":1}]}`, `[1e700]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		err := exact.Names(text)
		var v any
		if errors.Is(err, exact.ErrNotJSON) {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber() // a number may have any size
		if dec.Decode(&v) != nil {
			t.Fatalf("%q is not JSON, and %v", text, err)
		}
		if colons, members := countColons(text), countMembers(v); (colons == members) != (err == nil) {
			t.Fatalf("%q: %d names, of which %d count: %v", text, colons, members, err)
		}
		var plain, got body
		if exact.Decode(text, &got) == nil {
			if err := json.Unmarshal(text, &plain); err != nil || !reflect.DeepEqual(plain, got) {
				t.Fatalf("%q: %+v, and %+v by encoding/json: %v", text, got, plain, err)
			}
		}
	})
}

func countColons(text []byte) (n int) {
	inString := false
	for i := 0; i < len(text); i++ {
		switch {
		case inString && text[i] == '\\':
			i++
		case text[i] == '"':
			inString = !inString
		case text[i] == ':' && !inString:
			n++
		}
	}
	return n
}

func countMembers(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		n = len(v)
		for _, one := range v {
			n += countMembers(one)
		}
	case []any:
		for _, one := range v {
			n += countMembers(one)
		}
	}
	return n
}

func BenchmarkNames(b *testing.B) {
	one := `{"user":"ana","type":"invoice.paid","title":"Invoice 7 was paid","link":"/invoices/7","data":{"n":7}}`
	text := []byte("[" + strings.Repeat(one+",", 999) + one + "]")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := exact.Names(text); err != nil {
			b.Fatal(fmt.Sprint(err))
		}
	}
}
