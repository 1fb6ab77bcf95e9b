package export

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Parts of a workbook that hark writes itself. excelize writes the head of a sheet before its rows, when neither the range of the
// sheet nor the widths of its columns are known. It writes the properties without namespace prefixes, which exceljs ignores, and with
// a date of 2006.
const (
	corePart = "docProps/core.xml"
	appPart  = "docProps/app.xml"
)

const xmlDeclaration = `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>` + "\n"

// coreProperties is the part of ECMA-376 Part 2, 11.1.
func coreProperties(title string, now time.Time) []byte {
	var escaped bytes.Buffer
	_ = xml.EscapeText(&escaped, []byte(title)) // a buffer returns no errors
	date := now.UTC().Format("2006-01-02T15:04:05Z")
	return []byte(xmlDeclaration +
		`<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties"` +
		` xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/"` +
		` xmlns:dcmitype="http://purl.org/dc/dcmitype/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">` +
		`<dc:title>` + escaped.String() + `</dc:title><dc:creator>hark</dc:creator><cp:lastModifiedBy>hark</cp:lastModifiedBy>` +
		`<dcterms:created xsi:type="dcterms:W3CDTF">` + date + `</dcterms:created>` +
		`<dcterms:modified xsi:type="dcterms:W3CDTF">` + date + `</dcterms:modified></cp:coreProperties>`)
}

// appProperties is the part of ECMA-376 Part 1, 22.2.
const appProperties = xmlDeclaration +
	`<Properties xmlns="http://schemas.openxmlformats.org/officeDocument/2006/extended-properties"><Application>hark</Application></Properties>`

// sheetHead is the XML of a sheet up to its rows (ECMA-376 Part 1, 18.3.1.99): the range of its cells, its first row kept
// in view, and the widths of its columns.
func sheetHead(lastCell string, selected bool, widths []float64) []byte {
	var b bytes.Buffer
	b.WriteString(xmlDeclaration + `<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><dimension ref="`)
	if lastCell != "A1" {
		b.WriteString("A1:")
	}
	b.WriteString(lastCell + `"/><sheetViews><sheetView`)
	if selected {
		b.WriteString(` tabSelected="1"`)
	}
	b.WriteString(` workbookViewId="0"><pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>` +
		`<sheetFormatPr defaultRowHeight="15"/>`)
	if len(widths) > 0 {
		b.WriteString(`<cols>`)
		for i, width := range widths {
			fmt.Fprintf(&b, `<col min="%d" max="%[1]d" width="%s" customWidth="1"/>`, i+1, strconv.FormatFloat(width, 'f', -1, 64))
		}
		b.WriteString(`</cols>`)
	}
	b.WriteString(rowsBegin)
	return b.Bytes()
}

// rowsBegin is the start of a sheet's rows. No text before it can contain it.
const rowsBegin = "<sheetData>"

// maxForeignHead is larger than excelize's head of a sheet.
const maxForeignHead = 64 << 10

var errForeignHead = errors.New("export: excelize has written an unexpected form of a sheet")

// partWriter is excelize's writer of the zip. It replaces the heads of the sheets.
type partWriter struct {
	*zip.Writer
	heads map[string][]byte // the unused heads, by part
}

func (w *partWriter) Create(name string) (io.Writer, error) {
	part, err := w.Writer.Create(name)
	head, ok := w.heads[name]
	if err != nil || !ok {
		return part, err
	}
	return &headWriter{part: part, head: head, used: func() { delete(w.heads, name) }}, nil
}

func (w *partWriter) Close() error {
	if len(w.heads) > 0 {
		return errors.Join(errForeignHead, w.Writer.Close())
	}
	return w.Writer.Close()
}

// headWriter writes head in place of everything before the rows.
type headWriter struct {
	part    io.Writer
	head    []byte
	used    func()
	foreign []byte // the bytes before the rows so far
	rows    bool   // the rows have begun
}

func (w *headWriter) Write(p []byte) (int, error) {
	if w.rows {
		return w.part.Write(p)
	}
	before := len(w.foreign)
	w.foreign = append(w.foreign, p[:min(len(p), maxForeignHead)]...)
	at := bytes.Index(w.foreign, []byte(rowsBegin))
	switch {
	case at < 0 && len(w.foreign) >= maxForeignHead:
		return 0, errForeignHead
	case at < 0:
		return len(p), nil
	}
	rest := p[at+len(rowsBegin)-before:]
	w.rows, w.foreign = true, nil
	w.used()
	if _, err := w.part.Write(w.head); err != nil {
		return 0, err
	}
	if _, err := w.part.Write(rest); err != nil {
		return 0, err
	}
	return len(p), nil
}
