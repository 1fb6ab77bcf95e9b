package inbox

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"runtime"

	"modernc.org/sqlite" // in Go alone: hark stays one static binary
	sqlite3 "modernc.org/sqlite/lib"
)

var sqliteDialect = dialect{
	name:           "sqlite",
	lockMigrations: `SELECT 1`, // a transaction begins with the write lock
	now:            `CAST(unixepoch('subsec') * 1000 AS INTEGER)`,

	// When several connections create the journal of a new file at a time, all except one fail without waiting for the busy
	// timeout.
	isBusy: func(err error) bool {
		var e *sqlite.Error
		return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
	},
	advice: func(err error, path string) string {
		var e *sqlite.Error
		if !errors.As(err, &e) {
			return ""
		}
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
			return fmt.Sprintf("the file is damaged: stop hark, move %s away, and %[1]s-wal and %[1]s-shm if they exist, put a backup in its place if there is one, "+
				"and start hark; it ingests what the log has, but what users have read and deleted since then is lost", path)
		case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
			return fmt.Sprintf("make %s, its folder, and %[1]s-wal and %[1]s-shm if they exist, readable and writable for the user that hark runs as", path)
		}
		return ""
	},

	parameter:      `?`,
	hasTable:       `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1)`,
	isDenied:       func(error) bool { return false },
	keepStatements: true,
	embedded:       true,
}

// NewSQLite returns a Store in a SQLite database, with handles that the caller owns: one for transactions that write, one for
// those that read. They may be the same. The caller must close them after the Store. NewSQLite does not connect, like [Open].
//
// Use the driver modernc.org/sqlite; others are not tested. Connections should have journal_mode WAL, so that readers and writers
// do not wait for each other, and a busy_timeout for concurrent writes. All other settings belong to the caller: synchronous
// ([Options.SyncAlways] is refused), checkpoints, the size of the write-ahead log.
func NewSQLite(write, read *sql.DB, o Options) (*Store, error) {
	if write == nil || read == nil {
		return nil, errors.New("inbox: new: a database handle is nil")
	}
	if o.SyncAlways {
		return nil, errors.New("inbox: new: SyncAlways does not apply to a handle of the caller; set PRAGMA synchronous to FULL on it")
	}
	n, err := newNames(sqliteDialect, o)
	if err != nil {
		return nil, fmt.Errorf("inbox: new: %w", err)
	}
	s := newStore(sqliteDialect, n, write, read)
	s.lockFirst = true
	return s, nil
}

// openSQLite opens one connection for writing and several for reading. SQLite has one writer at a time. Waiting for it in Go is
// fair and cheap, while SQLite's busy handler sleeps and polls.
//
// In WAL mode readers and the writer do not wait for each other. With synchronous NORMAL a power cut may undo the last
// transactions, but does not damage the file: the position goes back with the rows, so the notifications are ingested again.
// What users did since then is lost. FULL syncs the WAL after each transaction.
func openSQLite(path string, o Options) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("inbox: open: %w", err)
	}
	synchronous := "synchronous(NORMAL)"
	if o.SyncAlways {
		synchronous = "synchronous(FULL)"
	}
	pragmas := []string{
		"busy_timeout(10000)", // for another process with the same file
		"journal_mode(WAL)",
		synchronous,
		"journal_size_limit(67108864)",
		"temp_store(MEMORY)",
	}
	open := func(pool int, txlock string, more ...string) (*sql.DB, error) {
		query := url.Values{"_txlock": {txlock}, "_pragma": append(more, pragmas...)}
		file := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(abs), RawQuery: query.Encode()}
		db, err := sql.Open("sqlite", file.String())
		if err != nil {
			return nil, fmt.Errorf("inbox: open: %w", err)
		}
		db.SetMaxOpenConns(pool)
		db.SetMaxIdleConns(pool)
		return db, nil
	}
	// A checkpoint delays the commit that triggers it, and the next write: at 10 million rows 0.17 s every 8,000 pages. With
	// 16,000 pages it is 0.28 s, with 9 % more rows a second; with 4,000 pages 0.12 s, with 8 % fewer rows.
	write, err := open(1, "immediate", "cache_size(-65536)", "wal_autocheckpoint(8000)")
	if err != nil {
		return nil, err
	}
	read, err := open(max(4, runtime.GOMAXPROCS(0)), "deferred", "cache_size(-16384)", "query_only(1)")
	if err != nil {
		_ = write.Close()
		return nil, err
	}
	o.SyncAlways = false // it is in the pragmas
	s, err := NewSQLite(write, read, o)
	if err != nil {
		return nil, errors.Join(err, read.Close(), write.Close())
	}
	s.closers = []io.Closer{read, write}
	s.lockFirst = false // transactions begin with the write lock
	s.path, s.wal = abs, abs+"-wal"
	return s, nil
}
