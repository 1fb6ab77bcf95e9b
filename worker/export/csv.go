package export

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// csvSheet writes rows as CSV (RFC 4180). Each text is quoted. Inside the quotes only quotes are doubled, and formulas are disabled
// (appendText). Unquoted fields are numbers, dates, TRUE, FALSE, or empty, which is NULL.
type csvSheet struct {
	out       *bufio.Writer
	separator byte
	decimal   byte
	row       []byte
}

func newCSV(w io.Writer, columns []column, f CSVFormat) (*csvSheet, error) {
	s := &csvSheet{out: bufio.NewWriterSize(w, 256<<10), separator: f.Separator.char(), decimal: f.Decimal[0]}
	if *f.BOM {
		if _, err := s.out.WriteString("\ufeff"); err != nil {
			return nil, err
		}
	}
	header := make([]cell, len(columns))
	for i, c := range columns {
		header[i].setText(c.title)
	}
	return s, s.write(header)
}

func (s Separator) char() byte {
	if s == Tab {
		return '\t'
	}
	return s[0]
}

func (s *csvSheet) write(cells []cell) error {
	row := s.row[:0]
	for i := range cells {
		if i > 0 {
			row = append(row, s.separator)
		}
		c, start := &cells[i], len(row)
		switch c.kind {
		case cellEmpty:
			if len(cells) == 1 {
				row = append(row, `""`...) // most readers ignore an empty line
			}
		case cellText:
			row = s.appendText(row, c.text)
		case cellInt, cellFloat, cellDecimal, cellDigits:
			row = c.appendPlain(row)
			if s.decimal != '.' {
				if point := bytes.IndexByte(row[start:], '.'); point >= 0 {
					row[start+point] = s.decimal
				}
			}
		default:
			row = c.appendPlain(row)
			if bytes.IndexByte(row[start:], s.separator) >= 0 || bytes.ContainsAny(row[start:], "\"\r\n") {
				plain := string(row[start:])
				row = append(row[:start], '"')
				row = append(append(row, strings.ReplaceAll(plain, `"`, `""`)...), '"')
			}
		}
	}
	s.row = append(row, "\r\n"...)
	_, err := s.out.Write(s.row)
	return err
}

// cellEnds are the characters that end a cell in CSV for some program: separators and ends of lines.
const cellEnds = ",;\t|\r\n"

// appendText appends a text in quotes, so that no program evaluates a part of it as a formula (OWASP, CSV Injection). A formula
// begins with = + - @ or the full-width form of one of them, after optional blanks, at the start of a cell. A cell starts at the
// start of the text, and after the end of a line or a separator other than the file's own: a program that expects another
// separator does not treat the quotes as quotes. There appendText inserts a '. A text that is a negative number is not a formula.
func (s *csvSheet) appendText(b []byte, text string) []byte {
	b = append(b, '"')
	begins := len(b) // the start of a possible cell, if only blanks have followed; otherwise -1
	for i := 0; i < len(text); {
		c := text[i]
		if begins < 0 && c < utf8.RuneSelf { // nearly always
			b = append(b, c)
			if c == '"' {
				b = append(b, '"')
			}
			i++
		} else {
			r, size := utf8.DecodeRuneInString(text[i:])
			if begins >= 0 && !isBlank(r) {
				if isFormulaSign(r) && !(i == 0 && isNegativeNumber(text)) {
					b = append(b, 0)
					copy(b[begins+1:], b[begins:])
					b[begins] = '\''
				}
				begins = -1
			}
			b = append(b, text[i:i+size]...)
			if r == '"' {
				b = append(b, '"')
			}
			i += size
		}
		if c != s.separator && strings.IndexByte(cellEnds, c) >= 0 {
			begins = len(b)
		}
	}
	return append(b, '"')
}

// isBlank reports whether a program may ignore r before a formula: spaces, invisible characters, and quotes.
func isBlank(r rune) bool {
	return r == '"' || unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) // includes the byte order mark
}

func isFormulaSign(r rune) bool {
	switch r {
	case '=', '+', '-', '@', '＝', '＋', '－', '＠':
		return true
	}
	return false
}

// isNegativeNumber reports whether s is a negative number, such as -1.5 or -1E+300.
func isNegativeNumber(s string) bool {
	s, negative := strings.CutPrefix(s, "-")
	mantissa, exponent, scientific := strings.Cut(strings.ToUpper(s), "E")
	whole, fraction, point := strings.Cut(mantissa, ".")
	exponent = strings.TrimPrefix(strings.TrimPrefix(exponent, "+"), "-")
	return negative && isDigits(whole) && (!point || isDigits(fraction)) && (!scientific || isDigits(exponent))
}

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

func (s *csvSheet) close() error { return s.out.Flush() }

// abort does nothing, since there are no temporary files.
func (s *csvSheet) abort() {}

func (s *csvSheet) info() Info { return Info{} }
