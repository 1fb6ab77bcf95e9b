// Package exact decodes JSON whose names count as they are written. [encoding/json] alone is not exact: into a struct it
// takes "USER" for "user", and of two equal names in one object it takes the last. So two programs that read the same
// text may see different values, of which only one was checked (RFC 8259, section 4, and RFC 8725, section 2.4, have the
// risks).
//
// Its functions block for nothing and are safe for concurrent use.
package exact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// ErrNotJSON says that a text is not one JSON value in UTF-8.
var ErrNotJSON = errors.New("not one JSON value in UTF-8")

// ErrNotObject says that a JSON value is not an object.
var ErrNotObject = errors.New("not a JSON object")

// Fault is what is wrong with a name.
type Fault int

// The faults of a name.
const (
	Twice   Fault = iota // it stands twice in one object
	Unknown              // the struct has no such field
	Case                 // the struct has no such field, but one that differs only in upper and lower case
)

// NameError is a name that stands where it must not.
type NameError struct {
	Fault Fault
	Name  string // the name itself
	Path  string // where it stands, like notifications[1].user
	Field string // for Case, the name that the struct has
}

func (e *NameError) Error() string {
	switch e.Fault {
	case Twice:
		return fmt.Sprintf("the name %.60q stands twice in one object", e.Path)
	case Case:
		return fmt.Sprintf("the name %.60q is not %q: upper and lower case count", e.Path, e.Field)
	}
	return fmt.Sprintf("the name %.60q is not known", e.Path)
}

// Names returns [ErrNotJSON], or a [*NameError] if an object in data has a name twice, at any depth and however it is
// escaped. A text that is not UTF-8 is refused: two names must not become one by what stands in for broken text.
func Names(data []byte) error { return check(data, nil, false) }

// Object decodes one JSON object into a map, with each number as a [json.Number]. It returns the errors of [Names],
// and [ErrNotObject].
func Object(data []byte) (map[string]any, error) {
	if err := Names(data); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var object map[string]any
	var wrongType *json.UnmarshalTypeError
	if err := dec.Decode(&object); errors.As(err, &wrongType) || err == nil && object == nil {
		return nil, ErrNotObject
	} else if err != nil {
		return nil, err
	}
	return object, nil
}

// Decode is [json.Unmarshal], but it refuses each name that is not exactly that of a field, and the errors of [Names].
// What a type with a method UnmarshalJSON reads is checked for names that stand twice alone.
func Decode(data []byte, v any) error { return decode(data, v, true) }

// DecodeKnown is [Decode], but it ignores names that no field has. A name that differs from a field's only in
// upper and lower case is refused: [json.Unmarshal] would take it.
func DecodeKnown(data []byte, v any) error { return decode(data, v, false) }

func decode(data []byte, v any, strict bool) error {
	if err := check(data, reflect.TypeOf(v), strict); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

func check(data []byte, t reflect.Type, strict bool) error {
	if !utf8.Valid(data) || !json.Valid(data) { // which bounds the depth, too
		return ErrNotJSON
	}
	w := walker{data: data, strict: strict}
	return w.value(t, nil)
}
