package export

import "strings"

// numberFormats are the Excel number formats of the named formats.
var numberFormats = map[string]string{
	"date":     "yyyy-mm-dd",
	"datetime": "yyyy-mm-dd hh:mm:ss",
	"money":    "#,##0.00",
	"percent":  "0.00%",
	"text":     "@",
}

const formatExpected = `date, datetime, money, percent, text, or an Excel number format like "0.000", with letters that mean nothing in it in quotes`

// maxWidth is the largest width of a column in Excel, in characters.
const maxWidth = 255

func columns(n node) (map[string]Column, error) {
	entries, err := n.mapping("the columns, each under its name in the query")
	if err != nil {
		return nil, err
	}
	columns := make(map[string]Column, len(entries))
	for _, e := range entries {
		fields, err := e.node.mapping("title, format, width or utc", "title", "format", "width", "utc")
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
			case "utc":
				c.UTC, err = f.node.boolean()
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

// validFormat reports whether f is a named format or an Excel number format.
func validFormat(f string) bool {
	_, ok := readFormat(f)
	return ok
}

// readFormat parses a named format or an Excel number format.
func readFormat(f string) (numberFormat, bool) {
	if named := numberFormats[f]; named != "" {
		f = named
	}
	return parseNumberFormat(f)
}

// isDateFormat reports whether a format shows a number as a date or a time.
func isDateFormat(f string) bool {
	format, ok := readFormat(f)
	return ok && format.isDate()
}

// isTextFormat reports whether a format has only a placeholder for a text.
func isTextFormat(f string) bool {
	format, ok := readFormat(f)
	return ok && format.isText()
}

// sheetName returns a valid name of a sheet: at most 31 UTF-16 units, none of :\/?*[], no ' at the ends.
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

// maxSheetName is the largest length of a sheet's name, in UTF-16 units.
const maxSheetName = 31

// cutUTF16 returns the longest prefix of s with at most max UTF-16 units.
func cutUTF16(s string, max int) string {
	if len(s) <= max {
		return s
	}
	n := 0
	for i, r := range s {
		n++
		if r > 0xffff {
			n++
		}
		if n > max {
			return s[:i]
		}
	}
	return s
}
