package jobs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/hark-jobs/hark/internal/exact"
)

// Defaults of [Define].
const (
	defaultMaxAttempts = 3
	defaultMaxWaiting  = 1000
)

// Definition is a kind with params of type P. The worker that runs the jobs and the program that enqueues them share one
// definition, so the compiler checks the params of both. [Define] makes one.
type Definition[P any] struct {
	kind Kind
	err  error
}

// Define defines a kind, most often as a variable of a package that both sides import:
//
//	var Report = jobs.Define[ReportParams](jobs.Kind{Name: "report", Title: "Report"})
//
// Params are derived from the JSON fields of P, unless kind has params or is open. Fields without omitempty or omitzero are
// required. A text may have up to [MaxTextBytes] bytes, or as many as its tag says, as in `maxlength:"200000"`. Tags like
// `minimum:"1" maximum:"500"` bound a number. Names match exactly, unlike in encoding/json. If P is not a struct, such as a
// map, the kind takes any params.
//
// Title defaults to the name, MaxAttempts to 3 and MaxWaiting to 1,000; a negative MaxWaiting means no limit. Everything that
// uses an invalid definition returns its error: see [Definition.Err].
func Define[P any](kind Kind) Definition[P] {
	var err error
	if kind.Params == nil && !kind.Open {
		kind.Params, kind.Open, err = paramsOf(reflect.TypeFor[P]())
	}
	if kind.Title == "" {
		kind.Title = kind.Name
	}
	if kind.MaxAttempts == 0 {
		kind.MaxAttempts = defaultMaxAttempts
	}
	switch {
	case kind.MaxWaiting == 0:
		kind.MaxWaiting = defaultMaxWaiting
	case kind.MaxWaiting < 0:
		kind.MaxWaiting = 0
	}
	return Definition[P]{kind, err}
}

// Kind returns the kind as it is published, its defaults filled in.
func (d Definition[P]) Kind() Kind { return d.kind }

// Err returns the error of an invalid definition, or nil.
func (d Definition[P]) Err() error {
	k := &d.kind
	if err := CheckKind(k.Name); err != nil {
		return err
	}
	if d.err != nil {
		return fmt.Errorf("kind %s: %w", k.Name, d.err)
	}
	if k.MaxAttempts < 1 || k.MaxAttempts > MaxMaxAttempts {
		return fmt.Errorf("kind %s: max attempts must be 1 to %d", k.Name, MaxMaxAttempts)
	}
	for i := range k.Allow {
		if err := k.Allow[i].Check(); err != nil {
			return fmt.Errorf("kind %s: %w", k.Name, err)
		}
	}
	return nil
}

// Encode returns params as JSON, for a [Request].
func (d Definition[P]) Encode(params P) (json.RawMessage, error) {
	raw, err := json.Marshal(params)
	if err != nil {
		return nil, fmt.Errorf("kind %s: params: %w", d.kind.Name, err)
	}
	return raw, nil
}

// Decode is the inverse of [Definition.Encode]. Without params it returns the zero value. A name that occurs twice in one
// object, or differs from a field's only in case, is an error: the handler gets what [Kind.Check] has checked.
func (d Definition[P]) Decode(raw json.RawMessage) (params P, err error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return params, nil
	}
	err = exact.DecodeKnown(raw, &params)
	return params, err
}

// paramsOf derives params from the fields of a struct type, as encoding/json sees them. Other types, such as maps, make the
// kind open. It returns an error for an invalid tag.
func paramsOf(t reflect.Type) (params []Param, open bool, err error) {
	if t.Kind() != reflect.Struct {
		return nil, true, nil
	}
	for _, field := range reflect.VisibleFields(t) {
		name, rest, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || field.Anonymous || name == "-" {
			continue
		}
		if name == "" {
			name = field.Name
		}
		optional := strings.Contains(rest, "omitempty") || strings.Contains(rest, "omitzero") || field.Type.Kind() == reflect.Pointer
		p := Param{Name: name, Type: paramType(field.Type), Required: !optional}
		if err := readTags(&p, field.Tag); err != nil {
			return nil, false, fmt.Errorf("param %s: %w", name, err)
		}
		params = append(params, p)
	}
	return params, false, nil
}

// readTags reads the limits of a param from the tags of its field.
func readTags(p *Param, tag reflect.StructTag) (err error) {
	if text, ok := tag.Lookup("maxlength"); ok {
		if p.MaxLength, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("maxlength: %w", err)
		}
	}
	for name, limit := range map[string]**float64{"minimum": &p.Minimum, "maximum": &p.Maximum} {
		if text, ok := tag.Lookup(name); ok {
			f, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			*limit = &f
		}
	}
	return nil
}

func paramType(t reflect.Type) ParamType {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return TypeString
	case reflect.Bool:
		return TypeBoolean
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return TypeInteger
	case reflect.Float32, reflect.Float64:
		return TypeNumber
	}
	if t == reflect.TypeFor[time.Time]() {
		return TypeTime
	}
	return TypeAny
}
