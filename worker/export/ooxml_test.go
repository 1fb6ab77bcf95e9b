package export_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/xuri/excelize/v2"
)

// checkBook checks a workbook against ECMA-376: the package and its parts (Part 2), their XML and its namespaces (Part 3 says what may be
// ignored), and the elements of SpreadsheetML (Part 1). It does not use excelize.
func checkBook(t testing.TB, data []byte) *pack {
	t.Helper()
	p := readPack(data)
	for _, fault := range p.faults {
		t.Error(fault)
	}
	return p
}

// readPack reads a workbook and collects its faults. It stops after a fault that prevents further reading.
func readPack(data []byte) (p *pack) {
	p = &pack{data: make(map[string][]byte), parts: make(map[string]*xmlNode), types: make(map[string]string), seen: make(map[string]bool)}
	defer func() { // p has what was read so far
		if v := recover(); v != nil && v != errStopped {
			panic(v)
		}
	}()
	p.unzip(data)
	p.contentTypes()
	p.follow("/", "_rels/.rels")
	for name := range p.parts {
		if !p.seen[name] && name != "[Content_Types].xml" && !strings.HasSuffix(name, ".rels") {
			p.fault("no relationship leads to %s", name)
		}
	}
	return p
}

type pack struct {
	faults []string
	data   map[string][]byte
	parts  map[string]*xmlNode
	types  map[string]string // content types, by part
	seen   map[string]bool   // parts that a relationship leads to
	styles *xmlNode
	sheets []*xmlNode // in the workbook's order
}

var errStopped = errors.New("stopped")

func (p *pack) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

func (p *pack) stop(format string, args ...any) {
	p.fault(format, args...)
	panic(errStopped)
}

// unzip reads all parts. Names that differ in case alone are the same (Part 2, 6.2.2.3).
func (p *pack) unzip(data []byte) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		p.stop("%v", err)
	}
	lower := make(map[string]bool)
	for _, f := range z.File {
		if lower[strings.ToLower(f.Name)] || strings.HasSuffix(f.Name, "/") || strings.ContainsAny(f.Name, `\ `) || path.Clean("/"+f.Name) != "/"+f.Name {
			p.fault("the part %q is there twice, or has no valid name", f.Name)
		}
		lower[strings.ToLower(f.Name)] = true
		r, err := f.Open()
		if err != nil {
			p.stop("%v", err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			p.stop("%s: %v", f.Name, err)
		}
		p.data[f.Name] = body
		if p.parts[f.Name], err = parseXML(body); err != nil {
			p.stop("%s: %v", f.Name, err)
		}
	}
}

// contentTypes reads the types of the parts. Each part must have one (Part 2, 6.2.3).
func (p *pack) contentTypes() {
	const ns = "http://schemas.openxmlformats.org/package/2006/content-types"
	root := p.parts["[Content_Types].xml"]
	if root == nil || root.ns != ns || root.local != "Types" {
		p.stop("no content types")
	}
	byExtension := make(map[string]string)
	for _, n := range root.children {
		switch {
		case n.ns == ns && n.local == "Default" && byExtension[n.attr("Extension")] == "":
			byExtension[n.attr("Extension")] = n.attr("ContentType")
		case n.ns == ns && n.local == "Override" && p.types[strings.TrimPrefix(n.attr("PartName"), "/")] == "" && strings.HasPrefix(n.attr("PartName"), "/"):
			name := n.attr("PartName")[1:]
			p.types[name] = n.attr("ContentType")
			if p.parts[name] == nil {
				p.fault("there is a content type for %s, which is not there", name)
			}
		default:
			p.fault("content types: %s %v", n.local, n.attrs)
		}
	}
	for name := range p.parts {
		if p.types[name] == "" && name != "[Content_Types].xml" {
			p.types[name] = byExtension[strings.TrimPrefix(path.Ext(name), ".")]
			if p.types[name] == "" {
				p.fault("%s has no content type", name)
			}
		}
	}
}

const (
	officeRel  = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
	packageRel = "http://schemas.openxmlformats.org/package/2006/relationships/"
	sheetType  = "application/vnd.openxmlformats-officedocument.spreadsheetml."
)

