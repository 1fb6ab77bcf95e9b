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

// cell is one value in the form in which it is shown. The cells of a row are reused for the next row.
type cell struct {
	kind  cellKind
	text  string    // of cellText and cellPlain; the digits of cellDecimal and cellDigits
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
	cellDecimal // a number with at most the digits that Excel keeps
	cellDigits  // a number with more: a text in a workbook
	cellBool
	cellDate
	cellDateTime
	cellPlain // a value without a cell type, such as an interval, NaN or a date before 1900; never a user's own text
)

// column is a column of an export, by the config and the driver.
type column struct {
	Column
	title   string
	text    bool           // everything is shown as text
	number  bool           // text that is a number is shown as one: a decimal, or a column with a format for numbers
	date    bool           // text that is a date is shown as one, since the format is for dates
	moment  bool           // text is a date or time of MySQL
	dayOnly bool           // times are shown as dates
	zone    *time.Location // in which times are shown; nil if the zone of the times is unknown
	flag    bool           // 0 and 1 are shown as FALSE and TRUE
	single  bool           // floats have the precision of 32 bits
	binary  bool           // bytes are not text
	bits    bool           // bytes are a number
	typed   bool           // text is written by the database itself, such as an interval
	endless string         // the database's text for infinity
}

// newColumn returns a column of a query. Its header has the zone in which its times are shown.
func newColumn(c Column, typ *sql.ColumnType, driver Driver, zone *time.Location) column {
	col := column{Column: c, title: c.Title, endless: infinity[driver]}
	if col.title == "" {
		col.title = typ.Name()
	}
	base, _, _ := strings.Cut(strings.ToUpper(typ.DatabaseTypeName()), "(")
	base = strings.TrimSpace(base)
	zoned := c.UTC
	switch base {
	case "NUMERIC", "DECIMAL", "UNSIGNED DECIMAL", "UNSIGNED BIGINT":
		col.number, col.typed = true, true
	case "DATE":
		col.dayOnly, col.moment, col.typed, zoned = true, driver == MySQL, true, false
	case "TIMESTAMP":
		col.moment, col.typed, zoned = driver == MySQL, true, zoned || driver == MySQL
	case "TIMESTAMPTZ":
		col.typed, zoned = true, true
	case "DATETIME":
		col.moment, col.typed = driver == MySQL, true
	case "TIME", "TIMETZ", "INTERVAL", "MONEY", "790", "1266": // pgx has no names for money and timetz, only their OIDs
		col.typed = true
	case "FLOAT4": // pgx returns it as a float64
		col.single = true
	case "BOOLEAN", "BOOL": // SQLite stores them as integers
		col.flag = c.Format == ""
	case "BIT":
		col.bits = driver == MySQL
	case "BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB", "BYTEA", "BINARY", "VARBINARY", "GEOMETRY":
		col.binary = true
	}
	if driver == SQLite { // each value has its own type: a column may have any types, and bytes are blobs
		col.typed, col.binary = false, true
	}
	switch {
	case c.Format == "":
	case isTextFormat(c.Format):
		col.text, col.number = true, false
	case isDateFormat(c.Format):
		col.date, col.number = true, false
		// A DATE with a format of its own has no time of day either.
		col.dayOnly = c.Format == "date" || col.dayOnly && col.typed && c.Format != "datetime"
	default:
		col.number = true
	}
	if zoned {
		col.zone = zone
		col.title += " (" + zone.String() + ")"
	}
	return col
}

// infinity has the databases' texts for an infinite float. MySQL has none. Only PostgreSQL has NaN, which is NaN.
var infinity = map[Driver]string{SQLite: "Inf", Postgres: "Infinity"}

// set sets c to a value from a driver.
func (c *cell) set(col *column, v any) {
	switch v := v.(type) {
	case nil:
		c.kind = cellEmpty
	case int64:
		c.setInt(v)
		if col.flag && (v == 0 || v == 1) {
			c.kind = cellBool
		}
	case float64:
		if col.single {
			v = shortest32(float32(v))
		}
		c.setFloat(col, v)
	case string:
		c.setString(col, v)
	case []byte:
		switch {
		case col.bits:
			c.setBits(v)
		case col.binary && !isPrintable(v):
			c.setText("0x" + hex.EncodeToString(v))
		default:
			c.setString(col, string(v))
		}
	case bool:
		c.kind, c.int = cellBool, 0
		if v {
			c.int = 1
		}
	case time.Time:
		c.setTime(col, v, true)
	case float32:
		c.setFloat(col, shortest32(v))
	case int32:
		c.kind, c.int = cellInt, int64(v)
	case uint64:
		c.setUint(v)
	default:
		c.setText(fmt.Sprint(v))
	}
	if col.text && c.kind != cellEmpty && c.kind != cellText && c.kind != cellPlain {
		c.setText(string(c.appendPlain(nil)))
	}
}

