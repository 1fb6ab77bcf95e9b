package export

import (
	"strings"
)

// numberFormats are the formats that have a name, as Excel number formats.
var numberFormats = map[string]string{
	"date":     "yyyy-mm-dd",
	"datetime": "yyyy-mm-dd hh:mm:ss",
	"money":    "#,##0.00",
	"percent":  "0.00%",
	"text":     "@",
}

const formatExpected = `date, datetime, money, percent, text, or an Excel number format like "0.000"`

// maxWidth is the widest a column can be in Excel, in characters.
const maxWidth = 255

func columns(n node) (map[string]Column, error) {
	entries, err := n.mapping("the columns, each under its name in the query")
	if err != nil {
		return nil, err
	}
	columns := make(map[string]Column, len(entries))
	for _, e := range entries {
		fields, err := e.node.mapping("title, format or width", "title", "format", "width")
		if err != nil {
			return nil, err
		}
		var c Column
		for _, f := range fields {
			switch f.name {
			case "title":
				c.Title, err = title(f.node)
			case "format":
				if c.Format, err = f.node.text(formatExpected); err == nil && !validFormat(c.Format) {
					err = f.node.errorf("is %.60q; expected %s", c.Format, formatExpected)
				}
			case "width":
				const expected = "a number of characters from 1 to 255"
				if c.Width, _, err = f.node.number(expected); err == nil && !(c.Width >= 1 && c.Width <= maxWidth) {
					err = f.node.errorf("is %v; expected %s", c.Width, expected)
				}
			}
			if err != nil {
				return nil, err
			}
		}
		columns[e.name] = c
	}
	return columns, nil
}

// validFormat reports whether f has a name or can be an Excel number format: those hold a placeholder for a
// digit or for text, or nothing but letters of a date. A misspelt name is neither.
func validFormat(f string) bool {
	if numberFormats[f] != "" {
		return true
	}
	if len(f) > 255 || strings.ContainsFunc(f, func(r rune) bool { return r < ' ' }) {
		return false
	}
	return strings.ContainsAny(f, "0#?@") || isDateFormat(f)
}

// isDateFormat reports whether an Excel number format shows a date or a time: without its quoted and
// bracketed parts it has letters of a date, and neither other letters nor placeholders for digits.
func isDateFormat(f string) bool {
	switch f {
	case "date", "datetime":
		return true
	}
	var quoted, bracketed, letters bool
	for i := 0; i < len(f); i++ {
		switch c := f[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '\\':
			i++
		case c == '[' || c == ']':
			bracketed = c == '['
		case bracketed:
		case strings.IndexByte("ymdhsYMDHS", c) >= 0:
			letters = true
		case strings.HasPrefix(strings.ToUpper(f[i:]), "AM/PM"):
			i += len("AM/PM") - 1
		case strings.HasPrefix(f[i:], ".0"): // fractions of a second
			i++
		case c == '0' || c == '#' || c == '?' || c == '@' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			return false
		}
	}
	return letters
}

// sheetName makes a valid name of a sheet: at most 31 UTF-16 units, none of :\/?*[], no ' at the ends.
func sheetName(title string) string {
	name := strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune(`:\/?*[]`, r) {
			return '-'
		}
		return r
	}, title)
	name = strings.Trim(cutUTF16(name, maxSheetName), "' ")
	if name == "" {
		return "Export"
	}
	return name
}

// maxSheetName is how long the name of a sheet can be, in UTF-16 units.
const maxSheetName = 31

// cutUTF16 returns the beginning of s that takes at most max UTF-16 units.
func cutUTF16(s string, max int) string {
	if len(s) <= max {
		return s
	}
	n := 0
	for i, r := range s {
		if n++; r > 0xffff {
			n++
		}
		if n > max {
			return s[:i]
		}
	}
	return s
}
