package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// ErrNotFound says that a user has no such notification: it never was, is somebody else's, was deleted or
// has expired.
var ErrNotFound = errors.New("inbox: no such notification")

// Store is the log in a database. Its methods may be called concurrently, block for the database as long
// as ctx allows, and return its errors.
type Store struct {
	dialect dialect
	write   *sql.DB
	read    *sql.DB // the same as write on PostgreSQL
	closers []io.Closer

	statements sync.Map // of [Store.prepare]: query to *sql.Stmt; none is for both write and read

	gate     chan struct{} // held while migrating
	migrated atomic.Bool

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when the position moved in this process

	// wanted holds one token while somebody has asked for what may be on its way here, and the filler of this
	// process, if it has one, has not taken notice.
	wanted chan struct{}
}

// dialect is what differs between the two databases.
type dialect struct {
	name string
	// lockMigrations is run first in the transaction that migrates; it lets one process at a time through.
	lockMigrations string
	// now is an expression for the database's clock, in Unix milliseconds: the machines that share it may
	// not agree on the time.
	now string
	// plainPlaceholders: both take $1, but SQLite looks each up by its name, in time that grows with
	// their number: half of the time of a long INSERT, which ? saves.
	plainPlaceholders bool
	// rowsAtOnce are the numbers of rows that one INSERT is made for, the largest first; what is less than the
	// last takes one of its own.
	rowsAtOnce []int
	// insert and unlessThere, before and after what is inserted, leave rows alone that are there already.
	insert, unlessThere string
	// isBusy says of an error that it was too early, and nothing is wrong.
	isBusy func(error) bool
	// keepStatements: pgx keeps prepared statements by itself; to SQLite, planning a page costs as much as
	// reading it.
	keepStatements bool
	// inProcess: what a transaction does once it has begun is done by this process, and waits for nobody.
	inProcess bool
	// snapshot makes a transaction in which all reads see the same moment.
	snapshot *sql.TxOptions
}

// atOnce returns how many of so many rows the next INSERT takes.
func (d dialect) atOnce(rows int) int {
	for _, n := range d.rowsAtOnce {
		if n <= rows {
			return n
		}
	}
	return rows
}

// Open returns the log in the database that url names: postgres://… or the path of a SQLite file, which is
// made if it is not there. It connects to nothing: a database that is down is an error of the calls, for
// as long as it is down. The first call that reaches it brings its tables up to date.
func Open(url string) (*Store, error) {
	scheme, _, hasScheme := strings.Cut(url, "://")
	switch {
	case url == "":
		return nil, errors.New("inbox: open: no database given")
	case scheme == "postgres" || scheme == "postgresql":
		return openPostgres(url)
	case hasScheme:
		return nil, fmt.Errorf("inbox: open: %s:// is not supported; give postgres://… or the path of a SQLite file", scheme)
	}
	return openSQLite(url)
}

func newStore(d dialect, write, read *sql.DB, closers ...io.Closer) *Store {
	return &Store{dialect: d, write: write, read: read, closers: closers, gate: make(chan struct{}, 1),
		changed: make(chan struct{}), wanted: make(chan struct{}, 1)}
}

// Close closes the connections. Calls under way fail.
func (s *Store) Close() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Ping reports whether the database answers and its tables are up to date.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("inbox: ping: %w", err)
	}
	if err := s.read.PingContext(ctx); err != nil {
		return fmt.Errorf("inbox: ping: %w", err)
	}
	return nil
}

// ready brings the tables up to date once. It costs nothing afterwards.
func (s *Store) ready(ctx context.Context) error {
	if s.migrated.Load() {
		return nil
	}
	select {
	case s.gate <- struct{}{}:
		defer func() { <-s.gate }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.migrated.Load() {
		return nil
	}
	for began := time.Now(); ; {
		err := migrate(ctx, s.write, s.dialect)
		if err == nil {
			s.migrated.Store(true)
			return nil
		}
		if !s.dialect.isBusy(err) || time.Since(began) > patience || !sleep(ctx, 10*time.Millisecond) {
			return err
		}
	}
}

// patience is how long a database that others are just making is tried again.
const patience = 5 * time.Second

// update runs do in a transaction that may write.
func (s *Store) update(ctx context.Context, do func(*sql.Tx) error) error {
	return s.transact(ctx, s.write, nil, do)
}

// view runs do in a transaction whose reads all see the same moment.
func (s *Store) view(ctx context.Context, do func(*sql.Tx) error) error {
	return s.transact(ctx, s.read, s.dialect.snapshot, do)
}

func (s *Store) transact(ctx context.Context, db *sql.DB, opts *sql.TxOptions, do func(*sql.Tx) error) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // the error that led here says more
		return err
	}
	return tx.Commit()
}

const positionSQL = `SELECT epoch, seq FROM hark_positions ORDER BY epoch DESC LIMIT 1`

// Position returns how far the stream is in the log: every notification up to there is. It is the zero
// id before the first.
func (s *Store) Position(ctx context.Context) (id jobs.EventID, err error) {
	if err = s.ready(ctx); err == nil {
		err = s.read.QueryRowContext(ctx, positionSQL).Scan(&id.Epoch, &id.Seq)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return jobs.EventID{}, fmt.Errorf("inbox: position: %w", err)
	}
	return id, nil
}

// WaitFor blocks until the position is at or behind id, whichever process brings it there, or ctx ends. A filler
// of this store does not gather any longer then.
func (s *Store) WaitFor(ctx context.Context, id jobs.EventID) error {
	const longest = 100 * time.Millisecond
	// Another process fills the table, or this one does: then the channel tells before the next look.
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, longest) {
		changed := s.moves()
		at, err := s.Position(ctx)
		if err != nil {
			return err
		}
		if compare(at, id) >= 0 {
			return nil
		}
		s.want()
		timer := time.NewTimer(pause)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("inbox: wait for %s: %w", id, ctx.Err())
		}
		timer.Stop()
	}
}

// want keeps a filler of this store from resting, or the next time from doing so.
func (s *Store) want() {
	select {
	case s.wanted <- struct{}{}:
	default:
	}
}

// moves returns a channel that is closed at the next [Store.moved].
func (s *Store) moves() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Store) moved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// compare orders ids as the stream does: negative if a stands before b.
func compare(a, b jobs.EventID) int {
	switch {
	case a == b:
		return 0
	case a.Epoch < b.Epoch || a.Epoch == b.Epoch && a.Seq < b.Seq:
		return -1
	}
	return 1
}
