package export

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hark-jobs/hark/jobs"
)

// Exporter runs the exports of a config. It may be used from many goroutines at once.
type Exporter struct {
	config  *Config
	kind    jobs.Kind
	sources map[string]*source
	maxRows int // of a sheet
}

// Open returns an Exporter. It connects to no database: one that is down fails the jobs that need it, not
// the start of hark. Close it when its last Run has returned.
func Open(c *Config) (*Exporter, error) {
	e := &Exporter{config: c, kind: c.Kind(), sources: make(map[string]*source), maxRows: maxSheetRows}
	for i := range c.Databases {
		d := &c.Databases[i]
		db, err := d.open(c.StatementTimeout)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("export: %w", err), e.Close())
		}
		e.sources[d.Name] = &source{Database: d, db: db, slot: make(chan struct{}, 1), ready: d.prepare == nil}
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

// Kind describes the exports to those who ask for them.
func (e *Exporter) Kind() jobs.Kind { return e.kind }

// Prepare makes the databases that hark itself provides, such as the sample shop, and blocks until they are
// there. A Run that needs one of them waits for it, or makes it if nobody does, so Prepare is only for
// having it done before: in the background of a start.
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
	db    *sql.DB
	slot  chan struct{} // held by whoever looks at ready, or prepares
	ready bool
}

// prepareOnce makes the database if that was not done yet. Who comes second waits, and tries in turn if the
// first one failed or was cancelled. waiting is called if it may take a while.
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

// ping finds out whether the database answers at all.
func (s *source) ping(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	err := s.db.PingContext(limited)
	if err == nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &Error{CodeDatabaseUnavailable, "The database " + s.Name + " cannot be reached.", true, err}
}
