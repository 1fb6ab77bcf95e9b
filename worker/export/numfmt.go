package export

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// numberFormat is a parsed Excel number format (ECMA-376 Part 1, 18.8.30 and 18.8.31): one to four sections, for positive numbers,
// negative numbers, zero and text.
type numberFormat struct {
	sections []formatSection
}

// formatSection is a section of a format. Widths are the largest ones in any language, in characters.
type formatSection struct {
	date        bool // has parts of a date or of a time
	number      bool // has placeholders for digits, or General
	text        bool // has the placeholder for a text
	general     bool
	conditional bool // has a condition of its own
	grouped     bool // separates thousands

	width    int // of the parts of a date, and of literal text
	whole    int // placeholders before the decimal point
	decimals int // placeholders after it
	point    bool
	exponent int // placeholders of the exponent
	percent  int
	thousand int // how often the number is divided by a thousand
}

// maxFormat is the largest length of a number format, in characters.
const maxFormat = 255

// parseNumberFormat returns false if f is not a number format that Excel accepts, or shows nothing of a value. Literal letters must be
// in quotes or after a backslash.
func parseNumberFormat(f string) (numberFormat, bool) {
	if utf8.RuneCountInString(f) > maxFormat || !utf8.ValidString(f) {
		return numberFormat{}, false
	}
	var format numberFormat
	shows := false
	for rest, more := f, true; more; {
		p := formatParser{rest: rest}
		more = p.run()
		if p.wrong || p.date && (p.number || p.text) {
			return numberFormat{}, false
		}
		shows = shows || p.date || p.number || p.text
		format.sections = append(format.sections, p.formatSection)
		rest = p.rest
	}
	return format, shows && len(format.sections) <= 4
}

// isDate reports whether the format shows a number as a date or a time.
func (f numberFormat) isDate() bool {
	for i := range f.sections {
		if s := &f.sections[i]; s.date || s.number {
			return s.date
		}
	}
	return false
}

// isText reports whether the format has only a placeholder for a text.
func (f numberFormat) isText() bool {
	for i := range f.sections {
		if s := &f.sections[i]; s.date || s.number {
			return false
		}
	}
	return true
}

// dateWidth returns the largest width of a date, in characters.
func (f numberFormat) dateWidth() (most int) {
	for i := range f.sections {
		most = max(most, f.sections[i].width)
	}
	return most
}

// numberWidth returns the width of a number, in characters.
func (f numberFormat) numberWidth(v float64) (most int) {
	chosen, sign := 0, 0
	for i := range f.sections {
		if f.sections[i].conditional { // any section may apply
			for i := range f.sections {
				most = max(most, f.sections[i].numberWidth(v)+1)
			}
			return most
		}
	}
	numbers := len(f.sections)
	if last := &f.sections[numbers-1]; numbers > 1 && last.text {
		numbers--
	}
	switch {
	case v < 0 && numbers > 1:
		chosen = 1
	case v < 0:
		sign = 1
	case v == 0 && numbers > 2:
		chosen = 2
	}
	return f.sections[chosen].numberWidth(v) + sign
}

func (s *formatSection) numberWidth(v float64) int {
	v = math.Abs(v)
	switch {
	case s.general:
		return s.width + len(appendFloat(nil, v))
	case !s.number:
		return s.width
	case s.exponent > 0:
		return s.width + max(s.whole, 1) + 1 + s.decimals + max(s.exponent, 3)
	}
	v *= math.Pow(100, float64(s.percent)) / math.Pow(1000, float64(s.thousand))
	if math.IsInf(v, 0) {
		return maxWidth
	}
	digits, _, _ := strings.Cut(strconv.FormatFloat(v, 'f', s.decimals, 64), ".")
	n := max(s.whole, len(digits))
	if s.grouped {
		n += (n - 1) / 3
	}
	if s.point {
		n += 1 + s.decimals
	}
	return n + s.width
}

// formatParser parses one section.
type formatParser struct {
	formatSection
	rest    string
	wrong   bool
	commas  int  // since the last placeholder
	seconds bool // the last part was seconds, which may have a fraction
}

// run parses the section, and reports whether another one follows in rest.
func (p *formatParser) run() (more bool) {
	for p.rest != "" && !p.wrong {
		if p.rest[0] == ';' {
			p.rest = p.rest[1:]
			p.thousand += p.commas
			return true
		}
		p.token()
	}
	p.thousand += p.commas
	return false
}