// follow checks relationships (Part 2, 6.5) and their targets.
func (p *pack) follow(base, rels string) {
	const ns = "http://schemas.openxmlformats.org/package/2006/relationships"
	root := p.parts[rels]
	if root == nil || root.ns != ns || root.local != "Relationships" {
		p.stop("%s: no relationships", rels)
	}
	targets, ofSheets := make(map[string]string), make(map[string]string)
	for _, n := range root.children {
		id, target := n.attr("Id"), strings.TrimPrefix(path.Join(base, n.attr("Target")), "/")
		if n.ns != ns || n.local != "Relationship" || !regexp.MustCompile(`^[A-Za-z_][\w.-]*$`).MatchString(id) || targets[id] != "" || n.attr("TargetMode") != "" || p.parts[target] == nil {
			p.fault("%s: the relationship %q leads to %q", rels, id, target)
			continue
		}
		targets[id], p.seen[target] = target, true
		part, typ := p.parts[target], p.types[target]
		want := ""
		switch n.attr("Type") {
		case officeRel + "officeDocument":
			want = sheetType + "sheet.main+xml"
			defer func() {
				p.follow(path.Dir("/"+target), path.Join(path.Dir(target), "_rels", path.Base(target)+".rels"))
				p.workbook(part)
			}()
		case officeRel + "worksheet":
			want, ofSheets[id] = sheetType+"worksheet+xml", target
		case officeRel + "styles":
			want, p.styles = sheetType+"styles+xml", part
		case officeRel + "theme":
			want = "application/vnd.openxmlformats-officedocument.theme+xml"
			if part.ns != "http://schemas.openxmlformats.org/drawingml/2006/main" || part.local != "theme" {
				p.fault("%s is a %s %s", target, part.ns, part.local)
			}
		case officeRel + "extended-properties":
			want = "application/vnd.openxmlformats-officedocument.extended-properties+xml"
			p.properties(part, "Properties", appNames, map[string]string{"": "http://schemas.openxmlformats.org/officeDocument/2006/extended-properties"})
		case packageRel + "metadata/core-properties":
			want = "application/vnd.openxmlformats-package.core-properties+xml"
			p.properties(part, "cp:coreProperties", coreNames, coreSpaces)
		}
		if typ != want {
			p.fault("%s: a relationship %s to %s, of the type %s, want %s", rels, n.attr("Type"), target, typ, want)
		}
	}
	for _, sheet := range p.sheetIDs(base) {
		if ofSheets[sheet] == "" {
			p.stop("the workbook names the sheet %s, to which no relationship leads", sheet)
		}
		p.sheets = append(p.sheets, p.parts[ofSheets[sheet]])
	}
	if base != "/" && len(ofSheets) != len(p.sheets) {
		p.fault("%d sheets in the workbook, %d in its relationships", len(p.sheets), len(ofSheets))
	}
}

// sheetIDs returns the relationships of the workbook's sheets.
func (p *pack) sheetIDs(base string) (ids []string) {
	if base == "/" {
		return nil
	}
	for _, n := range p.parts["xl/workbook.xml"].all("sheet") {
		ids = append(ids, n.attr("r:id"))
	}
	return ids
}

var coreSpaces = map[string]string{
	"cp": "http://schemas.openxmlformats.org/package/2006/metadata/core-properties",
	"dc": "http://purl.org/dc/elements/1.1/", "dcterms": "http://purl.org/dc/terms/",
}

// properties checks that each property is allowed, has its namespace and its usual prefix, and occurs once.
func (p *pack) properties(root *xmlNode, name, names string, spaces map[string]string) {
	known := strings.Fields(names)
	for i, n := range append([]*xmlNode{root}, root.children...) {
		at := slices.Index(known, n.name())
		if i == 0 && n.name() != name || i > 0 && at < 0 || n.ns != spaces[n.prefix] || len(n.children) > 0 && i > 0 {
			p.fault("the property %s of %q is not known, there twice, or not of its namespace", n.name(), n.ns)
		}
		if at >= 0 {
			known = slices.Delete(known, at, at+1)
		}
		if n.prefix != "dcterms" {
			continue
		}
		if _, err := time.Parse(time.RFC3339, n.text); err != nil || n.attr("xsi:type") != "dcterms:W3CDTF" {
			p.fault("%s is %q, a %s", n.name(), n.text, n.attr("xsi:type"))
		}
	}
}

