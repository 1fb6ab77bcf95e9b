package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// errNames is what is wrong with an object that has a name twice.
var errNames = errors.New("a name stands twice in one object")

var errNotObject = errors.New("not one JSON object in UTF-8")

// exactObject decodes one JSON object that grants something. Numbers are [json.Number]. encoding/json alone is not exact
// enough for that: into a struct it takes "SUB" for "sub", and of two equal names it takes the last. So this decodes into
// a map, whose names are exact, and refuses an object that has a name twice, at any depth (RFC 7519, section 4; RFC 7515,
// section 4; RFC 7517, sections 4 and 5).
func exactObject(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errNotObject // two names or two users must never become one by what stands in for broken text
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); object == nil || !errors.Is(err, io.EOF) {
		return nil, errNotObject
	}
	return object, checkNames(data, object)
}

// checkNames returns an error if an object in valid JSON, which was decoded into a map, has a name twice: the map has
// fewer members then than the text.
func checkNames(data []byte, decoded map[string]any) error {
	if membersOf(data) != members(decoded) {
		return errNames
	}
	return nil
}

// membersOf counts the members of all objects in valid JSON: each has one colon outside of strings.
func membersOf(data []byte) (n int) {
	inString := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case c == ':' && !inString:
			n++
		}
	}
	return n
}

// members counts the members of all objects in a decoded value.
func members(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		n = len(v)
		for _, one := range v {
			n += members(one)
		}
	case []any:
		for _, one := range v {
			n += members(one)
		}
	}
	return n
}
