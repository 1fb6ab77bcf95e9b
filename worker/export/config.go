package export

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Config is what hark.yaml says: the databases, and the datasets that can be exported from them, both in
// the order in which they are written.
type Config struct {
	Databases []Database
	Datasets  []Dataset
	// StatementTimeout is how long a statement may take in the database: what ends it where hark cannot, because it has
	// died or the connection is broken. 0 means no limit.
	StatementTimeout time.Duration
}

// Database is where datasets come from.
type Database struct {
	Name   string
	Driver Driver
	// DSN is the data source name with its ${VARIABLES} filled in. It may hold a password, so it never
	// stands in an error, in a log, or in anything that a user reads.
	DSN string
	// MaxOpen is how many connections may be open at once, 4 if hark.yaml does not say.
	MaxOpen int

	// prepare, if set, makes the database. It is called before the first use, and may be called again.
	prepare func(context.Context) error
	// preparing is what users read meanwhile.
	preparing string
}

// Dataset is a named query and its params.
type Dataset struct {
	Name     string
	Title    string
	Database string
	Sheet    string // the name of the sheet; a second sheet is called "Orders (2)"
	Query    Statement
	Count    Statement // how the rows are counted; empty if they are not
	// CountOptional says that Count was derived from Query, which does not work for each and every query.
	CountOptional bool
	Params        []jobs.Param
	// Allow says who may export it: those for whom one of the rules holds. Without rules, everybody who is signed in.
	Allow   []jobs.Rule
	Columns map[string]Column // by the column's name in the query
}

// Column says how a column of a dataset is shown. The zero Column leaves everything to its values.
type Column struct {
	Title  string
	Format string  // date, datetime, money, percent, text, or an Excel number format
	Width  float64 // in characters; 0 takes it from the first rows
}

// ConfigError says what is wrong with a config file, and where.
type ConfigError struct {
	File         string
	Line, Column int // from 1; 0 if the file as a whole is meant
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

// maxConfigBytes limits a config file; a longer one is surely something else.
const maxConfigBytes = 1 << 20

// Load reads the config file at path. SQLite files are looked for beside it. What is wrong with the file
// is told as a [*ConfigError].
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	return parse(path, data, filepath.Dir(path))
}

// Parse is [Load] for a file that was read already; name stands in errors. SQLite files are looked for in
// the current directory.
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
