package inbox_test

import (
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

	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/nats-io/nats.go"
)

// wantTitles waits until the user's inbox has the notifications with the numbers from first to last, once each and in order.
func wantTitles(t testing.TB, s *inbox.Store, user string, first, last int) {
	t.Helper()
	var want []string
	for n := last; n >= first; n-- {
		want = append(want, fmt.Sprint(n))
	}
	var got []string
	polltest.Until(t, fmt.Sprintf("the notifications %d to %d", first, last), func() bool {
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

func TestIngesterNeedsItsOptions(t *testing.T) {
	if _, err := inbox.NewIngester(inbox.IngesterOptions{}); err == nil {
		t.Error("a ingester of nothing is accepted")
	}
}

func TestIngest(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		const before, after = 2500, 50 // more than one batch, and what comes live
		for n := range before {
			s.notify("a@b.c", n)
		}
		s.ingest(store)
		wantTitles(t, store, "a@b.c", 0, before-1)
		for n := range after {
			s.notify("a@b.c", before+n)
			s.publish(defaultNS.StateSubject("someone", "X"), []byte("{}"))
		}
		wantTitles(t, store, "a@b.c", 0, before+after-1)
		last := s.notify(jobs.Everyone, before+after)
		e, err := s.epoch(natstest.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := store.WaitFor(within(t, time.Minute), "ana", jobs.NotificationID{Epoch: e, Seq: last}); err != nil {
			t.Fatal(err)
		}
		wantTitles(t, store, "a@b.c", 0, before+after)
	})
}

// Waiting for a notification, and listing twice, end the batch delay. Here the delay is longer than the test may take.
func TestCallersEndTheBatchDelay(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		f, err := inbox.NewIngester(inbox.IngesterOptions{Store: store, JetStream: s.js, Epoch: s.epoch, BeginEpoch: s.beginEpoch, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		f.SetBatchDelay(24 * time.Hour)
		s.run(f)
		e, err := s.epoch(natstest.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		for n := range 5 {
			id := jobs.NotificationID{Epoch: e, Seq: s.notify("ana", n)}
			if err := store.WaitFor(within(t, time.Minute), "ana", id); err != nil {
				t.Fatal(err)
			}
			if _, err := store.MarkRead(t.Context(), "ana", id); err != nil {
				t.Fatal(err)
			}
		}
		s.notify("ana", 5)
		polltest.Until(t, "the next look to show it", func() bool {
			return len(list(t, store, "ana", inbox.ListOptions{}).Notifications) == 6
		})
	})
}

// The clock of the database was set back by an hour in a crash, so the lease of the ingester that died ends in an hour. Another
// ingester does not wait for that.
func TestLeaseOfAClockThatWentBack(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		e, err := s.epoch(natstest.Context(t))
		if err == nil {
			err = store.AcquireLease(t.Context(), e, "dead")
		}
		if err != nil {
			t.Fatal(err)
		}
		s.notify("ana", 0)
		s.ingest(store)
		wantTitles(t, store, "ana", 0, 0)
	})
}

// A message without a body whose publisher has set a Status looks like a status of the server. It does not block others.
func TestIngestSkipsAStatus(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		s.ingest(store)
		number := 0
		for _, status := range []string{"100", "404", "408", "409", "503", "?"} {
			s.notify("ana", number)
			if _, err := s.js.PublishMsg(natstest.Context(t), &nats.Msg{Subject: defaultNS.NotificationSubject("ana"), Header: nats.Header{"Status": {status}}}); err != nil {
				t.Fatal(err)
			}
			s.notify("ana", number+1)
			wantTitles(t, store, "ana", 0, number+1)
			number += 2
		}
	})
}

