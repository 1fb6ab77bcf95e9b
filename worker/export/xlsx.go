package export

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/xuri/excelize/v2"
)

// Limits of Excel.
const (
	maxSheetRows    = excelize.TotalRows
	maxSheetColumns = excelize.MaxColumns
	maxCellText     = excelize.TotalCellChars // in UTF-16 units
	// A sheet that may have this number of bytes continues on the next sheet. Above 4 GiB a zip needs the 64-bit extensions, and
	// Excel refuses the form in which the standard library writes them to a stream.
	maxSheetBytes = 4_000_000_000
)

// workbook writes rows as an Excel workbook, with excelize's StreamWriter, which keeps the sheets in temporary files. close builds the
// workbook from them.
type workbook struct {
	ctx     context.Context
	out     io.Writer
	dir     string // of the temporary files
	file    *excelize.File
	columns []column
	styles  []cellStyle
	bold    int
	name    string // of the first sheet
	maxRows int    // of a sheet, with its header

	stream *excelize.StreamWriter // of the current sheet
	sheets int
	rows   int   // of the current sheet, with its header
	bytes  int64 // an upper bound of the sheet's size
	total  int   // rows of all sheets, without headers

	ends   map[string]string // the last cell of each sheet, by its part
	widths []width

	row       []any           // points into cells, for SetRow
	cells     []excelize.Cell // of the current row
	truncated int64
}

// cellStyle are the styles of a column's cells.
type cellStyle struct {
	own, date, dateTime      int
	format                   *numberFormat // of own; nil is General
	dates                    bool          // own shows numbers as dates, and is also date and dateTime
	dateWidth, dateTimeWidth int           // in characters
}

func newWorkbook(ctx context.Context, w io.Writer, sheet string, columns []column, maxRows int) (*workbook, error) {
	if len(columns) > maxSheetColumns {
		return nil, &Error{Code: CodeTooWide, Message: fmt.Sprintf("The export has %d columns, and a sheet can have 16,384; export it as CSV.", len(columns))}
	}
	// If excelize cannot create a file, it silently keeps the sheet in memory.
	dir, err := os.MkdirTemp("", "hark-export-")
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	b := &workbook{
		ctx: ctx, out: w, dir: dir, file: excelize.NewFile(excelize.Options{TmpDir: dir}),
		columns: columns, styles: make([]cellStyle, len(columns)), name: sheet, maxRows: maxRows,
		ends: make(map[string]string), widths: make([]width, len(columns)), row: make([]any, len(columns)), cells: make([]excelize.Cell, len(columns)),
	}
	err = b.prepare()
	if err == nil {
		err = b.open()
	}
	if err != nil {
		b.abort()
		return nil, err
	}
	return b, nil
}

// prepare creates the common parts of all sheets.
func (b *workbook) prepare() (err error) {
	b.file.Pkg.Store(corePart, coreProperties(b.name, time.Now()))
	b.file.Pkg.Store(appPart, []byte(appProperties))
	textColor := 1 // of the theme
	if b.bold, err = b.file.NewStyle(&excelize.Style{Font: &excelize.Font{Bold: true, Family: "Calibri", Size: 11, ColorTheme: &textColor}}); err != nil {
		return err
	}
	for i := range b.columns {
		col, s := &b.columns[i], &b.styles[i]
		if err := b.columnStyle(s, col.Format); err != nil {
			return fmt.Errorf("the format of the column %s: %w", col.title, err)
		}
		b.widths[i].text(col.title)
		b.widths[i].chars++ // bold is wider
	}
	return nil
}

// columnStyle creates the styles of a column with this format.
func (b *workbook) columnStyle(s *cellStyle, format string) (err error) {
	if s.own, err = b.style(format); err != nil {
		return err
	}
	if read, ok := readFormat(format); ok {
		s.format, s.dates = &read, read.isDate()
	}
	if s.dates {
		width := s.format.dateWidth()
		s.date, s.dateTime, s.dateWidth, s.dateTimeWidth = s.own, s.own, width, width
		return nil
	}
	s.dateWidth, s.dateTimeWidth = len(numberFormats["date"]), len(numberFormats["datetime"])
	if s.date, err = b.style("date"); err != nil {
		return err
	}
	s.dateTime, err = b.style("datetime")
	return err
}

func (b *workbook) style(format string) (int, error) {
	if format == "" {
		return 0, nil
	}
	if named := numberFormats[format]; named != "" {
		format = named
	}
	return b.file.NewStyle(&excelize.Style{CustomNumFmt: &format})
}

// write adds a row, on a new sheet if the current one is full.
func (b *workbook) write(cells []cell) error {
	if b.rows >= b.maxRows || b.bytes >= maxSheetBytes {
		if err := b.end(); err != nil {
			return err
		}
		if err := b.open(); err != nil {
			return err
		}
	}
	return b.add(cells)
}

