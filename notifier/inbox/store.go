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

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// ErrNotFound says that a user has no such notification: it never existed, belongs to another user, was deleted or has expired.
var ErrNotFound = errors.New("inbox: no such notification")

// Store is the inbox in a database. It is safe for concurrent use. Its methods block for the database until ctx ends, and return
// its errors.
type Store struct {
	dialect dialect
	names   *names
	write   *sql.DB
	read    *sql.DB // the same as write on PostgreSQL
	closers []io.Closer
	// lockFirst makes a transaction that may write begin with [lockSQL].
	lockFirst bool
	path      string // of SQLite's file
	wal       string // the path of its write-ahead log

	partitions sync.Map // the starts of those that exist, for [Store.ensurePartitions]

	statements sync.Map // the cache of [Store.prepare]: query to *sql.Stmt; no query is used with both write and read

	migrating chan struct{} // a mutex for the migration
	migrated  atomic.Bool

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when this process moves the position

	// flush has one token for a stream after [Store.requestFlush], until the ingester of this process receives it.
	flush [joblog.Shards]chan struct{}

	streams atomic.Int32 // of the log; 0 means 1
}

// dialect has the differences between the databases.
type dialect struct {
	name string
	// lockMigrations is the first statement of a migration. It locks out other processes.
	lockMigrations string
	// now is an expression for the database's clock, in Unix milliseconds. The clocks of the processes may differ.
	now string
	// createSchema is empty if the database has no schemas. hasSchema and hasTable look one up by its name.
	hasSchema, createSchema, hasTable string
	// isDenied reports whether the database user lacks a permission.
	isDenied func(error) bool
	// parameter replaces the $ of parameters. Queries have $1. For SQLite that is a name, and some of its drivers number names
	// in order of occurrence; ?1 is a number.
	parameter string
	// isBusy reports whether an error is temporary.
	isBusy func(error) bool
	// advice returns what an operator must do about a permanent error; empty if the error may be temporary. It may be nil.
	advice func(err error, path string) string
	// keepStatements makes [Store.prepare] cache prepared statements. pgx caches them by itself. For SQLite, planning a page
	// costs as much as reading it.
	keepStatements bool
	// embedded says that the database runs in this process, so that a transaction never waits once it has begun.
	embedded bool
	// partitioned says that the table of notifications has partitions by time: see partition.go.
	partitioned bool
	// snapshot are the options of a transaction in which all reads see the same moment.
	snapshot *sql.TxOptions
}

// Options of a [Store].
type Options struct {
	// Schema is the schema of PostgreSQL with the tables. It is created if it does not exist and the database user is allowed
	// to create it. Defaults to the first schema in the connection's search_path. SQLite has no schemas.
	Schema string
	// TablePrefix is the prefix of the names of tables and indexes, so that several inboxes and other tables can share a
	// database: 1 to 32 of a-z, 0-9 and _, not beginning with a digit. Defaults to "hark_".
	TablePrefix string
	// SyncAlways makes SQLite sync each transaction to disk before the call returns. Without it a power cut undoes what was
	// written since the last checkpoint, including what users have read and deleted. It is for [Open] alone; a handle of the
	// caller keeps its own setting. PostgreSQL syncs by its own setting, synchronous_commit, which is on by default.
	SyncAlways bool
}

// Open returns the Store in the database of url: postgres://… or the path of a SQLite file, which is created if it does not
// exist. Open does not connect. While the database is down, the calls return errors. The first call that reaches it migrates
// the tables.
//
// [NewPostgres] and [NewSQLite] do the same on handles that the caller owns.
func Open(url string, o Options) (*Store, error) {
	scheme, _, hasScheme := strings.Cut(url, "://")
	switch {
	case url == "":
		return nil, errors.New("inbox: open: the database is empty")
	case scheme == "postgres" || scheme == "postgresql":
		return openPostgres(url, o)
	case hasScheme:
		return nil, fmt.Errorf("inbox: open: %s:// is not supported; use postgres://… or the path of a SQLite file", scheme)
	}
	return openSQLite(url, o)
}