// workbook checks workbook, styles and sheets.
func (p *pack) workbook(workbook *xmlNode) {
	p.element(workbook, "workbook")
	names, ids := make(map[string]bool), make(map[string]bool)
	for _, n := range workbook.all("sheet") {
		name := n.attr("name")
		if names[strings.ToLower(name)] || ids[n.attr("sheetId")] || len(utf16.Encode([]rune(name))) > 31 || strings.ContainsAny(name, `:\/?*[]`) {
			p.fault("the sheet %q is there twice, or has no valid name", name)
		}
		names[strings.ToLower(name)], ids[n.attr("sheetId")] = true, true
	}
	if p.styles == nil {
		p.stop("no styles")
	}
	p.element(p.styles, "styleSheet")
	p.references()
	selected := 0
	for _, sheet := range p.sheets {
		p.element(sheet, "worksheet")
		p.cells(sheet)
		if sheet.all("sheetView")[0].attr("tabSelected") != "" {
			selected++
		}
	}
	if selected != 1 {
		p.fault("%d sheets are selected", selected)
	}
}

// references checks that the targets of a style exist, and that the counts of lists are right.
func (p *pack) references() {
	counts := make(map[string]int)
	for _, list := range p.styles.children {
		counts[list.local] = len(list.children)
		if count := list.attr("count"); count != "" && count != strconv.Itoa(len(list.children)) {
			p.fault("%s: %s of %d", list.local, count, len(list.children))
		}
	}
	formats := make(map[string]bool)
	for _, n := range p.styles.all("numFmt") {
		if id, err := strconv.Atoi(n.attr("numFmtId")); err != nil || id < 164 || formats[n.attr("numFmtId")] {
			p.fault("the number format %s: a number of Excel's own, or there twice", n.attr("numFmtId"))
		}
		formats[n.attr("numFmtId")] = true
	}
	for _, xf := range p.styles.all("xf") {
		for attr, list := range map[string]string{"fontId": "fonts", "fillId": "fills", "borderId": "borders", "xfId": "cellStyleXfs"} {
			if id, _ := strconv.Atoi(xf.attr(attr)); id >= counts[list] {
				p.fault("a style with the %s %d of %d", attr, id, counts[list])
			}
		}
		if id, _ := strconv.Atoi(xf.attr("numFmtId")); id >= 164 && !formats[strconv.Itoa(id)] {
			p.fault("a style with the number format %d, which is not there", id)
		}
	}
}

// cells checks what the schema cannot express: rows and cells are in order, their styles exist, their values have their type, and the range of
// the sheet is that of its cells.
func (p *pack) cells(sheet *xmlNode) {
	styles := 0
	for _, list := range p.styles.children {
		if list.local == "cellXfs" {
			styles = len(list.children)
		}
	}
	lastRow, lastColumn := 0, 0
	for _, row := range sheet.all("row") {
		r, _ := strconv.Atoi(row.attr("r"))
		if r <= lastRow || r > 1_048_576 {
			p.stop("row %d after row %d", r, lastRow)
		}
		lastRow = r
		before := 0
		for _, c := range row.children {
			column, inRow, err := excelize.CellNameToCoordinates(c.attr("r"))
			if err != nil || inRow != r || column <= before {
				p.stop("the cell %s in row %d behind column %d: %v", c.attr("r"), r, before, err)
			}
			before, lastColumn = column, max(lastColumn, column)
			if style, _ := strconv.Atoi(c.attr("s")); style >= styles {
				p.fault("%s has the style %d of %d", c.attr("r"), style, styles)
			}
			p.value(c)
		}
	}
	last, _ := excelize.CoordinatesToCellName(max(1, lastColumn), max(1, lastRow))
	if ref := sheet.all("dimension")[0].attr("ref"); ref != "A1:"+last && !(ref == "A1" && last == "A1") {
		p.fault("the range %s, but the last cell is %s", ref, last)
	}
	end := 0
	for _, col := range sheet.all("col") {
		from, _ := strconv.Atoi(col.attr("min"))
		to, _ := strconv.Atoi(col.attr("max"))
		if from <= end || to < from || to > 16384 {
			p.fault("the columns %d to %d behind %d", from, to, end)
		}
		end = to
	}
}