// maxExact is the smallest integer with more digits than Excel keeps, which are 15.
const maxExact = 1_000_000_000_000_000

func (c *cell) setText(s string) { c.kind, c.text = cellText, s }

func (c *cell) setPlain(s string) { c.kind, c.text = cellPlain, s }

func (c *cell) setInt(v int64) {
	c.kind, c.int = cellInt, v
	if v >= maxExact || v <= -maxExact {
		c.kind, c.text = cellDigits, strconv.FormatInt(v, 10)
	}
}

func (c *cell) setUint(v uint64) {
	c.kind, c.int = cellInt, int64(v) //nolint:gosec // read only if it is less than maxExact
	if v >= maxExact {
		c.kind, c.text = cellDigits, strconv.FormatUint(v, 10)
	}
}

// setBits sets c to the number of a BIT of MySQL, which has up to 64 bits.
func (c *cell) setBits(b []byte) {
	var v uint64
	for _, bits := range b {
		v = v<<8 | uint64(bits)
	}
	c.setUint(v)
}

// setFloat sets c to a number, or to the database's text for infinity or NaN.
func (c *cell) setFloat(col *column, f float64) {
	switch {
	case math.IsNaN(f):
		c.setPlain("NaN")
	case math.IsInf(f, 1):
		c.setPlain(col.endless)
	case math.IsInf(f, -1):
		c.setPlain("-" + col.endless)
	default:
		c.kind, c.float = cellFloat, f
	}
}

func (c *cell) setString(col *column, s string) {
	if col.number {
		if digits, ok := decimalDigits(s); ok {
			c.kind, c.text = cellDecimal, s
			if digits > 15 {
				c.kind = cellDigits
			}
			return
		}
	}
	if col.date || col.moment {
		if t, ok := parseTime(s); ok {
			c.setTime(col, t, len(s) > len(time.DateOnly)) // a pure date is the same in every zone
			return
		}
	}
	c.setText(s)
	if col.typed {
		c.kind = cellPlain
	}
}

// shortest32 returns the float64 with the same shortest text as f: 0.1, not 0.100000001490116.
func shortest32(f float32) float64 {
	long, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	if err != nil {
		return float64(f)
	}
	return long
}

// setTime sets c to a time. If the zone of the column's times is known, it converts them to the zone of the export. Excel has no
// dates before 1900, and the first two months of that year are wrong in it.
func (c *cell) setTime(col *column, t time.Time, shift bool) {
	if shift && col.zone != nil {
		_, offset := t.In(col.zone).Zone()
		t = t.Add(time.Duration(offset) * time.Second) // in UTC this has the same text as t in the zone
	}
	t = t.UTC()
	c.kind, c.time = cellDateTime, t
	if col.dayOnly {
		c.kind = cellDate
	}
	if t.Before(firstExcelDay) || t.Year() > 9999 {
		c.setPlain(string(c.appendPlain(nil)))
	}
}

var firstExcelDay = time.Date(1900, 3, 1, 0, 0, 0, 0, time.UTC)

// timeLayouts are the texts that a column with a date format shows as dates. Databases without a date type (SQLite) have such texts.
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

// decimalDigits reports whether s is a plain decimal number, and the number of its significant digits: trailing zeros of a fraction
// do not count. A number with a leading zero (0049) is a text, except before the point.
func decimalDigits(s string) (digits int, ok bool) {
	if s == "" {
		return 0, false
	}
	i, point := 0, false
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
			return 0, false
		}
	}
	if point {
		for j := len(s) - 1; s[j] == '0' && digits > 0; j-- {
			digits--
		}
	}
	if i-start > 1 && s[start] == '0' && s[start+1] != '.' {
		return 0, false
	}
	return digits, i > start
}

func isPrintable(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return utf8.Valid(b)
}
