package e2e_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// hark migrate inbox is killed again and again, and goes on where it was. At the end both inboxes have the same rows.
func TestMigrateInboxIsKilled(t *testing.T) {
	t.Parallel()
	file, target := filepath.Join(t.TempDir(), "inbox.db"), pgtest.DSN(t)
	const total = 30_000
	source, err := inbox.Open(file, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var batch []inbox.Entry
	for seq := range uint64(total) {
		batch = append(batch, inbox.Entry{User: "ana", ID: jobs.NotificationID{Epoch: 1, Seq: seq + 1}, Notification: jobs.Notification{Title: fmt.Sprint(seq), CreatedAt: time.Now()}})
	}
	if err := source.Append(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if _, err := source.MarkReadUpTo(t.Context(), "ana", jobs.NotificationID{Epoch: 1, Seq: total / 2}); err != nil {
		t.Fatal(err)
	}
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", target)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	out := new(logtest.Buffer)
	migrate := harkproc.Start(t, out, "migrate", "inbox", "--from", file, "--to", target)
	copied := int64(0)
	for range 3 {
		last := copied
		polltest.Until(t, "more rows", func() bool {
			return db.QueryRowContext(t.Context(), `SELECT copied FROM hark_moves`).Scan(&copied) == nil && copied > last
		})
		migrate.Kill()
		migrate.Restart()
	}
	if copied == total {
		t.Error("the command was not killed before its end")
	}
	if code := migrate.Wait(); code != 0 || out.Count("Copied 30,000 notifications") != 1 {
		t.Fatalf("hark migrate inbox: %d\n%s", code, out)
	}
	old, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	want, got := allRows(t, old), allRows(t, db)
	if len(want) != total || !slices.Equal(got, want) {
		t.Errorf("%d rows differ from %d", len(got), len(want))
	}
}

func allRows(t *testing.T, db *sql.DB) (all []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT epoch, seq, created_at, read_at, deleted, audience, key_id, body FROM hark_notifications ORDER BY epoch, seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var numbers [5]int64
		var texts [3][]byte
		if err := rows.Scan(&numbers[0], &numbers[1], &numbers[2], &numbers[3], &numbers[4], &texts[0], &texts[1], &texts[2]); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d %q", numbers, texts))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
