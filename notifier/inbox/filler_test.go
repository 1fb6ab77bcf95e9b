package inbox_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// wantTitles waits until user's inbox holds what was notified with the numbers from first to last, once
// each and in order.
func wantTitles(t testing.TB, s *inbox.Store, user string, first, last int) {
	t.Helper()
	var want []string
	for n := last; n >= first; n-- {
		want = append(want, fmt.Sprint(n))
	}
	var got []string
	eventually(t, fmt.Sprintf("the notifications %d to %d", first, last), func() bool {
		if n, err := s.Unread(t.Context(), user); err != nil || n < min(len(want), inbox.CountLimit) {
			return false
		}
		got = nil
		for o := (inbox.ListOptions{Limit: 100}); ; {
			page, err := s.List(t.Context(), user, o)
			if err != nil {
				return false
			}
			for _, n := range page.Notifications {
				got = append(got, n.Title)
			}
			if page.Next == "" {
				return len(got) >= len(want)
			}
			o.Before = parse(t, page.Next)
		}
	})
	if !slices.Equal(got, want) {
		t.Fatalf("%s's inbox holds %d: %.300q; want %d down to %d", user, len(got), got, last, first)
	}
}

func TestFillerNeedsItsParts(t *testing.T) {
	if _, err := inbox.NewFiller(inbox.FillerOptions{}); err == nil {
		t.Error("a filler of nothing is accepted")
	}
}

func TestFill(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		const before, after = 2500, 50 // more than one batch, and what comes live
		for n := range before {
			s.notify("a@b.c", n)
		}
		s.fill(store)
		wantTitles(t, store, "a@b.c", 0, before-1)
		for n := range after {
			s.notify("a@b.c", before+n)
			s.publish("hark.someone.state.X", []byte("{}"))
		}
		wantTitles(t, store, "a@b.c", 0, before+after-1)
		last := s.notify(jobs.Everyone, before+after)
		e, err := s.epoch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := store.WaitFor(within(t, time.Minute), jobs.EventID{Epoch: e, Seq: last}); err != nil {
			t.Fatal(err)
		}
		wantTitles(t, store, "a@b.c", 0, before+after)
	})
}

// Who waits for a notification, or looks again, ends the gathering: here it would take longer than the test may.
func TestGatheringEndsForWhoWaits(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		f, err := inbox.NewFiller(inbox.FillerOptions{Store: store, JetStream: s.js, Epoch: s.epoch, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		f.SetGather(24 * time.Hour)
		s.run(f)
		e, err := s.epoch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for n := range 5 {
			id := jobs.EventID{Epoch: e, Seq: s.notify("ana", n)}
			if err := store.WaitFor(within(t, time.Minute), id); err != nil {
				t.Fatal(err)
			}
			if _, err := store.MarkRead(t.Context(), "ana", id); err != nil {
				t.Fatal(err)
			}
		}
		s.notify("ana", 5)
		eventually(t, "the next look to show it", func() bool {
			return len(list(t, store, "ana", inbox.ListOptions{}).Notifications) == 6
		})
	})
}

// What is no notification is left out and keeps nothing back.
func TestFillDropsWhatIsNoNotification(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		s.notify("ana", 0)
		for _, body := range []string{"", "{", "null", "[]", `"text"`, `{"created_at":"yesterday"}`, "\x00\xff", `{"title":7}`} {
			s.publish("hark.ana.note", []byte(body))
		}
		s.publish("hark.=zz.note", []byte(`{"title":"bad escape"}`))
		s.publish("hark.=FF=FE.note", []byte(`{"title":"user not UTF-8"}`))
		s.publish("hark."+strings.Repeat("a", jobs.MaxUserBytes+1)+".note", []byte(`{"title":"user too long"}`))
		s.publish("hark.ana.note", []byte(`{"title":"1","key":"nul \u0000","body":"\u0000","data":{"nul":"\u0000"}}`))
		s.notify("ana", 2)
		var log syncBuffer
		stop := s.fill(store, func(o *inbox.FillerOptions) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		wantTitles(t, store, "ana", 0, 2)
		stop()
		if n := strings.Count(log.String(), "dropped"); n != 11 {
			t.Errorf("%d were logged as dropped, want 11:\n%s", n, log.String())
		}
		if created := list(t, store, "ana", inbox.ListOptions{}).Notifications[1].CreatedAt; time.Since(created).Abs() > time.Hour {
			t.Errorf("without created_at it was created at %s", created)
		}
	})
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}
func (b *syncBuffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

// Fillers come and go at any moment, as if they crashed; each notification is there once.
func TestFillersComeAndGo(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		s := newStream(t)
		ended, total := make(chan struct{}), 0
		var publishing sync.WaitGroup
		publishing.Go(func() {
			for ; ; total++ {
				select {
				case <-ended:
					return
				default:
					s.notify("ana", total)
				}
			}
		})
		for range 8 {
			// It ends inside or right after a transaction, or while it reads.
			store := open(t, url)
			before := position(t, store)
			stop := s.fill(store)
			eventually(t, "the filler to get on", func() bool { return position(t, store) != before })
			stop()
		}
		close(ended)
		publishing.Wait()
		store := open(t, url)
		s.fill(store)
		wantTitles(t, store, "ana", 0, total-1)
	})
}

