package main

import (
	"reflect"
	"strings"
	"unsafe"
)

// hideSecrets returns a copy of the process's arguments, and overwrites in place the values of those that hold secrets:
// every user of the machine can read the arguments of all processes (ps, /proc/PID/cmdline). The secrets are visible for a
// moment, so files are better.
//
// It works where Go's os.Args are the memory that the system reads the arguments from, as on Linux. args must be those of
// the process: writing to a constant would crash.
func hideSecrets(args []string) []string {
	kept := make([]string, len(args))
	for i, arg := range args {
		kept[i] = strings.Clone(arg)
	}
	kinds := secretFlags(reflect.TypeFor[CLI]())
	for i := 0; i < len(args); i++ {
		flag, isFlag := strings.CutPrefix(args[i], "--")
		name, value, hasValue := strings.Cut(flag, "=")
		kind, isSecret := kinds[name]
		if !isFlag || !isSecret {
			continue
		}
		if !hasValue {
			i++
			if i == len(args) {
				break
			}
			value = args[i]
		}
		if kind != "url" || strings.Contains(value, "@") || strings.Contains(value, "password") {
			overwrite(value)
		}
	}
	return kept
}

// overwrite writes over the bytes of s.
func overwrite(s string) {
	bytes := unsafe.Slice(unsafe.StringData(s), len(s))
	for i := range bytes {
		bytes[i] = 'x'
	}
}

// secretFlags returns the names of the flags with the tag secret, and the value of the tag: "url" is a URL that is secret only
// if it contains a login.
func secretFlags(t reflect.Type) map[string]string {
	flags := make(map[string]string)
	for i := range t.NumField() {
		f := t.Field(i)
		if kind, ok := f.Tag.Lookup("secret"); ok {
			name := f.Tag.Get("name")
			if name == "" {
				name = strings.ToLower(f.Name)
			}
			flags[name] = kind
		}
		if f.Type.Kind() == reflect.Struct {
			for name, kind := range secretFlags(f.Type) {
				flags[name] = kind
			}
		}
	}
	return flags
}
