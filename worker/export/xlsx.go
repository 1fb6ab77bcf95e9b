package export

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// Limits of Excel.
const (
	maxSheetRows    = excelize.TotalRows
	maxSheetColumns = excelize.MaxColumns
	maxCellText     = excelize.TotalCellChars // in UTF-16 units
	// A sheet that may have this many bytes is continued on the next. Past 4 GiB a zip needs the 64-bit
	// extensions, and Excel refuses how the standard library writes them into a stream.
	maxSheetBytes = 4_000_000_000
)

// A book's widths are taken from this many rows, or this many bytes of them.
const (
	sampleRows  = 200
	sampleBytes = 512 << 10
)

// book writes rows as an Excel workbook, with excelize's StreamWriter. That keeps the sheets in temporary
// files; the workbook is made of them at the end.
type book struct {
	ctx     context.Context
	out     io.Writer
	dir     string // of the temporary files
	file    *excelize.File
	columns []column
	styles  []cellStyle
	bold    int
	name    string // of the first sheet
	maxRows int    // of a sheet, its header among them

	stream *excelize.StreamWriter // of the sheet; nil until the sample is whole
	sheets int
	rows   int   // of the sheet, its header among them
	bytes  int64 // that the sheet has at most

	sample      []cell // rows from which widths are taken
	sampleBytes int
	widths      []int // the widest cell of each column in the sample

	row       []any           // points into cells, for SetRow
	cells     []excelize.Cell // the row's
	truncated int64
}

// cellStyle are the styles of a column's cells.
type cellStyle struct{ own, date, dateTime int }

func newBook(ctx context.Context, w io.Writer, sheet string, columns []column, maxRows int) (*book, error) {
	if len(columns) > maxSheetColumns {
		return nil, &Error{Code: CodeTooWide, Message: fmt.Sprintf("The export has %d columns, and a sheet has room for 16,384; export it as CSV.", len(columns))}
	}
	// Where excelize cannot make a file, it would keep the sheet in memory without a word.
	dir, err := os.MkdirTemp("", "hark-export-")
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	b := &book{
		ctx: ctx, out: w, dir: dir, file: excelize.NewFile(excelize.Options{TmpDir: dir}),
		columns: columns, styles: make([]cellStyle, len(columns)), name: sheet, maxRows: maxRows,
		rows: 1, widths: make([]int, len(columns)), row: make([]any, len(columns)), cells: make([]excelize.Cell, len(columns)),
	}
	if err := b.prepare(); err != nil {
		b.abort()
		return nil, err
	}
	return b, nil
}

// prepare makes what all sheets share.
func (b *book) prepare() (err error) {
	if err := b.file.SetDocProps(&excelize.DocProperties{Creator: "hark", LastModifiedBy: "hark", Title: b.name}); err != nil {
		return err
	}
	if b.bold, err = b.file.NewStyle(&excelize.Style{Font: &excelize.Font{Bold: true}}); err != nil {
		return err
	}
	for i := range b.columns {
		col, s := &b.columns[i], &b.styles[i]
		if s.own, err = b.style(col.Format); err != nil {
			return fmt.Errorf("the format of the column %s: %w", col.title, err)
		}
		s.date, s.dateTime = s.own, s.own
		if !isDateFormat(col.Format) {
			if s.date, err = b.style("date"); err != nil {
				return err
			}
			if s.dateTime, err = b.style("datetime"); err != nil {
				return err
			}
		}
		b.widths[i] = min(utf8.RuneCountInString(col.title)+1, 60) // bold is wider
	}
	return nil
}

func (b *book) style(format string) (int, error) {
	if format == "" {
		return 0, nil
	}
	if named := numberFormats[format]; named != "" {
		format = named
	}
	return b.file.NewStyle(&excelize.Style{CustomNumFmt: &format})
}

// write adds a row.
func (b *book) write(cells []cell) error {
	if b.stream == nil {
		return b.measure(cells)
	}
	if b.rows >= b.maxRows || b.bytes >= maxSheetBytes {
		if err := b.stream.Flush(); err != nil {
			return err
		}
		if err := b.open(); err != nil {
			return err
		}
	}
	return b.add(cells)
}

