package export

import (
	"database/sql"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// cell is one value, as what it is shown. A row's cells are reused for the next row.
type cell struct {
	kind  cellKind
	text  string    // of cellText; the digits of cellDecimal
	int   int64     // of cellInt; 0 or 1 of cellBool
	float float64   // of cellFloat
	time  time.Time // of cellDate and cellDateTime
}

type cellKind uint8

const (
	cellEmpty cellKind = iota
	cellText
	cellInt
	cellFloat
	cellDecimal
	cellBool
	cellDate
	cellDateTime
)

// column is a column of an export: what the config says of it, and what the driver says.
type column struct {
	Column
	title   string
	text    bool // everything is shown as text
	number  bool // text that is a number is shown as one: a decimal, or a column with a format for numbers
	date    bool // text that is a date is shown as one
	dayOnly bool // times are shown as dates
	flag    bool // 0 and 1 are shown as FALSE and TRUE
	single  bool // floats have the precision of 32 bits
	binary  bool // bytes are no text
}

func newColumn(c Column, name string, typ *sql.ColumnType) column {
	col := column{Column: c, title: c.Title}
	if col.title == "" {
		col.title = name
	}
	base, _, _ := strings.Cut(strings.ToUpper(typ.DatabaseTypeName()), "(")
	switch strings.TrimSpace(base) {
	case "NUMERIC", "DECIMAL", "UNSIGNED DECIMAL":
		col.number = true
	case "DATE":
		col.dayOnly = true
	case "FLOAT4": // which comes from pgx as a float64
		col.single = true
	case "BOOLEAN", "BOOL": // which SQLite keeps as integers
		col.flag = c.Format == ""
	case "BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB", "BYTEA", "BINARY", "VARBINARY", "GEOMETRY", "BIT":
		col.binary = true
	}
	switch {
	case c.Format == "":
	case c.Format == "text" || c.Format == "@":
		col.text, col.number = true, false
	case isDateFormat(c.Format):
		col.date, col.number = true, false
		col.dayOnly = c.Format == "date"
	default:
		col.number = true
	}
	return col
}

// set makes c of what a driver returned.
func (c *cell) set(col *column, v any) {
	switch v := v.(type) {
	case nil:
		c.kind = cellEmpty
	case int64:
		c.kind, c.int = cellInt, v
		if col.flag && (v == 0 || v == 1) {
			c.kind = cellBool
		} else if v >= maxExact || v <= -maxExact {
			c.setText(fmt.Sprint(v))
		}
	case float64:
		if col.single {
			v = shortest32(float32(v))
		}
		c.setFloat(v)
	case string:
		c.setString(col, v)
	case []byte:
		if col.binary && !isPrintable(v) {
			c.setText("0x" + hex.EncodeToString(v))
		} else {
			c.setString(col, string(v))
		}
	case bool:
		c.kind, c.int = cellBool, 0
		if v {
			c.int = 1
		}
	case time.Time:
		c.setTime(col, v)
	case float32:
		c.setFloat(shortest32(v))
	case int32:
		c.kind, c.int = cellInt, int64(v)
	case uint64:
		c.setString(&column{number: true}, fmt.Sprint(v))
	default:
		c.setText(fmt.Sprint(v))
	}
	if col.text && c.kind != cellEmpty && c.kind != cellText {
		c.setText(string(c.appendPlain(nil)))
	}
}

// maxExact is the least integer that has more digits than Excel keeps: 15.
const maxExact = 1_000_000_000_000_000

func (c *cell) setText(s string) { c.kind, c.text = cellText, s }

func (c *cell) setFloat(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		c.setText(fmt.Sprint(f))
		return
	}
	c.kind, c.float = cellFloat, f
}

func (c *cell) setString(col *column, s string) {
	switch {
	case s == "":
		c.kind = cellEmpty
	case col.number && isExactDecimal(s):
		c.kind, c.text = cellDecimal, s
	case col.date:
		if t, ok := parseTime(s); ok {
			c.setTime(col, t)
			return
		}
		c.setText(s)
	default:
		c.setText(s)
	}
}

// shortest32 returns the float64 that reads as f does: 0.1, not 0.100000001490116.
func shortest32(f float32) float64 {
	long, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	if err != nil {
		return float64(f)
	}
	return long
}

// setTime shows a time in UTC: a cell has no zone. Excel has no dates before 1900, and miscounts the first
// two months of that year.
func (c *cell) setTime(col *column, t time.Time) {
	t = t.UTC()
	if t.Before(firstExcelDay) || t.Year() > 9999 {
		if col.dayOnly {
			c.setText(t.Format(time.DateOnly))
		} else {
			c.setText(t.Format(time.DateTime))
		}
		return
	}
	c.kind, c.time = cellDateTime, t
	if col.dayOnly {
		c.kind = cellDate
	}
}

var firstExcelDay = time.Date(1900, 3, 1, 0, 0, 0, 0, time.UTC)

// timeLayouts are the texts that a column with a date format takes for dates: what databases without a
// type for them (SQLite) are given.
var timeLayouts = []string{
	time.DateTime, time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 -0700 MST",
	"2006-01-02 15:04", "2006-01-02T15:04",
}

func parseTime(s string) (time.Time, bool) {
	if len(s) == len(time.DateOnly) {
		t, err := time.Parse(time.DateOnly, s)
		return t, err == nil
	}
	if len(s) < len(time.DateOnly) || s[4] != '-' {
		return time.Time{}, false
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// isExactDecimal reports whether s is a plain decimal number that Excel can hold to its last digit. Zeros
// at the end of a fraction count: 1.50 is 1.5.
func isExactDecimal(s string) bool {
	digits, i, point := 0, 0, false
	if s[0] == '-' {
		i = 1
	}
	start := i
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case isDigit(c):
			if digits > 0 || c != '0' {
				digits++
			}
		case c == '.' && !point && i > start && i+1 < len(s):
			point = true
		default:
			return false
		}
	}
	if point {
		for j := len(s) - 1; s[j] == '0' && digits > 0; j-- {
			digits--
		}
	}
	// A leading zero (0049) is part of a text; one before the point is not.
	if i-start > 1 && s[start] == '0' && s[start+1] != '.' {
		return false
	}
	return i > start && digits <= 15
}

func isPrintable(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return utf8.Valid(b)
}
