package export

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Config is the content of hark.yaml: the databases, and the datasets that can be exported from them, in the order of the file.
type Config struct {
	Databases []Database
	Datasets  []Dataset
	// StatementTimeout is the timeout of a statement. The database server enforces it, so that it also ends statements when hark
	// has crashed or the connection is broken. If the context of [Exporter.Run] has a deadline, a statement times out before
	// that: after four fifths of the time, or 10 s before the deadline. 0 means no other timeout.
	StatementTimeout time.Duration
}

// Database is a database that datasets query.
type Database struct {
	Name   string
	Driver Driver
	// DSN is the data source name, with its ${VARIABLES} replaced. It may contain a password, so errors, logs and texts for
	// users never contain it.
	DSN string
	// MaxOpen is the largest number of open connections. [Load] defaults it to 4.
	MaxOpen int

	// prepare, if set, creates the database. It is called before the first use, and may be called again.
	prepare func(context.Context) error
	// preparing is the progress message for users meanwhile.
	preparing string
}

// Dataset is a named query and its params.
type Dataset struct {
	Name     string
	Title    string
	Database string
	Sheet    string // the name of the sheet; a second sheet is called "Orders (2)"
	Query    Statement
	Count    Statement // counts the rows; empty if they are not counted
	// CountOptional says that Count was derived from Query, which does not work for every query.
	CountOptional bool
	Params        []jobs.Param
	// Allow has the rules for exporting it, of which one must hold. Without rules every signed-in user may export it.
	Allow   []jobs.Rule
	Columns map[string]Column // by the column's name in the query
	// CSV and Timezone are the defaults of a request.
	CSV      CSVFormat
	Timezone string // the name of a zone in the IANA database
}

// Column says how a column of a dataset is shown. The zero Column leaves everything to its values.
type Column struct {
	Title  string
	Format string  // date, datetime, money, percent, text, or an Excel number format
	Width  float64 // in characters; 0 means the width of the first rows
	// UTC says that times without a zone are in UTC, so that they can be shown in another zone.
	UTC bool
}

// ConfigError is an error in a config file.
type ConfigError struct {
	File         string
	Line, Column int // from 1; 0 means the whole file
	Message      string
}

func (e *ConfigError) Error() string {
	switch {
	case e.Line == 0:
		return fmt.Sprintf("%s: %s", e.File, e.Message)
	case e.Column == 0:
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// maxConfigBytes is the largest size of a config file.
const maxConfigBytes = 1 << 20

// Load reads the config file at path. Relative paths of SQLite files start at its folder. An error in the file is a [*ConfigError].
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	return parse(path, data, filepath.Dir(path))
}

// Parse is [Load] for the content of a file; errors contain name. Relative paths of SQLite files start at the current directory.
func Parse(name string, data []byte) (*Config, error) { return parse(name, data, "") }

// Dataset returns the dataset with this name, or nil.
func (c *Config) Dataset(name string) *Dataset {
	for i := range c.Datasets {
		if c.Datasets[i].Name == name {
			return &c.Datasets[i]
		}
	}
	return nil
}

// database returns the database with this name, or nil.
func (c *Config) database(name string) *Database {
	for i := range c.Databases {
		if c.Databases[i].Name == name {
			return &c.Databases[i]
		}
	}
	return nil
}