// open begins the next sheet with its header.
func (b *workbook) open() (err error) {
	b.sheets++
	b.rows, b.bytes = 0, 0
	name := sheetNumber(b.name, b.sheets)
	if b.sheets == 1 {
		err = b.file.SetSheetName("Sheet1", name)
	} else {
		_, err = b.file.NewSheet(name)
	}
	if err != nil {
		return fmt.Errorf("sheet %q: %w", name, err)
	}
	if b.stream, err = b.file.NewStreamWriter(name); err != nil {
		return err
	}
	for i := range b.columns {
		b.set(i, b.bold, b.columns[i].title)
	}
	return b.send()
}

// end completes the current sheet.
func (b *workbook) end() error {
	last, err := excelize.CoordinatesToCellName(max(1, len(b.columns)), b.rows)
	if err != nil {
		return err
	}
	b.ends[fmt.Sprintf("xl/worksheets/sheet%d.xml", b.stream.SheetID)] = last
	return b.stream.Flush()
}

// sheetNumber returns the name of the nth sheet.
func sheetNumber(name string, n int) string {
	if n == 1 {
		return name
	}
	suffix := fmt.Sprintf(" (%d)", n)
	return cutUTF16(name, maxSheetName-len(suffix)) + suffix
}

// add writes a row to the sheet.
func (b *workbook) add(cells []cell) error {
	b.total++
	for i := range cells {
		c, style, w := &cells[i], &b.styles[i], &b.widths[i]
		switch c.kind {
		case cellEmpty:
			b.row[i] = nil
		case cellText, cellDigits, cellPlain:
			text := b.text(c.text)
			b.row[i] = nil
			if text == "" {
				continue
			}
			b.set(i, style.own, text)
			b.bytes += 5 * int64(len(text)) // if it consists of quotes, which become &#34;
			w.text(text)
		case cellInt:
			b.set(i, b.number(i, float64(c.int)), c.int)
		case cellFloat:
			b.set(i, b.number(i, c.float), c.float)
		case cellDecimal:
			f, err := strconv.ParseFloat(c.text, 64)
			if err != nil {
				return err
			}
			b.set(i, b.number(i, f), f)
		case cellBool:
			b.set(i, style.own, c.int != 0)
			w.fixed(flagWidth)
		case cellDate:
			b.set(i, style.date, serial(c.time, true))
			w.fixed(style.dateWidth)
		case cellDateTime:
			b.set(i, style.dateTime, serial(c.time, false))
			w.fixed(style.dateTimeWidth)
		}
		b.bytes += 80 // an upper bound of the XML around a text, or with a number
	}
	return b.send()
}

// number measures a number, and returns its style. With a format for dates Excel shows ### for a number that is not a date, in any
// width.
func (b *workbook) number(i int, f float64) (style int) {
	s, w := &b.styles[i], &b.widths[i]
	switch {
	case !s.dates:
		w.number(f, s.format, b.total <= measureRows)
		return s.own
	case f < 0 || f >= dayAfterLast:
		w.number(f, nil, b.total <= measureRows)
		return 0
	}
	w.fixed(s.dateWidth)
	return s.own
}

// dayAfterLast is 1 January 10000, which Excel does not support.
const dayAfterLast = 2958466

// set sets a value of the row. It never sets a formula.
func (b *workbook) set(i, style int, value any) {
	b.cells[i] = excelize.Cell{StyleID: style, Value: value}
	b.row[i] = &b.cells[i]
}

// send passes the row to excelize.
func (b *workbook) send() error {
	b.rows++
	return b.stream.SetRow("A"+strconv.Itoa(b.rows), b.row)
}

var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// text converts a text to one that a cell can have: with Excel's line ends, and truncated with a mark if it is too long.
func (b *workbook) text(s string) string {
	if strings.IndexByte(s, '\r') >= 0 {
		s = lineEnds.Replace(s)
	}
	const mark = " … [truncated]" // 14 UTF-16 units
	if len(s) <= maxCellText || len(cutUTF16(s, maxCellText)) == len(s) {
		return s
	}
	b.truncated++
	return cutUTF16(s, maxCellText-14) + mark
}

// close writes the workbook to out.
func (b *workbook) close() error {
	defer b.abort()
	if err := b.end(); err != nil {
		return err
	}
	widths := make([]float64, len(b.columns))
	for i := range widths {
		widths[i] = b.columns[i].Width
		if widths[i] == 0 {
			widths[i] = b.widths[i].column()
		}
	}
	heads := make(map[string][]byte, len(b.ends))
	for part, last := range b.ends {
		heads[part] = sheetHead(last, part == firstSheet, widths)
	}
	return writeZip(b.ctx, b.file, heads, b.out)
}

// firstSheet is the part of the sheet that is shown first.
const firstSheet = "xl/worksheets/sheet1.xml"

// abort removes the temporary files.
func (b *workbook) abort() {
	_ = b.file.Close()
	_ = os.RemoveAll(b.dir)
}

func (b *workbook) info() Info { return Info{Sheets: b.sheets, Truncated: b.truncated} }
