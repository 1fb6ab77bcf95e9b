package inbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// databases runs test on each database, with the URL of an empty one, beside other tests. It is called once for a test.
func databases(t *testing.T, test func(t *testing.T, url string)) {
	t.Parallel()
	eachDatabase(t, test)
}

// eachDatabase runs test on each database, when the test that calls it has returned.
func eachDatabase(t *testing.T, test func(t *testing.T, url string)) {
	for name, url := range map[string]func(testing.TB) string{
		"sqlite":    func(t testing.TB) string { return filepath.Join(t.TempDir(), "a folder?&#%41", "..", "hark é.db") },
		"postgres":  pgtest.DSN,
		"pgbouncer": pgtest.Pooled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, url(t))
		})
	}
}

// stores runs test on each database, with an empty inbox.
func stores(t *testing.T, test func(t *testing.T, s *inbox.Store)) {
	databases(t, func(t *testing.T, url string) { test(t, open(t, url)) })
}

func open(t testing.TB, url string) *inbox.Store {
	t.Helper()
	s, err := inbox.Open(url, options(url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// options puts the tables behind PgBouncer into a new schema whose name needs quotes. So all tests of a store also test schemas.
func options(url string) inbox.Options {
	if strings.Contains(url, "port=6432") {
		return inbox.Options{Schema: `In"box {notifications} $1`}
	}
	return inbox.Options{}
}

const epoch = jobs.Epoch(1_760_000_000_000)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seq uint64) jobs.NotificationID { return jobs.NotificationID{Epoch: epoch, Seq: seq} }

// entry returns a notification whose key and title are derived from its sequence.
func entry(user string, seq uint64) inbox.Entry {
	return inbox.Entry{User: user, ID: at(seq), Notification: jobs.Notification{
		Key: fmt.Sprint("key-", seq), Type: "test.note", Title: fmt.Sprint("note ", seq),
		CreatedAt: noon.Add(time.Duration(seq) * time.Second),
	}}
}

func add(t testing.TB, s *inbox.Store, entries ...inbox.Entry) {
	t.Helper()
	if err := s.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
}

func list(t testing.TB, s *inbox.Store, user string, o inbox.ListOptions) inbox.Page {
	t.Helper()
	page, err := s.List(t.Context(), user, o)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// seqs returns the whole inbox as sequences, with an r after those that are read.
func seqs(t testing.TB, s *inbox.Store, user, status string) []string {
	t.Helper()
	got := []string{}
	for o := (inbox.ListOptions{Status: status, Limit: 100}); ; {
		page := list(t, s, user, o)
		for _, n := range page.Notifications {
			id := parse(t, n.ID)
			mark := ""
			if n.Status == jobs.Read {
				mark = "r"
			}
			if (n.Status == jobs.Read) == n.ReadAt.IsZero() {
				t.Errorf("%s is %s and was read at %v", n.ID, n.Status, n.ReadAt)
			}
			got = append(got, fmt.Sprint(id.Seq, mark))
		}
		if page.Next == "" {
			return got
		}
		o.Before = parse(t, page.Next)
	}
}

func parse(t testing.TB, id string) jobs.NotificationID {
	t.Helper()
	parsed, err := jobs.ParseNotificationID(id)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func unread(t testing.TB, s *inbox.Store, user string) int {
	t.Helper()
	n, err := s.Unread(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func position(t testing.TB, s *inbox.Store) jobs.NotificationID {
	t.Helper()
	at, err := s.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func wantJSON(t testing.TB, what string, got any, want string) {
	t.Helper()
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != want {
		t.Errorf("%s: got %s, want %s", what, text, want)
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