// A malformed message is skipped and does not block others.
func TestIngestSkipsMalformedMessages(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		s.notify("ana", 0)
		for _, body := range []string{"", "{", "null", "[]", `"text"`, `{"created_at":"yesterday"}`, "\x00\xff", `{"title":7}`} {
			s.publish(defaultNS.NotificationSubject("ana"), []byte(body))
		}
		s.publish(ofToken("=zz"), []byte(`{"title":"bad escape"}`))
		s.publish(ofToken("=FF=FE"), []byte(`{"title":"user not UTF-8"}`))
		s.publish(ofToken(strings.Repeat("a", jobs.MaxUserBytes+1)), []byte(`{"title":"user too long"}`))
		s.publish("hark.log.00.ana.notification", []byte(`{"title":"in the shard of others"}`))
		s.publish(defaultNS.NotificationSubject("ana"), []byte(`{"title":"1","key":"nul \u0000","body":"\u0000","data":{"nul":"\u0000"}}`))
		s.notify("ana", 2)
		var log logtest.Buffer
		stop := s.ingest(store, func(o *inbox.IngesterOptions) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		wantTitles(t, store, "ana", 0, 2)
		stop()
		if n := strings.Count(log.String(), "malformed"); n != 12 {
			t.Errorf("%d were logged as malformed, want 12:\n%s", n, log.String())
		}
		if created := list(t, store, "ana", inbox.ListOptions{}).Notifications[1].CreatedAt; time.Since(created).Abs() > time.Hour {
			t.Errorf("without created_at it was created at %s", created)
		}
	})
}

// Ingesters start and stop at any moment, as if they crashed. Each notification is stored once.
func TestIngestersComeAndGo(t *testing.T) {
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
			// It ends in a transaction, just after one, or while it reads.
			store := open(t, url)
			before := position(t, store)
			stop := s.ingest(store)
			polltest.Until(t, "the ingester to get on", func() bool { return position(t, store) != before })
			stop()
		}
		close(ended)
		publishing.Wait()
		store := open(t, url)
		s.ingest(store)
		wantTitles(t, store, "ana", 0, total-1)
	})
}

// Of two ingesters one works. When it dies silently, the other takes over.
func TestTwoIngesters(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		s := newStream(t)
		one, two := open(t, url), open(t, url)
		// Its connection to the database is cut when it dies, so it cannot release its lease.
		dies, err := inbox.Open(url, options(url))
		if err != nil {
			t.Fatal(err)
		}
		stopFirst := s.ingest(dies)
		s.notify("ana", 0)
		wantTitles(t, one, "ana", 0, 0)
		var log logtest.Buffer
		stopSecond := s.ingest(two, func(o *inbox.IngesterOptions) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		polltest.Until(t, "the second to find the first", func() bool { return strings.Contains(log.String(), "standing by") })
		for n := 1; n <= 200; n++ {
			s.notify("ana", n)
		}
		wantTitles(t, one, "ana", 0, 200)
		if strings.Contains(log.String(), "ingesting notifications") {
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

		s.ingest(one)
		stopSecond()
		s.notify("ana", 202)
		ended := time.Now()
		wantTitles(t, one, "ana", 0, 202)
		t.Logf("took over from an orderly end in %v", time.Since(ended))
	})
}

func TestIngestOutlivesTheDatabase(t *testing.T) {
	t.Parallel()
	db := pgtest.Start(t)
	store := open(t, db.DSN(t))
	db.Stop(t)
	s := newStream(t)
	var log logtest.Buffer
	s.ingest(store, func(o *inbox.IngesterOptions) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	s.notify("ana", 0)
	polltest.Until(t, "the failure", func() bool { return strings.Contains(log.String(), "the database fails") })
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

func TestIngestOutlivesTheStream(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		s.ingest(store)
		s.notify("ana", 0)
		wantTitles(t, store, "ana", 0, 0)

		// The consumer is deleted.
		names := s.consumers()
		if len(names) != 1 {
			t.Fatalf("%d consumers: %v", len(names), names)
		}
		if err := s.js.DeleteConsumer(natstest.Context(t), defaultNS.LogStream(), names[0]); err != nil {
			t.Fatal(err)
		}
		s.notify("ana", 1)
		wantTitles(t, store, "ana", 0, 1)

		// The stream is created again: its sequences begin again.
		if err := s.js.DeleteStream(natstest.Context(t), defaultNS.LogStream()); err != nil {
			t.Fatal(err)
		}
		s.create()
		s.notify("ana", 2)
		s.notify("ana", 3)
		wantTitles(t, store, "ana", 0, 3)
	})
}