// measure keeps a row as part of the sample, and begins the first sheet when it has seen enough.
func (b *book) measure(cells []cell) error {
	var plain []byte
	for i := range cells {
		plain = cells[i].appendPlain(plain[:0])
		n := utf8.RuneCount(plain)
		if b.columns[i].Format == "money" {
			n += n / 3 // separators, and decimals that the value does not have
		}
		b.widths[i] = max(b.widths[i], min(n, 60))
		b.sampleBytes += len(plain)
	}
	b.sample = append(b.sample, cells...)
	if len(b.sample) < min(sampleRows, b.maxRows-1)*len(b.columns) && b.sampleBytes < sampleBytes {
		return nil
	}
	return b.begin()
}

// begin opens the first sheet and writes the sample.
func (b *book) begin() error {
	if err := b.open(); err != nil {
		return err
	}
	for row := range slices.Chunk(b.sample, max(1, len(b.columns))) {
		if err := b.add(row); err != nil {
			return err
		}
	}
	b.sample = nil
	return nil
}

// open begins the next sheet with its header.
func (b *book) open() (err error) {
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
	if err := b.stream.SetPanes(&excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"}); err != nil {
		return err
	}
	for i := range b.columns {
		width := b.columns[i].Width
		if width == 0 {
			width = float64(max(b.widths[i], 6) + 2)
		}
		if err := b.stream.SetColWidth(i+1, i+1, width); err != nil {
			return err
		}
		b.set(i, b.bold, b.columns[i].title)
	}
	return b.send()
}

// sheetNumber is the name of the nth sheet.
func sheetNumber(name string, n int) string {
	if n == 1 {
		return name
	}
	suffix := fmt.Sprintf(" (%d)", n)
	return cutUTF16(name, maxSheetName-len(suffix)) + suffix
}

// add writes a row to the sheet.
func (b *book) add(cells []cell) error {
	for i := range cells {
		c, style := &cells[i], &b.styles[i]
		switch c.kind {
		case cellEmpty:
			b.row[i] = nil
		case cellText:
			text := b.text(c.text)
			b.set(i, style.own, text)
			b.bytes += 5 * int64(len(text)) // with nothing in it but quotes, which become &#34;
		case cellInt:
			b.set(i, style.own, c.int)
		case cellFloat:
			b.set(i, style.own, c.float)
		case cellDecimal:
			f, err := strconv.ParseFloat(c.text, 64)
			if err != nil {
				return err
			}
			b.set(i, style.own, f)
		case cellBool:
			b.set(i, style.own, c.int != 0)
		case cellDate:
			b.set(i, style.date, serial(c.time, true))
		case cellDateTime:
			b.set(i, style.dateTime, serial(c.time, false))
		}
		b.bytes += 80 // of XML around a text, or with a number, at most
	}
	return b.send()
}

// set puts a value into the row. It never sets a formula.
func (b *book) set(i, style int, value any) {
	b.cells[i] = excelize.Cell{StyleID: style, Value: value}
	b.row[i] = &b.cells[i]
}

// send hands the row to excelize.
func (b *book) send() error {
	b.rows++
	return b.stream.SetRow("A"+strconv.Itoa(b.rows), b.row)
}

var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// text makes a text one that a cell can hold: with Excel's own line ends, and not too long, which it says
// at its end.
func (b *book) text(s string) string {
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

// close makes the workbook.
func (b *book) close() error {
	defer b.abort()
	if b.stream == nil {
		if err := b.begin(); err != nil {
			return err
		}
	}
	if err := b.stream.Flush(); err != nil {
		return err
	}
	return writeZip(b.ctx, b.file, b.out)
}

// abort removes the temporary files.
func (b *book) abort() {
	_ = b.file.Close()
	_ = os.RemoveAll(b.dir)
}

func (b *book) info() Info { return Info{Sheets: b.sheets, Truncated: b.truncated} }
