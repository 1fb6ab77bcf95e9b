package export

import (
	"bufio"
	"encoding/csv"
	"io"
)

// csvSheet writes rows as CSV (RFC 4180), with the byte order mark by which Excel knows UTF-8.
type csvSheet struct {
	out    *bufio.Writer
	csv    *csv.Writer
	row    []byte   // the row's text, guarded
	ends   []int    // where each field ends in row
	fields []string // parts of row
}

func newCSV(w io.Writer, columns []column) (*csvSheet, error) {
	s := &csvSheet{
		out:    bufio.NewWriterSize(w, 256<<10),
		ends:   make([]int, len(columns)),
		fields: make([]string, len(columns)),
	}
	s.csv = csv.NewWriter(s.out)
	s.csv.UseCRLF = true
	if _, err := s.out.WriteString("\ufeff"); err != nil {
		return nil, err
	}
	header := make([]cell, len(columns))
	for i, c := range columns {
		header[i].setText(c.title)
	}
	return s, s.write(header)
}

// write takes one string per row, and cuts the fields from it.
func (s *csvSheet) write(cells []cell) error {
	s.row = s.row[:0]
	for i := range cells {
		c := &cells[i]
		if c.kind == cellText && c.text != "" && couldBeFormula(c.text) {
			s.row = append(s.row, '\'')
		}
		s.row = c.appendPlain(s.row)
		s.ends[i] = len(s.row)
	}
	text, start := string(s.row), 0
	for i, end := range s.ends {
		s.fields[i] = text[start:end]
		start = end
	}
	return s.csv.Write(s.fields)
}

func (s *csvSheet) close() error {
	s.csv.Flush()
	if err := s.csv.Error(); err != nil {
		return err
	}
	return s.out.Flush()
}

// abort has nothing to give back.
func (s *csvSheet) abort() {}

func (s *csvSheet) info() Info { return Info{} }
