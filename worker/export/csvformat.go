package export

import (
	"slices"

	"github.com/hark-jobs/hark/jobs"
)

// CSVFormat is the format of fields and numbers in CSV.
type CSVFormat struct {
	Separator Separator // between fields
	Decimal   string    // the decimal mark, "." or ","
	BOM       *bool     // whether the file begins with a byte order mark, by which Excel detects UTF-8
}

// Separator separates the fields of a CSV.
type Separator string

// The separators. Excel expects a semicolon where the decimal mark of the system is a comma.
const (
	Comma       Separator = ","
	Semicolon   Separator = ";"
	Tab         Separator = "tab"
	VerticalBar Separator = "|"
)

var (
	separators = []Separator{Comma, Semicolon, Tab, VerticalBar}
	decimals   = []string{".", ","}

	separatorTitles = map[Separator]string{Comma: "Comma", Semicolon: "Semicolon", Tab: "Tab", VerticalBar: "Vertical bar"}
	decimalTitles   = map[string]string{".": "Point (1.5)", ",": "Comma (1,5)"}
)

var (
	withBOM    = true
	defaultCSV = CSVFormat{Separator: Comma, Decimal: ".", BOM: &withBOM}
)

const defaultZone = "UTC"

// csvFormat reads the key csv of a dataset.
func csvFormat(n node) (CSVFormat, error) {
	f := defaultCSV
	fields, err := n.mapping("separator, decimal or bom", "separator", "decimal", "bom")
	if err != nil {
		return f, err
	}
	var decimal node
	for _, field := range fields {
		switch field.name {
		case "separator":
			f.Separator, err = markOf(field.node, separators, `",", ";", "|" or tab`)
		case "decimal":
			decimal = field.node
			f.Decimal, err = markOf(field.node, decimals, `"." or ","`)
		case "bom":
			var bom bool
			bom, err = field.node.boolean()
			f.BOM = &bom
		}
		if err != nil {
			return f, err
		}
	}
	if string(f.Separator) == f.Decimal {
		return f, decimal.errorf(`is the separator of fields as well; expected separator: ";" beside it`)
	}
	return f, nil
}

// markOf returns n if it is one of the marks. expected lists them for the error.
func markOf[T ~string](n node, marks []T, expected string) (T, error) {
	mark, err := n.text(expected)
	if err == nil && !slices.Contains(marks, T(mark)) {
		err = n.errorf("is %.60q; expected %s", mark, expected)
	}
	return T(mark), err
}

// timezone reads the name of a zone.
func timezone(n node) (string, error) {
	const expected = "a time zone of the IANA database, like Europe/Berlin or UTC"
	name, err := n.text(expected)
	if err != nil {
		return "", err
	}
	if _, err := jobs.LoadZone(name); err != nil {
		return "", n.errorf("is %.60q; expected %s", name, expected)
	}
	return name, nil
}

// formatParams returns the params for the format of the file. Each separator has the decimal marks that differ from it.
func (d *Dataset) formatParams() []jobs.Param {
	separator := jobs.Param{Name: paramSeparator, Title: "Separator", Type: jobs.TypeString, Default: string(d.CSV.Separator)}
	for _, s := range separators {
		decimal := jobs.Param{Name: paramDecimal, Title: "Decimal mark", Type: jobs.TypeString}
		for _, mark := range decimals {
			if mark != string(s) {
				decimal.Options = append(decimal.Options, jobs.Option{Value: mark, Title: decimalTitles[mark]})
			}
		}
		decimal.Default = decimal.Options[0].Value
		if slices.ContainsFunc(decimal.Options, func(o jobs.Option) bool { return o.Value == d.CSV.Decimal }) {
			decimal.Default = d.CSV.Decimal
		}
		separator.Options = append(separator.Options, jobs.Option{Value: string(s), Title: separatorTitles[s], Params: []jobs.Param{decimal}})
	}
	bom := jobs.Param{Name: paramBOM, Title: "Byte order mark, for Excel", Type: jobs.TypeBoolean, Default: *d.CSV.BOM}
	return []jobs.Param{
		{
			Name: paramFormat, Title: "Format", Type: jobs.TypeString, Default: string(XLSX),
			Options: []jobs.Option{{Value: string(XLSX), Title: "Excel"}, {Value: string(CSV), Title: "CSV", Params: []jobs.Param{separator, bom}}},
		},
		{Name: paramTimezone, Title: "Time zone", Type: jobs.TypeTimezone, Default: d.Timezone},
	}
}
