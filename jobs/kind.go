package jobs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hark-jobs/hark/internal/exact"
)

// Kind describes a type of job. Workers publish the kinds that they run; jobs of published kinds can be enqueued.
type Kind struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Action is what a button says that enqueues a job, such as "Export". Defaults to "Start" and the title.
	Action string `json:"action,omitempty"`
	// Unit is what [Progress] counts, such as "rows". Defaults to nothing.
	Unit string `json:"unit,omitempty"`
	// Params are the params a job of this kind takes.
	Params []Param `json:"params"`
	// Open kinds take any other params as well, without checks.
	Open bool `json:"open,omitempty"`
	// MaxAttempts is the limit of attempts for jobs that do not set their own.
	MaxAttempts int `json:"max_attempts"`
	// MaxWaiting is how many jobs of this kind a user may have waiting. 0 means no limit.
	MaxWaiting int `json:"max_waiting,omitempty"`
	// Allow says who may enqueue jobs of this kind: those for whom one of the rules holds. Without rules, everybody.
	Allow []Rule `json:"allow,omitempty"`
	// Claims are the claims of the requester's token that are stored with a job. A job that lacks one of them is refused.
	Claims []string `json:"claims,omitempty"`
}

// Param describes one param of a kind.
type Param struct {
	Name     string    `json:"name"`
	Title    string    `json:"title,omitempty"`
	Type     ParamType `json:"type"`
	Required bool      `json:"required,omitempty"`
	// Default is the value of a param that is not given. [Kind.Check] fills it in.
	Default any `json:"default,omitempty"`
	// MaxLength is how many bytes a text may have. Defaults to [MaxTextBytes].
	MaxLength int `json:"max_length,omitempty"`
	// Minimum and Maximum are the least and the greatest number that is allowed. Nil means no limit.
	Minimum *float64 `json:"minimum,omitempty"`
	Maximum *float64 `json:"maximum,omitempty"`
	// NotBefore names another param of the same list, and of the same type: a date, a time or a number. Where both are
	// given, this one must not be the earlier or smaller one.
	NotBefore string `json:"not_before,omitempty"`
	// Options, if any, are the only values allowed. An option can add params of its own, beside this one.
	Options []Option `json:"options,omitempty"`
}

// Option is one allowed value of a param, and the further params that it adds.
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

// The types of params. In JSON, a date is "2006-01-02", a time is RFC 3339, a timezone is the name of a zone in the IANA
// database; any is any JSON.
const (
	TypeString  ParamType = "string" // without U+0000, which PostgreSQL cannot hold
	TypeInteger ParamType = "integer"
	TypeNumber  ParamType = "number"
	TypeBoolean ParamType = "boolean"
	TypeDate    ParamType = "date"
	TypeTime    ParamType = "time"
	// TypeTimezone is a name like Europe/Berlin, see [LoadZone]. The zones are those of this machine, or of the package time/tzdata where the
	// program imports it, as hark does.
	TypeTimezone ParamType = "timezone"
	TypeAny      ParamType = "any"
)

// ParamTypes lists every type of param.
var ParamTypes = []ParamType{TypeString, TypeInteger, TypeNumber, TypeBoolean, TypeDate, TypeTime, TypeTimezone, TypeAny}

// Check returns params as the handler will get them, with defaults filled in, or an [*InvalidError]: the first param
// that is missing (param_missing), unknown (param_unknown), of the wrong type or value (param_invalid), or twice in one
// object (param_duplicate). Names match exactly.
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

// JobTitle returns the default title of a job: the title of the kind, and of the option that describes the job.
func (k *Kind) JobTitle(params json.RawMessage) string { return cut(k.title(params), MaxTitleChars) }

// title returns the default title of a job.
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
	if len(bytes.TrimSpace(params)) == 0 {
		return make(map[string]any), nil
	}
	given, err := exact.Object(params)
	if twice := new(exact.NameError); errors.As(err, &twice) {
		return nil, &InvalidError{Code: "param_duplicate", Field: fmt.Sprintf("params.%.60s", twice.Path), Reason: "stands twice in one object; give it once"}
	} else if err != nil {
		return nil, invalid("params", "must be a JSON object in UTF-8")
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
		} else if text, ok := v.(string); ok && p.Type == TypeString && strings.ContainsRune(text, 0) {
			return &InvalidError{Code: "param_invalid", Field: "params." + p.Name, Reason: "must not have the character U+0000, which PostgreSQL cannot hold"}
		} else if !p.Allows(v) {
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
	return checkOrder(params, given)
}

// MaxTextBytes limits a text in the params of a job, unless its param says otherwise.
const MaxTextBytes = 16 << 10

// maxDigits limits the digits of a number: no database holds a longer one.
const maxDigits = 128

// most returns the limit of bytes for v if v exceeds it. Values nested in objects are bounded by [MaxParamsBytes] only.
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

// Allows reports whether v, decoded from JSON with UseNumber, is a value of the param.
func (p *Param) Allows(v any) bool {
	if len(p.Options) > 0 {
		return slices.ContainsFunc(p.Options, func(o Option) bool { return sameValue(o.Value, v) })
	}
	return p.Type.Allows(v) && p.inRange(v)
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
	case TypeTimezone:
		_, err := LoadZone(text)
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
			if values[i] = fmt.Sprint(o.Value); !strings.ContainsFunc(values[i], isWordRune) {
				values[i] = strconv.Quote(values[i]) // punctuation that would be read as part of the sentence
			}
		}
		return "one of " + strings.Join(values, ", ")
	}
	switch p.Type {
	case TypeInteger:
		return "an integer" + p.rangeText()
	case TypeNumber:
		return "a number" + p.rangeText()
	case TypeBoolean:
		return "true or false"
	case TypeDate:
		return "a date like 2026-01-31"
	case TypeTime:
		return "a time like 2026-01-31T15:04:05Z"
	case TypeTimezone:
		return "a time zone of the IANA database, like Europe/Berlin or UTC"
	case TypeAny:
		return "given"
	}
	return "a " + string(p.Type)
}

func isWordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// sameValue compares an option, which may come from Go or from JSON, with a value given in JSON.
func sameValue(option, v any) bool {
	a, err1 := json.Marshal(option)
	b, err2 := json.Marshal(v)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}