func newStore(d dialect, n *names, write, read *sql.DB, closers ...io.Closer) *Store {
	s := &Store{dialect: d, names: n, write: write, read: read, closers: closers, migrating: make(chan struct{}, 1), changed: make(chan struct{})}
	for i := range s.flush {
		s.flush[i] = make(chan struct{}, 1)
	}
	return s
}

// Close closes the prepared statements and what [Open] has opened. It leaves handles of the caller open. Running calls may fail.
func (s *Store) Close() error {
	var errs []error
	s.statements.Range(func(_, kept any) bool {
		errs = append(errs, kept.(*sql.Stmt).Close())
		return true
	})
	for _, c := range s.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Ping returns an error unless the database can be reached and its tables are up to date.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("inbox: ping: %w", err)
	}
	if err := s.read.PingContext(ctx); err != nil {
		return fmt.Errorf("inbox: ping: %w", err)
	}
	return nil
}

// advice returns what an operator must do about a permanent error of the database; empty if it may be temporary.
func (s *Store) advice(err error) string {
	if s.dialect.advice == nil {
		return ""
	}
	return s.dialect.advice(err, s.path)
}

// ready migrates the tables once. Later calls cost nothing.
func (s *Store) ready(ctx context.Context) error {
	if s.migrated.Load() {
		return nil
	}
	select {
	case s.migrating <- struct{}{}:
		defer func() { <-s.migrating }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.migrated.Load() {
		return nil
	}
	for began := time.Now(); ; {
		err := migrate(ctx, s.write, s.dialect, s.names)
		if err == nil {
			s.migrated.Store(true)
			return nil
		}
		if !s.dialect.isBusy(err) || time.Since(began) > busyTimeout || !sleep(ctx, 10*time.Millisecond) {
			return err
		}
	}
}

// busyTimeout is how long a migration is retried while another process is creating the database.
const busyTimeout = 5 * time.Second

// positionSQL has the parameter $1, the audience of the broadcasts of the stream.
const positionSQL = `SELECT epoch, seq FROM {positions} WHERE stream = $1 ORDER BY epoch DESC LIMIT 1`

// Position returns the inbox's position in the first stream of the log: see [Store.PositionIn].
func (s *Store) Position(ctx context.Context) (jobs.NotificationID, error) {
	return s.PositionIn(ctx, 0)
}

// PositionOf is [Store.PositionIn] for the stream of a user.
func (s *Store) PositionOf(ctx context.Context, user string) (jobs.NotificationID, error) {
	return s.PositionIn(ctx, s.streamOf(user))
}

// PositionIn returns the inbox's position in a stream of the log, by its number: the inbox has every notification up to and
// including it. It is the zero id before the first notification.
func (s *Store) PositionIn(ctx context.Context, stream int) (id jobs.NotificationID, err error) {
	err = s.ready(ctx)
	if err == nil {
		err = s.queryRow(ctx, positionSQL, everyoneIn(stream, s.streamCount())).Scan(&id.Epoch, &id.Seq)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return jobs.NotificationID{}, fmt.Errorf("inbox: position: %w", err)
	}
	return id, nil
}

// WaitFor blocks until the inbox has ingested everything up to and including id in the stream of a user, in any process, or ctx
// ends. It makes the ingester of this Store flush early.
func (s *Store) WaitFor(ctx context.Context, user string, id jobs.NotificationID) error {
	const longest = 100 * time.Millisecond
	// The channel reports changes of this process alone. Those of another process are found by polling.
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, longest) {
		changed := s.changes()
		at, err := s.PositionOf(ctx, user)
		if err != nil {
			return err
		}
		if compare(at, id) >= 0 {
			return nil
		}
		s.requestFlush(s.streamOf(user))
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

// requestFlush ends the batch delay of this Store's ingester of a stream, or skips the next one.
func (s *Store) requestFlush(stream int) {
	select {
	case s.flush[stream] <- struct{}{}:
	default:
	}
}

// changes returns a channel that is closed by the next [Store.notifyChanged].
func (s *Store) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Store) notifyChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// compare orders ids by their position in the stream. It returns a negative number if a is before b.
func compare(a, b jobs.NotificationID) int {
	switch {
	case a == b:
		return 0
	case a.Epoch < b.Epoch || a.Epoch == b.Epoch && a.Seq < b.Seq:
		return -1
	}
	return 1
}
