package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Format is what a dataset is exported to.
type Format string

// The formats.
const (
	XLSX Format = "xlsx"
	CSV  Format = "csv"
)

// Params are what an export is asked for with. In JSON they are one flat object:
//
//	{"dataset":"orders","format":"xlsx","from":"2026-01-01"}
type Params struct {
	Dataset string
	Format  Format // XLSX if empty
	// Values are the values of the dataset's own params, as encoding/json decodes them with UseNumber.
	Values map[string]any
	// Identity is whose export it is. It comes from the job, and is no part of the JSON.
	Identity Identity
}

// UnmarshalJSON reads the flat object.
func (p *Params) UnmarshalJSON(data []byte) error {
	values := make(map[string]any)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&values); err != nil {
		return fmt.Errorf("export: params: %w", err)
	}
	var q Params
	for name, to := range map[string]*string{paramDataset: &q.Dataset, paramFormat: (*string)(&q.Format)} {
		if v, given := values[name]; given && v != nil {
			text, ok := v.(string)
			if !ok {
				return fmt.Errorf("export: params: %s must be a string", name)
			}
			*to = text
		}
		delete(values, name)
	}
	q.Values, q.Identity = values, p.Identity
	*p = q
	return nil
}

// MarshalJSON writes the flat object.
func (p Params) MarshalJSON() ([]byte, error) {
	flat := maps.Clone(p.Values)
	if flat == nil {
		flat = make(map[string]any)
	}
	flat[paramDataset] = p.Dataset
	if p.Format != "" {
		flat[paramFormat] = p.Format
	}
	return json.Marshal(flat)
}

// FileName returns what the file of an export is called, and its content type.
func FileName(p Params, now time.Time) (name, contentType string) {
	name = p.Dataset + "-" + now.Format(time.DateOnly)
	if p.Format == CSV {
		return name + ".csv", "text/csv; charset=utf-8"
	}
	return name + ".xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
}

// Kind describes the exports of a config to those who ask for them.
func (c *Config) Kind() jobs.Kind {
	dataset := jobs.Param{Name: paramDataset, Title: "Dataset", Type: jobs.TypeString, Required: true}
	for _, d := range c.Datasets {
		dataset.Options = append(dataset.Options, jobs.Option{Value: d.Name, Title: d.Title, Params: d.Params, Allow: d.Allow, Claims: d.claims()})
	}
	format := jobs.Param{
		Name: paramFormat, Title: "Format", Type: jobs.TypeString, Default: string(XLSX),
		Options: []jobs.Option{{Value: string(XLSX), Title: "Excel"}, {Value: string(CSV), Title: "CSV"}},
	}
	return jobs.Kind{Name: "export", Title: "Export", Params: []jobs.Param{dataset, format}, MaxAttempts: 3}
}

// check returns the params with their defaults filled in. They were checked when the job was asked for,
// but maybe against another config.
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