func (p *formatParser) token() {
	c := p.rest[0]
	switch {
	case c == '"':
		end := strings.IndexByte(p.rest[1:], '"')
		if end < 0 {
			p.wrong = true
			return
		}
		p.width += utf8.RuneCountInString(p.rest[1 : end+1])
		p.rest = p.rest[end+2:]
	case c == '[':
		p.bracket()
	case c == '\\' || c == '_' || c == '*': // a literal character, a space of its width, and a repeated character
		_, n := utf8.DecodeRuneInString(p.rest[1:])
		p.wrong = n == 0
		if !p.wrong {
			p.width++
			p.rest = p.rest[1+n:]
		}
	case c == '0' || c == '#' || c == '?':
		p.placeholder()
	case c == '.':
		p.decimalPoint()
	case c == ',':
		p.rest = p.rest[1:]
		if p.number && !p.point {
			p.commas++
		} else {
			p.width++
		}
	case c == '%':
		p.rest = p.rest[1:]
		p.percent++
		p.width++
	case c == '@':
		p.rest = p.rest[1:]
		p.text = true
	case c == '/' && p.number: // a fraction: the placeholders before it are those of the numerator
		p.rest = p.rest[1:]
		p.width += 1 + p.whole
	case 'a' <= c|0x20 && c|0x20 <= 'z':
		p.letters()
	case c < ' ':
		p.wrong = true
	default: // a literal character
		_, n := utf8.DecodeRuneInString(p.rest)
		p.rest = p.rest[n:]
		p.width++
	}
}

func (p *formatParser) placeholder() {
	p.rest = p.rest[1:]
	p.number = true
	switch {
	case p.exponent > 0:
		p.exponent++
	case p.point:
		p.decimals++
	default:
		p.grouped = p.grouped || p.commas > 0
		p.commas = 0
		p.whole++
	}
}

// decimalPoint parses a point: of a number, between parts of a date, or before a fraction of seconds, which has up to three digits.
func (p *formatParser) decimalPoint() {
	p.rest = p.rest[1:]
	if !p.date {
		p.point = true
		return
	}
	p.width++
	for n := 1; p.seconds && strings.HasPrefix(p.rest, "0"); n++ {
		p.rest = p.rest[1:]
		p.width++
		p.wrong = p.wrong || n > 3
	}
}

// letters parses a part of a date, General, or the E of an exponent.
func (p *formatParser) letters() {
	upper := upperASCII(p.rest[:min(len(p.rest), len("GENERAL"))])
	switch {
	case upper == "GENERAL":
		p.rest = p.rest[len(upper):]
		p.number, p.general = true, true
		return
	case p.number && (strings.HasPrefix(upper, "E+") || strings.HasPrefix(upper, "E-")):
		p.rest = p.rest[2:]
		p.width += 2
		p.exponent = 1
		return
	case strings.HasPrefix(upper, "AM/PM"):
		p.rest = p.rest[len("AM/PM"):]
		p.date, p.width = true, p.width+5
		return
	case strings.HasPrefix(upper, "A/P"):
		p.rest = p.rest[len("A/P"):]
		p.date, p.width = true, p.width+1
		return
	}
	n := 1
	for n < len(upper) && upper[n] == upper[0] {
		n++
	}
	width, ok := dateParts[upper[0]]
	if !ok || upper[0] == 'A' && n < 3 {
		p.wrong = true
		return
	}
	p.date, p.seconds = true, upper[0] == 'S'
	p.width += width[min(n, len(width))-1]
	p.rest = p.rest[n:]
}

// upperASCII converts only ASCII letters: ſ is not an S in a format.
func upperASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

// dateParts has the widths of one, two and more of each letter of dates, in the language with the longest names.
var dateParts = map[byte][]int{
	'Y': {2, 2, 4}, 'M': {2, 2, 5, 12}, 'D': {2, 2, 5, 14}, 'H': {2}, 'S': {2},
	'A': {5, 5, 5, 14}, 'B': {2, 2, 4}, 'E': {4}, 'G': {2, 4, 8}, // the weekday, the year and the era of East Asian calendars
}

// bracket parses a color, a condition, a currency with its language, elapsed time, or a numeral system.
func (p *formatParser) bracket() {
	end := strings.IndexByte(p.rest, ']')
	if end < 0 {
		p.wrong = true
		return
	}
	inner := upperASCII(p.rest[1:end])
	p.rest = p.rest[end+1:]
	switch {
	case inner == "":
		p.wrong = true
	case inner[0] == '$':
		symbol, _, _ := strings.Cut(inner[1:], "-")
		p.width += utf8.RuneCountInString(symbol)
	case inner[0] == '<' || inner[0] == '>' || inner[0] == '=':
		_, err := strconv.ParseFloat(strings.TrimLeft(inner, "<>="), 64)
		p.conditional, p.wrong = true, err != nil
	case strings.Trim(inner, inner[:1]) == "" && strings.IndexByte("HMS", inner[0]) >= 0: // elapsed time
		p.date, p.seconds = true, inner[0] == 'S'
		p.width += map[byte]int{'H': 8, 'M': 10, 'S': 12}[inner[0]]
	case strings.HasPrefix(inner, "DBNUM"), strings.HasPrefix(inner, "NATNUM"):
	default:
		p.wrong = !isFormatColor(inner)
	}
}

func isFormatColor(name string) bool {
	switch name {
	case "BLACK", "BLUE", "CYAN", "GREEN", "MAGENTA", "RED", "WHITE", "YELLOW":
		return true
	}
	number, ok := strings.CutPrefix(name, "COLOR")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	return ok && err == nil && 1 <= n && n <= 56
}
