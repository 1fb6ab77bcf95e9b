package inbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// The write-ahead log of a small database is truncated. A reader postpones that, and delays no write.
func TestWriteAheadLogIsTruncated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	store := open(t, path)
	for n := range 400 { // each a transaction
		add(t, store, entry("ana", uint64(n+1)))
	}
	if before := size(t, path+"-wal"); before <= 1<<20 {
		t.Fatalf("the write-ahead log has %d bytes", before)
	}

	reader, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	tx, err := reader.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var rows int
	if err := tx.QueryRow(`SELECT count(*) FROM hark_notifications`).Scan(&rows); err != nil || rows != 400 {
		t.Fatal(rows, err)
	}
	began := time.Now()
	for range 20 {
		if err := inbox.TruncateWAL(t.Context(), store); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > time.Minute { // SQLite's busy timeout is 10 s
		t.Errorf("20 times beside a reader took %v", took)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}

	s := newStream(t)
	s.ingest(store)
	s.notify("ana", 1)
	polltest.Until(t, "the write-ahead log is cut", func() bool { return size(t, path+"-wal") <= 1<<20 })
	if n := size(t, path); n < 64<<10 {
		t.Errorf("the database has %d bytes", n)
	}
	// The busy timeout is the same as before.
	var timeout int
	if err := inbox.Writer(store).QueryRow(`PRAGMA busy_timeout`).Scan(&timeout); err != nil || timeout != 10_000 {
		t.Errorf("the busy timeout is %d ms now, %v", timeout, err)
	}
}

// lateContext ends when its Err is called for the nth time.
type lateContext struct {
	context.Context
	cancel context.CancelFunc
	left   atomic.Int64
}

func (c *lateContext) Done() <-chan struct{} {
	if c.left.Add(-1) == 0 {
		c.cancel()
	}
	return c.Context.Done()
}

// Whenever the context ends, the connection that writes keeps its busy timeout.
func TestTruncateWALKeepsTheBusyTimeout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	store := open(t, path)
	add(t, store, entry("ana", 1))
	reader, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	tx, err := reader.Begin() // so that the write-ahead log is not truncated
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var rows int
	if err := tx.QueryRow(`SELECT count(*) FROM hark_notifications`).Scan(&rows); err != nil {
		t.Fatal(err)
	}
	for n := range 400 { // each a transaction
		add(t, store, entry("ana", uint64(n+2)))
	}
	failed, whole := 0, false
	for n := int64(1); !whole; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		late := &lateContext{Context: ctx, cancel: cancel}
		late.left.Store(n)
		if err := inbox.TruncateWAL(late, store); err != nil {
			failed++
		}
		whole = late.left.Load() > 0
		cancel()
		var timeout int
		if err := inbox.Writer(store).QueryRow(`PRAGMA busy_timeout`).Scan(&timeout); err != nil || timeout != 10_000 {
			t.Fatalf("ended at look %d: the busy timeout is %d ms now, %v", n, timeout, err)
		}
	}
	if failed == 0 || size(t, path+"-wal") <= 1<<20 {
		t.Errorf("it failed %d times, and the write-ahead log has %d bytes", failed, size(t, path+"-wal"))
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(fmt.Errorf("size: %w", err))
	}
	return info.Size()
}
