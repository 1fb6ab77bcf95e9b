package jobs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Kind describes a type of job to those who ask for it. Workers publish the kinds they run; what is
// published is what [Queue.Enqueue] accepts.
type Kind struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Params are the params a job of this kind takes.
	Params []Param `json:"params"`
	// Open kinds take any other params as well, unchecked.
	Open bool `json:"open,omitempty"`
	// MaxAttempts is the limit for jobs that do not bring their own.
	MaxAttempts int `json:"max_attempts"`
	// MaxWaiting is how many jobs of this kind a user may have waiting. 0 means no limit.
	MaxWaiting int `json:"max_waiting,omitempty"`
	// Allow says who may enqueue jobs of this kind: those for whom one of the rules holds. Without rules, everybody.
	Allow []Rule `json:"allow,omitempty"`
	// Claims are the claims of the requester's token that a job takes with it. Without one of them it is refused.
	Claims []string `json:"claims,omitempty"`
}

// Param describes one param of a kind.
type Param struct {
	Name     string    `json:"name"`
	Title    string    `json:"title,omitempty"`
	Type     ParamType `json:"type"`
	Required bool      `json:"required,omitempty"`
	// Default is what stands for a param that is not given. It is filled in by [Kind.Check].
	Default any `json:"default,omitempty"`
	// MaxLength is how many bytes a text may have. Defaults to [MaxTextBytes].
	MaxLength int `json:"max_length,omitempty"`
	// Options, if any, are the only values allowed. An option can bring params of its own, which stand
	// beside this one.
	Options []Option `json:"options,omitempty"`
}

// Option is one allowed value of a param, and the further params that are taken with it.
type Option struct {
	Value  any     `json:"value"`
	Title  string  `json:"title,omitempty"`
	Params []Param `json:"params,omitempty"`
	// Allow and Claims are like those of [Kind], for jobs with this option.
	Allow  []Rule   `json:"allow,omitempty"`
	Claims []string `json:"claims,omitempty"`
}

// ParamType is the type of a param's value.
type ParamType string

// The types of params. In JSON, a date is "2006-01-02", a time is RFC 3339, and the others are what
// their names say; any is any JSON.
const (
	TypeString  ParamType = "string"
	TypeInteger ParamType = "integer"
	TypeNumber  ParamType = "number"
	TypeBoolean ParamType = "boolean"
	TypeDate    ParamType = "date"
	TypeTime    ParamType = "time"
	TypeAny     ParamType = "any"
)

// ParamTypes lists every type of param.
var ParamTypes = []ParamType{TypeString, TypeInteger, TypeNumber, TypeBoolean, TypeDate, TypeTime, TypeAny}

// Check returns params as the kind's handler will get them, defaults filled in, or an [*InvalidError]
// that names the first param that is missing (code param_missing), unknown (param_unknown) or of the
// wrong type or value (param_invalid).
func (k *Kind) Check(params json.RawMessage) (json.RawMessage, error) {
	given, err := decodeParams(params)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	if err := k.checkAll(k.Params, given, known); err != nil {
		return nil, err
	}
	for name := range given {
		if !known[name] && !k.Open {
			return nil, &InvalidError{Code: "param_unknown", Field: "params." + name, Reason: "is not a param of " + k.what(given) + "; " + takes(known)}
		}
	}
	return json.Marshal(given)
}

// title is what a job is called that brings no title: the kind's, and the option that says what it is about.
func (k *Kind) title(params json.RawMessage) string {
	given, err := decodeParams(params)
	if err != nil {
		return k.Title
	}
	for _, p := range k.Params {
		v, ok := given[p.Name]
		if !ok || !p.branches() {
			continue
		}
		for _, o := range p.Options {
			if o.Title != "" && sameValue(o.Value, v) {
				return k.Title + ": " + o.Title
			}
		}
	}
	return k.Title
}

func decodeParams(params json.RawMessage) (map[string]any, error) {
	given := make(map[string]any)
	if len(bytes.TrimSpace(params)) == 0 {
		return given, nil
	}
	dec := json.NewDecoder(bytes.NewReader(params))
	dec.UseNumber()
	if err := dec.Decode(&given); err != nil || given == nil {
		return nil, invalid("params", "must be a JSON object")
	}
	return given, nil
}

