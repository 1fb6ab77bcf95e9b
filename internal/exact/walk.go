package exact

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// walker steps through valid JSON, and looks at the names.
type walker struct {
	data   []byte
	i      int // where the next byte stands
	strict bool
}

// place is where a value stands.
type place struct {
	in    *place // nil for what stands in the outermost value
	name  string // of a member
	index int    // of an element; -1 for a member
}

// maxPath is how many bytes of a path an error has, with the last name whole. A body can have a path as long as itself.
const maxPath = 256

// String returns the path to p, without its beginning if it is longer than maxPath.
func (p *place) String() string {
	var parts []string
	length := 0
	for ; p != nil && length <= maxPath; p = p.in {
		part := p.name
		switch {
		case p.index >= 0:
			part = "[" + strconv.Itoa(p.index) + "]"
		case p.in != nil:
			part = "." + p.name
		}
		parts = append(parts, part)
		length += len(part)
	}
	if p != nil {
		parts = append(parts, "…")
	}
	slices.Reverse(parts)
	return strings.Join(parts, "")
}

// value steps over a value that is to be decoded into type t. A nil type says that it may have any names.
func (w *walker) value(t reflect.Type, at *place) error {
	switch w.next() {
	case '{':
		return w.object(shapeOf(t), at)
	case '[':
		index := -1
		element := shapeOf(t).element
		return w.each(']', func() error {
			index++
			return w.value(element, &place{in: at, index: index})
		})
	case '"':
		w.text()
	default: // a number or a word
		for w.i < len(w.data) && bytes.IndexByte([]byte(" \t\r\n,]}"), w.data[w.i]) < 0 {
			w.i++
		}
	}
	return nil
}

func (w *walker) object(s shape, at *place) error {
	names := make(map[string]bool)
	return w.each('}', func() error {
		name := w.text()
		here := &place{in: at, name: name, index: -1}
		if names[name] {
			return &NameError{Fault: Twice, Name: name, Path: here.String()}
		}
		names[name] = true
		t, known := s.fields[name]
		if s.fields == nil {
			t = s.element
		} else if !known {
			if err := w.unknown(s, here); err != nil {
				return err
			}
		}
		w.next()
		w.i++ // the colon
		return w.value(t, here)
	})
}

// unknown returns what is wrong with a name that no field has.
func (w *walker) unknown(s shape, at *place) error {
	for field := range s.fields {
		if strings.EqualFold(field, at.name) { // as encoding/json matches them
			return &NameError{Fault: Case, Name: at.name, Path: at.String(), Field: field}
		}
	}
	if w.strict {
		return &NameError{Fault: Unknown, Name: at.name, Path: at.String()}
	}
	return nil
}

// each calls one at the beginning of each member or element, up to the bracket that ends them.
func (w *walker) each(end byte, one func() error) error {
	w.i++
	for w.next() != end {
		if err := one(); err != nil {
			return err
		}
		if w.next() == ',' {
			w.i++
		}
	}
	w.i++
	return nil
}

// next steps over white space, and returns the byte behind it.
func (w *walker) next() byte {
	for bytes.IndexByte([]byte(" \t\r\n"), w.data[w.i]) >= 0 {
		w.i++
	}
	return w.data[w.i]
}

// text steps over a string and returns it.
func (w *walker) text() string {
	start := w.i
	for w.i++; w.data[w.i] != '"'; w.i++ {
		if w.data[w.i] == '\\' {
			w.i++
		}
	}
	w.i++
	quoted := w.data[start:w.i]
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // it is valid
	return s
}
