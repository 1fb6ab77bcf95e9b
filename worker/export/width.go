package export

import (
	"math"
	"unicode/utf8"
)

// Limits of the width of a column by its cells, in characters. Excel cuts a longer text at the next cell, and shows a longer number,
// date or boolean as ###.
const (
	minWidth     = 6
	maxTextWidth = 60
	flagWidth    = 10 // VERDADEIRO
)

// measureRows is the number of rows in which every number is measured. After that only numbers with more digits before the point than
// all before are measured: Excel rounds a fraction to the width.
const measureRows = 200

// width is the width of a column for its cells.
type width struct {
	chars       int
	over, under float64 // numbers from over upwards, and from under downwards, have more digits than the measured ones
}

// text measures a text.
func (w *width) text(s string) {
	if len(s) > w.chars && w.chars < maxTextWidth {
		w.chars = max(w.chars, min(utf8.RuneCountInString(s), maxTextWidth))
	}
}

// fixed measures a value with this number of characters.
func (w *width) fixed(chars int) { w.chars = max(w.chars, chars) }

// number measures a number, if it may be wider than those before, or if all is set. A nil format is General.
func (w *width) number(f float64, format *numberFormat, all bool) {
	if !all && w.under < f && f < w.over {
		return
	}
	next := math.Pow(10, math.Floor(math.Log10(max(1, math.Abs(f))))+1)
	if f < 0 {
		w.under = min(w.under, -next)
	} else {
		w.over = max(w.over, next)
	}
	if format == nil {
		w.fixed(len(appendFloat(nil, f)))
	} else {
		w.fixed(format.numberWidth(f))
	}
}

// column returns the width for the workbook.
func (w *width) column() float64 { return min(float64(max(w.chars, minWidth)+2), maxWidth) }
