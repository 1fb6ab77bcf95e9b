package exact

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// shape is what names the objects of a type may have.
type shape struct {
	fields  map[string]reflect.Type // of a struct; nil if any names may stand there
	element reflect.Type            // of a map, slice or array; nil if it is not known
}

var shapes sync.Map // of reflect.Type

var (
	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func shapeOf(t reflect.Type) shape {
	for t != nil && t.Kind() == reflect.Pointer && !decodesItself(t) {
		t = t.Elem()
	}
	if t == nil || decodesItself(t) {
		return shape{}
	}
	switch t.Kind() {
	case reflect.Map, reflect.Slice, reflect.Array:
		return shape{element: t.Elem()}
	case reflect.Struct:
		if s, ok := shapes.Load(t); ok {
			return s.(shape)
		}
		s := shape{fields: make(map[string]reflect.Type)}
		s.add(t, make(map[reflect.Type]bool))
		shapes.Store(t, s)
		return s
	}
	return shape{}
}

func decodesItself(t reflect.Type) bool {
	for _, i := range []reflect.Type{unmarshaler, textUnmarshaler} {
		if t.Implements(i) || reflect.PointerTo(t).Implements(i) {
			return true
		}
	}
	return false
}

// add adds the fields of a struct, and those of the structs embedded in it, by the names that encoding/json has for them.
// Of two with one name the outer one counts.
func (s *shape) add(t reflect.Type, seen map[reflect.Type]bool) {
	if seen[t] {
		return // it is embedded in itself
	}
	seen[t] = true
	var embedded []reflect.Type
	for i := range t.NumField() {
		field := t.Field(i)
		tag := field.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		under := field.Type
		if under.Kind() == reflect.Pointer {
			under = under.Elem()
		}
		switch {
		case tag == "-":
		case field.Anonymous && name == "" && under.Kind() == reflect.Struct:
			embedded = append(embedded, under)
		case field.IsExported():
			if name == "" {
				name = field.Name
			}
			if _, outer := s.fields[name]; !outer {
				s.fields[name] = field.Type
			}
		}
	}
	for _, e := range embedded {
		s.add(e, seen)
	}
}