// A stream that lost its end assigns the lost sequences to new messages. A new epoch begins, so that the new messages are not
// skipped as known.
func TestIngestAfterTheStreamLostItsEnd(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		s.notify("ana", 0)
		e, err := s.epoch(natstest.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		lost := entry("ben", 50)
		lost.ID.Epoch = e
		add(t, store, lost)
		s.ingest(store)
		wantTitles(t, store, "ana", 0, 0)
		s.notify("ana", 1)
		wantTitles(t, store, "ana", 0, 1)
		if at, err := store.Position(t.Context()); err != nil || at.Epoch <= e {
			t.Errorf("the position is %v, %v; the epoch before was %d", at, err, e)
		}
		if page := list(t, store, "ben", inbox.ListOptions{}); len(page.Notifications) != 1 || page.Notifications[0].ID != lost.ID.String() {
			t.Errorf("what only the inbox has: %+v", page.Notifications)
		}
	})
}

// A stream that is created again with a clock that lags behind has a smaller epoch than the inbox: it begins a greater one.
func TestIngestAfterTheClockWentBack(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		future := entry("ben", 50)
		future.ID.Epoch = jobs.Epoch(time.Now().Add(time.Hour).UnixMilli())
		add(t, store, future)
		s.ingest(store)
		s.notify("ana", 0)
		wantTitles(t, store, "ana", 0, 0)
		if at, err := store.Position(t.Context()); err != nil || at.Epoch <= future.ID.Epoch {
			t.Errorf("the position is %v, %v", at, err)
		}
	})
}

// An ingester notices an epoch that another process begins, also while messages keep coming.
func TestIngestNoticesANewEpoch(t *testing.T) {
	t.Parallel()
	store := open(t, filepath.Join(t.TempDir(), "inbox.db"))
	s := newStream(t)
	s.ingest(store)
	s.notify("ana", 0)
	wantTitles(t, store, "ana", 0, 0)
	begun, err := s.beginEpoch(natstest.Context(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	polltest.Until(t, "the new epoch", func() bool {
		n++
		s.notify("ana", n)
		at, err := store.Position(t.Context())
		return err == nil && at.Epoch == begun
	})
	s.notify("ana", n+1)
	wantTitles(t, store, "ana", 0, n+1)
}

// A backup of the database is restored: later notifications are ingested again.
func TestIngestAfterARestore(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		s := newStream(t)
		stop := s.ingest(open(t, url))
		for n := range 100 {
			s.notify("ana", n)
		}
		wantTitles(t, open(t, url), "ana", 0, 99)
		stop()
		eachDatabase(t, func(t *testing.T, empty string) { // the oldest possible backup
			store := open(t, empty)
			s.ingest(store)
			wantTitles(t, store, "ana", 0, 99)
		})
	})
}

// Notifications of the largest size, more than the server buffers for a connection, are read a few at a time.
func TestIngestLargeNotifications(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "inbox.db"))
	s := newStream(t)
	const n, most = 150, 200 << 20
	for i := range n {
		body := fmt.Sprintf(`{"key":"k%d","type":"t","title":"x","body":"%s"}`, i, strings.Repeat("x", 900_000))
		s.publish(defaultNS.NotificationSubject("ana"), []byte(body))
	}
	runtime.GC()
	live := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(live)
	before, peak := live[0].Value.Uint64(), uint64(0)
	s.ingest(store)
	polltest.Until(t, "all of them", func() bool {
		metrics.Read(live)
		peak = max(peak, live[0].Value.Uint64())
		unread, err := store.Unread(t.Context(), "ana")
		return err == nil && unread == n
	})
	peak = peak - min(before, peak)
	if peak > most {
		t.Errorf("filling %d MB took %d MB of heap", n*900_000>>20, peak>>20)
	}
}