// Of two fillers one works. When it is gone without a word, the other takes over.
func TestTwoFillers(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		s := newStream(t)
		one, two := open(t, url), open(t, url)
		// Its connection to the database is cut when it dies, so it cannot release its claim.
		dies, err := inbox.Open(url)
		if err != nil {
			t.Fatal(err)
		}
		stopFirst := s.fill(dies)
		s.notify("ana", 0)
		wantTitles(t, one, "ana", 0, 0)
		var log syncBuffer
		stopSecond := s.fill(two, func(o *inbox.FillerOptions) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		eventually(t, "the second to find the first", func() bool { return strings.Contains(log.String(), "standing by") })
		for n := 1; n <= 200; n++ {
			s.notify("ana", n)
		}
		wantTitles(t, one, "ana", 0, 200)
		if strings.Contains(log.String(), "filling") {
			t.Errorf("while the first worked, the second filled, too:\n%s", log.String())
		}

		if err := dies.Close(); err != nil {
			t.Fatal(err)
		}
		s.notify("ana", 201)
		died := time.Now()
		wantTitles(t, one, "ana", 0, 201)
		t.Logf("took over after a crash in %v", time.Since(died))
		stopFirst()

		s.fill(one)
		stopSecond()
		s.notify("ana", 202)
		ended := time.Now()
		wantTitles(t, one, "ana", 0, 202)
		t.Logf("took over from an orderly end in %v", time.Since(ended))
	})
}

func TestFillOutlivesTheDatabase(t *testing.T) {
	db := pgtest.Start(t)
	store := open(t, db.DSN(t))
	db.Stop(t)
	s := newStream(t)
	var log syncBuffer
	s.fill(store, func(o *inbox.FillerOptions) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	s.notify("ana", 0)
	eventually(t, "the failure", func() bool { return strings.Contains(log.String(), "the database fails") })
	db.Start(t)
	wantTitles(t, store, "ana", 0, 0)
	for round := range 2 {
		db.Stop(t)
		s.notify("ana", 2*round+1)
		s.notify("ana", 2*round+2)
		db.Start(t)
		wantTitles(t, store, "ana", 0, 2*round+2)
	}
	if n := strings.Count(log.String(), "\n"); n > 6 {
		t.Errorf("%d lines for three failures and their ends:\n%s", n, log.String())
	}
}

func TestFillOutlivesTheStream(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		s.fill(store)
		s.notify("ana", 0)
		wantTitles(t, store, "ana", 0, 0)

		// The consumer is deleted.
		names := s.consumers()
		if len(names) != 1 {
			t.Fatalf("%d consumers: %v", len(names), names)
		}
		if err := s.js.DeleteConsumer(t.Context(), jobs.StreamName, names[0]); err != nil {
			t.Fatal(err)
		}
		s.notify("ana", 1)
		wantTitles(t, store, "ana", 0, 1)

		// The stream is made anew: its sequences begin again.
		if err := s.js.DeleteStream(t.Context(), jobs.StreamName); err != nil {
			t.Fatal(err)
		}
		s.create()
		s.notify("ana", 2)
		s.notify("ana", 3)
		wantTitles(t, store, "ana", 0, 3)
	})
}

// A stream that lost its end gives its last sequences to others: they are not passed over.
func TestFillAfterTheStreamLostItsEnd(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		s.notify("ana", 0)
		e, err := s.epoch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lost := entry("ben", 50)
		lost.ID.Epoch = e
		add(t, store, lost)
		s.fill(store)
		s.notify("ana", 1)
		eventually(t, "the new end", func() bool {
			at, err := store.Position(t.Context())
			return err == nil && at.Seq <= 2
		})
		s.notify("ana", 2)
		eventually(t, "the last", func() bool {
			page := list(t, store, "ana", inbox.ListOptions{})
			return len(page.Notifications) > 0 && page.Notifications[0].Title == "2"
		})
	})
}

// A backup of the database is restored: what came in after it was made is filled in again.
func TestFillAfterARestore(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		s := newStream(t)
		stop := s.fill(open(t, url))
		for n := range 100 {
			s.notify("ana", n)
		}
		wantTitles(t, open(t, url), "ana", 0, 99)
		stop()
		databases(t, func(t *testing.T, empty string) { // the oldest backup there can be
			store := open(t, empty)
			s.fill(store)
			wantTitles(t, store, "ana", 0, 99)
		})
	})
}

// Notifications as large as they may be, more than the server keeps for a connection, are brought a few at a time.
func TestFillLargeNotifications(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "inbox.db"))
	s := newStream(t)
	const n, most = 300, 250 << 20
	for i := range n {
		body := fmt.Sprintf(`{"key":"k%d","type":"t","title":"x","body":"%s"}`, i, strings.Repeat("x", 900_000))
		s.publish(jobs.NoteSubject("ana"), []byte(body))
	}
	runtime.GC()
	live := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(live)
	before, peak := live[0].Value.Uint64(), uint64(0)
	s.fill(store)
	eventually(t, "all of them", func() bool {
		metrics.Read(live)
		peak = max(peak, live[0].Value.Uint64())
		unread, err := store.Unread(t.Context(), "ana")
		return err == nil && unread == n
	})
	if peak = peak - min(before, peak); peak > most {
		t.Errorf("filling %d MB took %d MB of heap", n*900_000>>20, peak>>20)
	}
}