func (k *Kind) checkAll(params []Param, given map[string]any, known map[string]bool) error {
	for i := range params {
		p := &params[i]
		known[p.Name] = true
		v, ok := given[p.Name]
		if !ok || v == nil {
			delete(given, p.Name)
			if p.Default == nil && p.Required {
				return &InvalidError{Code: "param_missing", Field: "params." + p.Name, Reason: "is missing; it must be " + p.expects()}
			}
			if v = p.Default; v == nil {
				continue
			}
			given[p.Name] = v
		} else if most := p.most(v); most > 0 {
			return &InvalidError{Code: "param_invalid", Field: "params." + p.Name, Reason: fmt.Sprintf("must be shorter: at most %d bytes", most)}
		} else if !p.allows(v) {
			return &InvalidError{Code: "param_invalid", Field: "params." + p.Name, Reason: "must be " + p.expects()}
		}
		for _, option := range p.Options {
			if sameValue(option.Value, v) {
				if err := k.checkAll(option.Params, given, known); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// MaxTextBytes limits a text in the params of a job, unless its param says otherwise.
const MaxTextBytes = 16 << 10

// maxDigits limits a number: no database holds a longer one.
const maxDigits = 128

// most returns how many bytes v may have, if it has more. What is nested in objects is bounded by [MaxParamsBytes] alone.
func (p *Param) most(v any) int {
	length, most := 0, cmp.Or(p.MaxLength, MaxTextBytes)
	switch v := v.(type) {
	case string:
		length = len(v)
	case json.Number:
		length, most = len(v), maxDigits
	}
	if length > most {
		return most
	}
	return 0
}

// what names the kind, and the options that were chosen, in a sentence.
func (k *Kind) what(given map[string]any) string {
	s := k.Name
	for _, p := range k.Params {
		if v, ok := given[p.Name]; ok && p.branches() {
			s += fmt.Sprintf(" %.60v", v)
		}
	}
	return s
}

func takes(known map[string]bool) string {
	if len(known) == 0 {
		return "it takes none"
	}
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	return "it takes " + strings.Join(names, ", ")
}

// branches reports whether other params depend on the value of p.
func (p *Param) branches() bool {
	return slices.ContainsFunc(p.Options, func(o Option) bool { return len(o.Params) > 0 })
}

// allows reports whether v, decoded with UseNumber, is a value of the param.
func (p *Param) allows(v any) bool {
	if len(p.Options) > 0 {
		return slices.ContainsFunc(p.Options, func(o Option) bool { return sameValue(o.Value, v) })
	}
	return p.Type.Allows(v)
}

// Allows reports whether v, decoded from JSON with UseNumber, is of type t.
func (t ParamType) Allows(v any) bool {
	text, isText := v.(string)
	number, isNumber := v.(json.Number)
	switch t {
	case TypeString:
		return isText
	case TypeInteger:
		_, err := number.Int64()
		return isNumber && err == nil
	case TypeNumber:
		f, err := number.Float64()
		return isNumber && err == nil && !math.IsInf(f, 0)
	case TypeBoolean:
		_, ok := v.(bool)
		return ok
	case TypeDate:
		_, err := time.Parse(time.DateOnly, text)
		return isText && err == nil
	case TypeTime:
		_, err := time.Parse(time.RFC3339, text)
		return isText && err == nil
	case TypeAny:
		return true
	}
	return false
}

// expects says what the param must be, to follow "must be".
func (p *Param) expects() string {
	if len(p.Options) > 0 {
		values := make([]string, len(p.Options))
		for i, o := range p.Options {
			values[i] = fmt.Sprint(o.Value)
		}
		return "one of " + strings.Join(values, ", ")
	}
	switch p.Type {
	case TypeInteger:
		return "an integer"
	case TypeBoolean:
		return "true or false"
	case TypeDate:
		return "a date like 2026-01-31"
	case TypeTime:
		return "a time like 2026-01-31T15:04:05Z"
	case TypeAny:
		return "given"
	}
	return "a " + string(p.Type)
}

// sameValue compares an option, which may come from Go or from JSON, with a value given in JSON.
func sameValue(option, v any) bool {
	a, err1 := json.Marshal(option)
	b, err2 := json.Marshal(v)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}
