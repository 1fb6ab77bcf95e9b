package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hark-jobs/hark/internal/exact"
	"github.com/hark-jobs/hark/jobs"
)

// Format is the file format of an export.
type Format string

// The formats.
const (
	XLSX Format = "xlsx"
	CSV  Format = "csv"
)

// The params of every export. Params of datasets must have other names.
const (
	paramDataset   = "dataset"
	paramFormat    = "format"
	paramSeparator = "csv_separator"
	paramDecimal   = "csv_decimal"
	paramBOM       = "csv_bom"
	paramTimezone  = "timezone"
)

var ownParams = []string{paramDataset, paramFormat, paramSeparator, paramDecimal, paramBOM, paramTimezone}

// Params are the params of an export. In JSON they are one flat object:
//
//	{"dataset":"orders","format":"csv","csv_separator":";","csv_decimal":",","csv_bom":true,"timezone":"Europe/Berlin","from":"2026-01-01"}
type Params struct {
	Dataset string
	Format  Format // Defaults to XLSX.
	// CSV is the format of CSV. Each field defaults to that of the dataset.
	CSV CSVFormat
	// Timezone is the zone in which times are shown, by its name in the IANA database. Defaults to that of the dataset.
	Timezone string
	// Values are the values of the dataset's own params, as encoding/json decodes them with UseNumber.
	Values map[string]any
	// Identity is that of the job's user. It comes from the job, and is not part of the JSON.
	Identity Identity
}

// UnmarshalJSON decodes the flat object. A duplicate name is an error.
func (p *Params) UnmarshalJSON(data []byte) error {
	values, err := exact.Object(data)
	if err != nil {
		return fmt.Errorf("export: params: %w", err)
	}
	q := Params{Identity: p.Identity}
	for name, to := range map[string]*string{
		paramDataset: &q.Dataset, paramFormat: (*string)(&q.Format), paramTimezone: &q.Timezone,
		paramSeparator: (*string)(&q.CSV.Separator), paramDecimal: &q.CSV.Decimal,
	} {
		if v, given := values[name]; given && v != nil {
			text, ok := v.(string)
			if !ok {
				return fmt.Errorf("export: params: %s must be a string", name)
			}
			*to = text
		}
		delete(values, name)
	}
	if v, given := values[paramBOM]; given && v != nil {
		bom, ok := v.(bool)
		if !ok {
			return fmt.Errorf("export: params: %s must be true or false", paramBOM)
		}
		q.CSV.BOM = &bom
	}
	delete(values, paramBOM)
	q.Values = values
	*p = q
	return nil
}

// MarshalJSON encodes the flat object.
func (p Params) MarshalJSON() ([]byte, error) {
	flat := maps.Clone(p.Values)
	if flat == nil {
		flat = make(map[string]any)
	}
	flat[paramDataset] = p.Dataset
	for name, text := range map[string]string{
		paramFormat: string(p.Format), paramTimezone: p.Timezone, paramSeparator: string(p.CSV.Separator), paramDecimal: p.CSV.Decimal,
	} {
		if text != "" {
			flat[name] = text
		}
	}
	if p.CSV.BOM != nil {
		flat[paramBOM] = *p.CSV.BOM
	}
	return json.Marshal(flat)
}

// FileName returns the name and the content type of the file of an export.
func FileName(p Params, now time.Time) (name, contentType string) {
	name = p.Dataset + "-" + now.Format(time.DateOnly)
	if p.Format == CSV {
		return name + ".csv", "text/csv; charset=utf-8"
	}
	return name + ".xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
}

// Kind returns the kind of the exports of a config. The params for the format are among those of each dataset, since each dataset has
// its own defaults.
func (c *Config) Kind() jobs.Kind {
	dataset := jobs.Param{Name: paramDataset, Title: "Dataset", Type: jobs.TypeString, Required: true}
	for i := range c.Datasets {
		d := &c.Datasets[i]
		params := append(slices.Clone(d.Params), d.formatParams()...)
		dataset.Options = append(dataset.Options, jobs.Option{Value: d.Name, Title: d.Title, Params: params, Allow: d.Allow, Claims: d.claims()})
	}
	return jobs.Kind{Name: "export", Title: "Export", Action: "Export", Unit: "rows", Params: []jobs.Param{dataset}, MaxAttempts: 3}
}

// check checks the params and returns them with their defaults. They were checked when the job was enqueued, but maybe with another
// config.
func (c *Config) check(p Params) (Params, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return p, fmt.Errorf("export: params: %w", err)
	}
	kind := c.Kind()
	checked, err := kind.Check(data)
	var wrong *jobs.InvalidError
	if errors.As(err, &wrong) {
		return p, &Error{Code: CodeParamInvalid, Message: wrong.Error() + "."}
	} else if err != nil {
		return p, fmt.Errorf("export: params: %w", err)
	}
	full := Params{Identity: p.Identity}
	if err := json.Unmarshal(checked, &full); err != nil {
		return p, err
	}
	return full, c.Dataset(full.Dataset).checkIdentity(p.Identity)
}
