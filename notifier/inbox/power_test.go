package inbox_test

import (
	"path/filepath"
	"testing"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// With SyncAlways each transaction is synced, including what users read and delete. Without it none is: in WAL mode NORMAL syncs
// at checkpoints only (SQLite's documentation of PRAGMA synchronous).
func TestSyncAlwaysSyncsEachTransaction(t *testing.T) {
	for always, want := range map[bool]int{false: 1, true: 2} {
		store, err := inbox.Open(filepath.Join(t.TempDir(), "inbox.db"), inbox.Options{SyncAlways: always})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		add(t, store, entry("ana", 1))
		if mode, err := store.Synchronous(t.Context()); err != nil || mode != want {
			t.Errorf("always %v: synchronous is %d, %v, not %d", always, mode, err, want)
		}
	}
}

// If no other process uses the database, an ingester does not wait for the lease of one that was killed.
func TestDeadLeaseIsNotWaitedFor(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "inbox.db"))
	s := newStream(t)
	e, err := s.epoch(natstest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.AcquireLease(t.Context(), e, "one that was killed"); err != nil {
		t.Fatal(err)
	}
	s.ingest(store, func(o *inbox.IngesterOptions) { o.Alone = true })
	s.notify("ana", 0)
	wantTitles(t, store, "ana", 0, 0) // the lease lasts for an hour
}
