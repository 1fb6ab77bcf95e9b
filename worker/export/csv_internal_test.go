package export

import (
	"bytes"
	"strings"
	"testing"
)

// For any two texts at any place in a row, no program that uses one of the separators finds a formula in them.
func FuzzNoTextOfACSVBecomesAFormula(f *testing.F) {
	for _, s := range []string{"=1+41", "note;=1+41", "-5", "a\"\n=1", "\ufeff\t\"=", "x\r\n,-2+3|cmd", "＝1", "\xff=1", `";=`, "-5,3+1"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, separator := range separators {
			var out bytes.Buffer
			bom := false
			cells := []cell{{kind: cellText, text: a}, {kind: cellInt, int: 7}, {kind: cellText, text: b}, {kind: cellEmpty}, {kind: cellText, text: a}}
			s, err := newCSV(&out, make([]column, len(cells)), CSVFormat{Separator: separator, Decimal: ".", BOM: &bom})
			if err == nil {
				err = s.write(cells)
			}
			if err == nil {
				err = s.close()
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, reads := range separators {
				for _, field := range looseFields(out.String(), reads.char()) {
					trimmed := strings.TrimLeftFunc(field, isBlank)
					if strings.IndexFunc(trimmed, isFormulaSign) != 0 || isNegativeNumber(trimmed) {
						continue
					}
					// No user's text follows a negative number in the same cell outside of quotes, so it makes no formula.
					ends := `"`
					if reads != separator {
						ends += string(separator.char())
					}
					if end := strings.IndexAny(trimmed, ends); end > 0 && isNegativeNumber(trimmed[:end]) {
						continue
					}
					t.Errorf("separator %q, read with %q: %q is a formula in %q", separator, reads, field, out.Bytes())
				}
			}
		}
	})
}

// looseFields reads a CSV like spreadsheets: a field that begins with a quote continues to the next single quote, and includes the
// text from there to the separator or the end of the line.
func looseFields(s string, separator byte) (fields []string) {
	for len(s) > 0 {
		var field []byte
		i := 0
		if s[0] == '"' {
			for i = 1; i < len(s); i++ {
				if s[i] == '"' {
					i++
					if i == len(s) || s[i] != '"' {
						break
					}
				}
				field = append(field, s[i])
			}
		}
		for ; i < len(s) && s[i] != separator && s[i] != '\r' && s[i] != '\n'; i++ {
			field = append(field, s[i])
		}
		fields = append(fields, string(field))
		s = s[min(i+1, len(s)):]
	}
	return fields
}