// value checks a cell against its type (18.18.11).
func (p *pack) value(c *xmlNode) {
	var name, text string
	if len(c.children) == 1 {
		name, text = c.children[0].local, c.children[0].text
		if name == "is" && len(c.children[0].children) == 1 {
			text = c.children[0].children[0].text
		}
	}
	ok := false
	switch c.attr("t") {
	case "inlineStr":
		ok = name == "is" && len(utf16.Encode([]rune(text))) <= 32_767 && len(c.children[0].children) == 1
		if trimmed := strings.Trim(text, " \t\r\n"); ok && trimmed != text && c.children[0].children[0].attr("xml:space") != "preserve" {
			p.fault("%s: white space is not preserved", c.attr("r"))
		}
	case "b":
		ok = name == "v" && (text == "0" || text == "1")
	case "", "n":
		ok = name == "v" && regexp.MustCompile("^"+simpleTypes["double"]+"$").MatchString(text)
	}
	if !ok {
		p.fault("%s is a %q with the value %s %.60q", c.attr("r"), c.attr("t"), name, text)
	}
}

// element checks an element and its content against the schema.
func (p *pack) element(n *xmlNode, name string) {
	is, ok := spreadsheetML[name]
	if !ok || n.ns != spreadsheetNS || n.local != name {
		p.stop("%s of %q is not known here", n.local, n.ns)
	}
	var names strings.Builder
	for _, child := range n.children {
		names.WriteString(child.local + " ")
		p.element(child, child.local)
	}
	if !childPattern(is.children).MatchString(names.String()) {
		p.fault("%s (%s) has the children %.200s", name, is.clause, names.String())
	}
	if is.text == "" && strings.TrimSpace(n.text) != "" {
		p.fault("%s (%s) has the text %.60q", name, is.clause, n.text)
	}
	rest := slices.Clone(n.attrs)
	for _, attribute := range strings.Fields(is.attributes) {
		attribute, required := strings.CutSuffix(attribute, "!")
		attr, typ, _ := strings.Cut(attribute, "=")
		i := slices.IndexFunc(rest, func(a xmlAttr) bool { return a.name == attr })
		switch {
		case i < 0 && required:
			p.fault("%s (%s) lacks %s", name, is.clause, attr)
		case i >= 0 && !matches(typ, rest[i].value):
			p.fault("%s (%s): %s is %q, which is no %s", name, is.clause, attr, rest[i].value, typ)
		}
		if i >= 0 {
			rest = slices.Delete(rest, i, i+1)
		}
	}
	if len(rest) > 0 {
		p.fault("%s (%s) has %v", name, is.clause, rest)
	}
}

var patterns sync.Map

func pattern(expr string) *regexp.Regexp {
	compiled, ok := patterns.Load(expr)
	if !ok {
		compiled, _ = patterns.LoadOrStore(expr, regexp.MustCompile("^("+expr+")$"))
	}
	return compiled.(*regexp.Regexp)
}

func matches(typ, value string) bool { return pattern(simpleTypes[typ]).MatchString(value) }

// childPattern returns a pattern for the names of an element's children, with a space after each.
func childPattern(children string) *regexp.Regexp {
	var expr strings.Builder
	for _, item := range strings.Fields(children) {
		name := strings.TrimRight(item, "?*+")
		alternatives := strings.Split(strings.Trim(name, "()"), "|")
		expr.WriteString("((" + strings.Join(alternatives, "|") + ") )" + item[len(name):])
	}
	return pattern(expr.String())
}
