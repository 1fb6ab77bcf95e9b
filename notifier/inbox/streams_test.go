package inbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// fourUsers live in the four streams of a log of four.
var fourUsers = []string{"ana", "bob", "a@b.c", "user-1"}

// spread is a log of four streams.
type spread struct {
	t testing.TB
	*joblog.Store
}

func newSpread(t testing.TB) spread {
	t.Helper()
	q, err := joblog.Open(natstest.Context(t), natstest.Connect(t), joblog.Options{Settings: joblog.Settings{Streams: 4}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return spread{t, q}
}

// ingest runs the ingester of a stream until stop is called or the test ends.
func (s spread) ingest(store *inbox.Store, stream int) (stop func()) {
	s.t.Helper()
	f, err := inbox.NewIngester(inbox.IngesterOptions{Store: store, JetStream: s.JetStream(), Stream: stream, Streams: 4,
		Epoch:      func(ctx context.Context) (jobs.Epoch, error) { return s.EpochIn(ctx, stream) },
		BeginEpoch: s.BeginEpoch, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	s.t.Cleanup(stop)
	return stop
}

func (s spread) send(user, title string) {
	s.t.Helper()
	if _, _, err := s.Notify(natstest.Context(s.t), user, jobs.Notification{Type: "t", Title: title}); err != nil {
		s.t.Fatal(err)
	}
}

// have waits until the inbox of a user has notifications with these titles, the newest first.
func (s spread) have(store *inbox.Store, user string, want ...string) {
	s.t.Helper()
	polltest.Nil(s.t, "the inbox of "+user, func() error {
		var got []string
		for _, n := range list(s.t, store, user, inbox.ListOptions{}).Notifications {
			got = append(got, n.Title)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

// Each stream has a position and a lease of its own: one is not ingested while others are, and another process goes on with it.
func TestIngestSeveralStreams(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newSpread(t)
		for i := range 20 { // the sequences of the streams differ
			s.send("ana", fmt.Sprint(i))
		}
		var stops []func()
		for i := range fourUsers {
			stops = append(stops, s.ingest(store, i))
		}
		s.send(jobs.Everyone, "all")
		for _, user := range fourUsers[1:] {
			s.send(user, "own")
			s.have(store, user, "own", "all")
		}
		stops[1]()
		for _, user := range fourUsers[1:] {
			s.send(user, "later")
		}
		s.have(store, "user-1", "later", "own", "all")
		s.have(store, "a@b.c", "later", "own", "all")
		s.have(store, "bob", "own", "all")
		s.ingest(store, 1)
		s.have(store, "bob", "later", "own", "all")
		for i, user := range fourUsers {
			_, last, err := s.Bounds(natstest.Context(t), i)
			if err != nil {
				t.Fatal(err)
			}
			want := jobs.NotificationID{Epoch: s.Epoch(), Seq: last}
			if err := store.WaitFor(within(t, time.Minute), user, want); err != nil {
				t.Fatal(err)
			}
			if at, err := store.PositionOf(t.Context(), user); err != nil || at != want {
				t.Errorf("%s: position %v, want %v, %v", user, at, want, err)
			}
			if page := list(t, store, user, inbox.ListOptions{}); page.UpTo != want.String() {
				t.Errorf("%s: up to %s, want %s", user, page.UpTo, want)
			}
		}
	})
}

// What a user has done with a broadcast stays while the inbox has it, also where its id is less than those of other streams.
func TestExpireSeveralStreams(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newSpread(t)
		for i := range 20 {
			s.send("ana", fmt.Sprint(i))
		}
		for i := range fourUsers {
			s.ingest(store, i)
		}
		s.send(jobs.Everyone, "read")
		s.send(jobs.Everyone, "deleted")
		for _, user := range fourUsers[1:] {
			s.have(store, user, "deleted", "read")
			page := list(t, store, user, inbox.ListOptions{})
			if _, err := store.MarkRead(t.Context(), user, parse(t, page.Notifications[1].ID)); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Delete(t.Context(), user, parse(t, page.Notifications[0].ID)); err != nil {
				t.Fatal(err)
			}
		}
		all := []string{"deleted", "read"}
		for i := 19; i >= 0; i-- {
			all = append(all, fmt.Sprint(i))
		}
		s.have(store, "ana", all...) // what is ingested after it has expired stays until the next time
		if n, err := store.Expire(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		for _, user := range fourUsers[1:] {
			s.have(store, user, "read")
			if n := unread(t, store, user); n != 0 {
				t.Errorf("%s has %d unread", user, n)
			}
		}
		if _, err := store.Expire(t.Context(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		for _, user := range fourUsers {
			s.have(store, user)
		}
	})
}
