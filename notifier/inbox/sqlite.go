package inbox

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"

	"modernc.org/sqlite" // in Go alone: hark stays one static binary
	sqlite3 "modernc.org/sqlite/lib"
)

var sqliteDialect = dialect{
	name:           "sqlite",
	lockMigrations: `SELECT 1`, // its transactions begin with the lock for writing
	now:            `CAST(unixepoch('subsec') * 1000 AS INTEGER)`,

	// To ON CONFLICT DO NOTHING a value that is missing would still undo the whole statement, so SQLite
	// keeps each page as it was before: a tenth of the time of an INSERT. No value is missing here.
	insert: `INSERT OR IGNORE`,

	// Three statements that are kept serve every number of rows.
	rowsAtOnce: []int{100, 10, 1},
	// Of several that make a new file's journal at once all but one fail, and do not wait for SQLite's busy timeout.
	isBusy: func(err error) bool {
		var e *sqlite.Error
		return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
	},

	plainPlaceholders: true,
	keepStatements:    true,
	inProcess:         true,
}

// openSQLite opens one connection that writes and several that read: SQLite has one writer at a time, and
// waiting for it in Go is fair and cheap, where its own busy handler sleeps and polls.
//
// In WAL mode readers and the writer do not wait for each other. With synchronous NORMAL a power cut may
// undo the last transactions, but not break the file: the position goes back with the rows, so what the
// stream told is filled in again.
func openSQLite(path string) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("inbox: open: %w", err)
	}
	pragmas := []string{
		"busy_timeout(10000)", // for another process with the same file
		"journal_mode(WAL)",
		"synchronous(NORMAL)",
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
	// A checkpoint delays the commit before it, and who writes next: at 10 million rows 0.17 s every 8,000 pages.
	// With 16,000 it is 0.28 s, for 9 % more rows a second; with 4,000 0.12 s, for 8 % fewer.
	write, err := open(1, "immediate", "cache_size(-65536)", "wal_autocheckpoint(8000)")
	if err != nil {
		return nil, err
	}
	read, err := open(max(4, runtime.GOMAXPROCS(0)), "deferred", "cache_size(-16384)", "query_only(1)")
	if err != nil {
		_ = write.Close()
		return nil, err
	}
	return newStore(sqliteDialect, write, read, read, write), nil
}
