package export

import (
	"math"
	"strconv"
	"time"
)

// appendPlain appends the complete value of a cell as text, for CSV and for measuring widths.
func (c *cell) appendPlain(b []byte) []byte {
	switch c.kind {
	case cellText, cellDecimal, cellDigits, cellPlain:
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
		return c.time.AppendFormat(b, secondsFormat(c.time.Nanosecond()))
	}
	return b
}

// secondsFormat returns the layout for a time with a fraction of a second: in milli-, micro- or nanoseconds.
func secondsFormat(ns int) string {
	switch {
	case ns == 0:
		return time.DateTime
	case ns%1e6 == 0:
		return time.DateTime + ".000"
	case ns%1e3 == 0:
		return time.DateTime + ".000000"
	}
	return time.DateTime + ".000000000"
}

// appendFloat appends a number, with an exponent if it would have many zeros.
func appendFloat(b []byte, f float64) []byte {
	if i := int64(f); float64(i) == f && i < maxExact && i > -maxExact && !(i == 0 && math.Signbit(f)) {
		return strconv.AppendInt(b, i, 10)
	}
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e15) {
		return strconv.AppendFloat(b, f, 'E', -1, 64)
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64)
}

// serial returns a date as Excel's number: days since 30 December 1899, with the time as a fraction of a day.
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
