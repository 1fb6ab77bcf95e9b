package inbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

func TestOpenRefusesInvalidURLs(t *testing.T) {
	for _, url := range []string{"", "mysql://localhost/hark", "postgres://localhost:port/hark"} {
		if s, err := inbox.Open(url, inbox.Options{}); err == nil {
			t.Errorf("Open(%q) succeeded", url)
			_ = s.Close()
		}
	}
}

// A database that is down, at the start or later, is used as soon as it is up.
func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	dsn := server.DSN(t)
	server.Stop(t)
	s := open(t, dsn)
	if err := s.Ping(t.Context()); err == nil {
		t.Fatal("Ping succeeds with the database down")
	}
	if err := s.Append(t.Context(), []inbox.Entry{entry("ana", 1)}); err == nil {
		t.Fatal("Append succeeds with the database down")
	}
	server.Start(t)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	add(t, s, entry("ana", 1))
	server.Stop(t)
	if _, err := s.Unread(t.Context(), "ana"); err == nil {
		t.Fatal("Unread succeeds with the database down")
	}
	server.Start(t)
	polltest.Until(t, "the count", func() bool {
		n, err := s.Unread(t.Context(), "ana")
		return err == nil && n == 1
	})
}

// Several processes start at the same time on an empty database.
func TestMigrateAtOnce(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		var all sync.WaitGroup
		for range 8 {
			s := open(t, url)
			all.Go(func() {
				if err := s.Ping(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

func TestRefusesADatabaseOfANewerHark(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		s := open(t, url)
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		table := "hark_migrations"
		if schema := options(url).Schema; schema != "" {
			table = pgx.Identifier{schema, table}.Sanitize()
		}
		if _, err := inbox.Writer(s).ExecContext(t.Context(), "INSERT INTO "+table+" VALUES (9999)"); err != nil {
			t.Fatal(err)
		}
		if err := open(t, url).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "newer hark") {
			t.Errorf("Ping: %v, want it to name a newer hark", err)
		}
	})
}

func TestReopen(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		first, err := inbox.Open(url, options(url))
		if err != nil {
			t.Fatal(err)
		}
		add(t, first, entry("ana", 1))
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second := open(t, url)
		if got := seqs(t, second, "ana", ""); !slices.Equal(got, []string{"1"}) {
			t.Errorf("after reopening: %v", got)
		}
	})
}

func TestWaitFor(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		here, elsewhere := open(t, url), open(t, url)
		for name, appender := range map[string]*inbox.Store{"this process": here, "another process": elsewhere} {
			next := at(position(t, here).Seq + 1)
			done := make(chan error, 1)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			go func() { done <- here.WaitFor(ctx, "ana", next) }()
			add(t, appender, entry("somebody", next.Seq))
			if err := <-done; err != nil {
				t.Errorf("filled by %s: %v", name, err)
			}
			cancel()
		}
		if err := here.WaitFor(within(t, 30*time.Millisecond), "ana", at(99)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for what does not come: %v", err)
		}
		// Ids of an older epoch do not block.
		if err := here.WaitFor(t.Context(), "ana", jobs.NotificationID{Epoch: epoch - 1, Seq: 99}); err != nil {
			t.Error(err)
		}
	})
}

func TestPosition(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		want := func(want jobs.NotificationID) {
			t.Helper()
			if got := position(t, s); got != want {
				t.Errorf("position %v, want %v", got, want)
			}
		}
		want(jobs.NotificationID{})
		add(t, s, entry("ana", 7), entry("ana", 3))
		want(at(7))
		add(t, s, entry("ana", 5))
		want(at(7))
		other := entry("ana", 2)
		other.ID.Epoch, other.Notification.Key = epoch+1, "other"
		add(t, s, other)
		want(other.ID)
	})
}

// A page has at most 1 MiB of notifications plus one, and the pages of Next have all of them.
func TestPageOfLargeNotifications(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		for seq := range uint64(12) {
			e := entry("ana", seq+1)
			e.Notification.Data = json.RawMessage(`"` + strings.Repeat("x", 400_000) + `"`)
			add(t, s, e)
		}
		if n := len(list(t, s, "ana", inbox.ListOptions{Limit: 100}).Notifications); n != 3 {
			t.Errorf("a page has %d notifications of 400 KB", n)
		}
		if got := seqs(t, s, "ana", ""); len(got) != 12 {
			t.Errorf("all pages have %v", got)
		}
	})
}
