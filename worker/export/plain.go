package export

import (
	"math"
	"strconv"
	"time"
)

// appendPlain appends a cell as text that says all there is to say: what a CSV holds, and by which widths
// are measured.
func (c *cell) appendPlain(b []byte) []byte {
	switch c.kind {
	case cellText, cellDecimal:
		return append(b, c.text...)
	case cellInt:
		return strconv.AppendInt(b, c.int, 10)
	case cellFloat:
		return appendFloat(b, c.float)
	case cellBool:
		if c.int != 0 {
			return append(b, "TRUE"...)
		}
		return append(b, "FALSE"...)
	case cellDate:
		return c.time.AppendFormat(b, time.DateOnly)
	case cellDateTime:
		b = c.time.AppendFormat(b, time.DateTime)
		if ms := c.time.Nanosecond() / 1e6; ms != 0 {
			b = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
		}
		return b
	}
	return b
}

// appendFloat writes no more zeros than anybody reads.
func appendFloat(b []byte, f float64) []byte {
	if i := int64(f); float64(i) == f && i < maxExact && i > -maxExact && !(i == 0 && math.Signbit(f)) {
		return strconv.AppendInt(b, i, 10)
	}
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e15) {
		return strconv.AppendFloat(b, f, 'E', -1, 64)
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64)
}

// serial is a date as Excel counts it: days since 30 December 1899, and of the day the part that has passed.
func serial(t time.Time, dayOnly bool) float64 {
	const epoch = 25569 // 1 January 1970
	seconds := t.Unix() + epoch*86400
	days := seconds / 86400 // no date is before 1900
	if dayOnly {
		return float64(days)
	}
	ms := seconds%86400*1000 + int64(t.Nanosecond())/1e6
	return float64(days) + float64(ms)/86400e3
}

// couldBeFormula reports whether a spreadsheet that reads s from a CSV may take it for a formula (OWASP,
// CSV Injection). A negative number is none.
func couldBeFormula(s string) bool {
	switch s[0] {
	case '=', '+', '@', '\t', '\r', '\n':
		return true
	case '-':
		return !isExactDecimal(s)
	case 0xEF: // the full-width ＝ ＋ － ＠
		return len(s) >= 3 && s[1] == 0xBC && (s[2] == 0x9D || s[2] == 0x8B || s[2] == 0x8D || s[2] == 0xA0)
	}
	return false
}
