package export

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Exporter runs the exports of a config. It is safe for concurrent use.
type Exporter struct {
	config  *Config
	kind    jobs.Kind
	sources map[string]*source
	maxRows int // of a sheet
}

// Open returns an Exporter. It does not connect: a database that is down fails the jobs that need it, not the start of hark. Close it
// after its last Run has returned.
func Open(c *Config) (*Exporter, error) {
	e := &Exporter{config: c, kind: c.Kind(), sources: make(map[string]*source), maxRows: maxSheetRows}
	for i := range c.Databases {
		d := &c.Databases[i]
		s, err := d.open(c.StatementTimeout)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("export: %w", err), e.Close())
		}
		e.sources[d.Name] = s
	}
	return e, nil
}

// Close closes the databases.
func (e *Exporter) Close() error {
	var errs []error
	for _, s := range e.sources {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}

// Kind returns the kind of the exports.
func (e *Exporter) Kind() jobs.Kind { return e.kind }

// Prepare creates the databases that hark itself provides, such as the sample shop, and blocks until they exist. It is optional: a Run
// that needs one of them waits for it, or creates it. Prepare does that in the background of a start.
func (e *Exporter) Prepare(ctx context.Context) error {
	for i := range e.config.Databases {
		s := e.sources[e.config.Databases[i].Name]
		if err := s.prepareOnce(ctx, func() {}); err != nil {
			return fmt.Errorf("export: prepare the database %s: %w", s.Name, err)
		}
	}
	return nil
}

// source is a database and its pool.
type source struct {
	*Database
	db        *sql.DB
	connector driver.Connector // of MySQL
	limit     time.Duration    // of a statement; 0 means no limit
	limited   bool             // the DSN has a timeout for statements in the server
	slot      chan struct{}    // a mutex for ready and for preparing
	ready     bool
}

// prepareOnce creates the database if it does not exist yet. A concurrent call waits, and tries itself if the first one fails or is
// cancelled. waiting is called before a long wait.
func (s *source) prepareOnce(ctx context.Context, waiting func()) error {
	select {
	case s.slot <- struct{}{}:
	default:
		waiting()
		select {
		case s.slot <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer func() { <-s.slot }()
	if s.ready {
		return nil
	}
	waiting()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	s.ready = true
	return nil
}

// ping returns an error if the database cannot be reached.
func (s *source) ping(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	err := s.db.PingContext(limited)
	if err == nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if halfWritten(err) {
		return repairError("The database "+s.Name, err)
	}
	return &Error{CodeDatabaseUnavailable, "The database " + s.Name + " cannot be reached.", true, err}
}
