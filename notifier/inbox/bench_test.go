package inbox_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// The size of the benchmarks' inbox, and its file between runs:
//
//	go test ./notifier/inbox -run '^$' -bench 'Log/sqlite' -benchtime 5000x -rows 10000000 -log /tmp/hark.db
var (
	rows = flag.Int("rows", 100_000, "notifications in the log of BenchmarkLog")
	path = flag.String("log", "", "SQLite file that BenchmarkLog keeps, a temporary one if empty")
)

// Two users get a hundredth of all notifications each. The heavy user reads none; the tidy one has read all except the last few.
const (
	heavy = "heavy@example.com"
	tidy  = "tidy@example.com"
)

// The notifications are of 90 days, as long as the inbox keeps them, and each has the same distance to the one before.
const benchAge = 90 * 24 * time.Hour

var benchStart = time.Now().Add(-benchAge)

func user(i int) string { return fmt.Sprintf("user-%06d@example.com", i) }

// load fills the inbox up to -rows, in batches of 1,000: 100 notifications per user, in random order, and 1 broadcast in 10,000.
func load(b *testing.B, s *inbox.Store) (users int) {
	b.Helper()
	users = max(1, *rows/100)
	random := rand.New(rand.NewPCG(1, 1))
	first, began := position(b, s).Seq, time.Now()
	for seq := first; seq < uint64(*rows); {
		batch := make([]inbox.Entry, 0, 1000)
		for range 1000 {
			seq++
			batch = append(batch, benchEntry(audience(random, seq, users), seq))
		}
		if err := s.Append(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	if n := float64(uint64(*rows) - first); n > 0 {
		b.Logf("loaded %.0f rows, %.0f/s", n, n/time.Since(began).Seconds())
		if _, err := s.MarkReadUpTo(b.Context(), tidy, at(max(1, uint64(*rows)-1000))); err != nil {
			b.Fatal(err)
		}
		if !strings.Contains(b.Name(), "sqlite") { // or else the server does it during the measurements
			if _, err := inbox.Writer(s).ExecContext(b.Context(), `VACUUM ANALYZE`); err != nil {
				b.Fatal(err)
			}
			var size float64
			if err := inbox.Writer(s).QueryRowContext(b.Context(),
				`SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'hark_notifications'::regclass`).Scan(&size); err != nil {
				b.Fatal(err)
			}
			b.Logf("%.0f B a row, with indexes", size/n)
		}
	}
	return users
}

// audience returns the audience of the notification with this number.
func audience(random *rand.Rand, seq uint64, users int) string {
	switch {
	case seq%10_000 == 0:
		return jobs.Everyone
	case seq%100 == 0:
		return heavy
	case seq%100 == 50:
		return tidy
	}
	return user(random.IntN(users))
}

func benchEntry(to string, seq uint64) inbox.Entry {
	e := entry(to, seq)
	e.Notification.CreatedAt = benchStart.Add(time.Duration(seq) * (benchAge / time.Duration(*rows)))
	e.Notification.Title, e.Notification.Body = "Your export “Orders 2026” is ready", "300,000 rows, 14 MB. The file is kept for 7 days."
	e.Notification.Type, e.Notification.File = "job.succeeded", &jobs.File{Name: "orders-2026-11-21.csv", Size: 14 << 20, ContentType: "text/csv; charset=utf-8", ExpiresAt: e.Notification.CreatedAt}
	e.Notification.JobID = fmt.Sprintf("01JD3Q%020d", seq)
	return e
}

func logs(b *testing.B, bench func(b *testing.B, s *inbox.Store)) {
	b.Run("sqlite", func(b *testing.B) {
		file := *path
		if file == "" {
			file = filepath.Join(b.TempDir(), "hark.db")
		}
		bench(b, open(b, file))
	})
	b.Run("postgres", func(b *testing.B) { bench(b, open(b, pgtest.DSN(b))) })
	b.Run("pgbouncer", func(b *testing.B) { bench(b, open(b, pgtest.Pooled(b))) })
}

// timed runs do b.N times and reports the median and the 99th percentile of the durations.
func timed(b *testing.B, do func() error) {
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		began := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/10].Microseconds()), "p10-µs")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

func BenchmarkLog(b *testing.B) {
	logs(b, func(b *testing.B, s *inbox.Store) {
		users := load(b, s)
		random := rand.New(rand.NewPCG(2, uint64(time.Now().UnixNano())))
		b.Run("unread", func(b *testing.B) {
			timed(b, func() error { _, err := s.Unread(b.Context(), user(random.IntN(users))); return err })
		})
		b.Run("page", func(b *testing.B) {
			timed(b, func() error {
				_, err := s.List(b.Context(), user(random.IntN(users)), inbox.ListOptions{Limit: 20})
				return err
			})
		})
		b.Run("page-unread", func(b *testing.B) {
			timed(b, func() error {
				_, err := s.List(b.Context(), user(random.IntN(users)), inbox.ListOptions{Limit: 20, Status: jobs.Unread})
				return err
			})
		})
		b.Run("heavy-unread", func(b *testing.B) {
			timed(b, func() error { _, err := s.Unread(b.Context(), heavy); return err })
		})
		b.Run("heavy-page", func(b *testing.B) {
			timed(b, func() error { _, err := s.List(b.Context(), heavy, inbox.ListOptions{Limit: 20}); return err })
		})
		b.Run("tidy-unread", func(b *testing.B) {
			timed(b, func() error { _, err := s.Unread(b.Context(), tidy); return err })
		})
		b.Run("tidy-page", func(b *testing.B) {
			timed(b, func() error { _, err := s.List(b.Context(), tidy, inbox.ListOptions{Limit: 20}); return err })
		})
		b.Run("tidy-older-page", func(b *testing.B) {
			timed(b, func() error {
				before := at(1 + random.Uint64N(uint64(*rows)))
				_, err := s.List(b.Context(), tidy, inbox.ListOptions{Limit: 20, Before: before})
				return err
			})
		})
		b.Run("mark-read", func(b *testing.B) {
			timed(b, func() error {
				_, err := s.MarkRead(b.Context(), user(random.IntN(users)), at(1+random.Uint64N(uint64(*rows))))
				if err == inbox.ErrNotFound {
					err = nil
				}
				return err
			})
		})
		for _, size := range []int{40, 200, 1000} {
			b.Run(fmt.Sprint("append-", size), func(b *testing.B) {
				seq, n := position(b, s).Seq, 0
				before := cpu(b)
				timed(b, func() error {
					batch := make([]inbox.Entry, 0, size)
					for range size {
						seq++
						batch = append(batch, benchEntry(audience(random, seq, users), seq))
					}
					n += size
					return s.Append(b.Context(), batch)
				})
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
				b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(n), "cpu-µs/row")
			})
		}
	})
}

// cpu returns the CPU time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIngest ingests b.N notifications from the stream: stored ones at full speed, and then 2,000 a second as they are
// published.
//
//	go test ./notifier/inbox -run '^$' -bench Ingest/sqlite -benchtime 20000x -cpuprofile cpu.out
//
// The server is in this process, so the result includes its CPU time.
func BenchmarkIngest(b *testing.B) {
	fill := func(b *testing.B, store *inbox.Store, publish func(s *stream, notify func())) {
		s := newStream(b)
		e, err := s.epoch(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		publish(s, func() {
			to := user(rand.IntN(10_000))
			n := benchEntry(to, 1).Notification
			n.Key, n.JobID, n.CreatedAt = ulid.Make().String(), "", time.Now()
			body, err := json.Marshal(&n)
			if err == nil {
				_, err = s.js.PublishAsync(defaultNS.NotificationSubject(to), body)
			}
			if err != nil {
				b.Error(err)
			}
		})
		if err := store.WaitFor(b.Context(), "ana", jobs.NotificationID{Epoch: e, Seq: uint64(b.N)}); err != nil {
			b.Fatal(err)
		}
	}
	logs(b, func(b *testing.B, store *inbox.Store) {
		b.Run("backlog", func(b *testing.B) {
			var before time.Duration
			fill(b, store, func(s *stream, notify func()) {
				for range b.N {
					notify()
				}
				<-s.js.PublishAsyncComplete()
				b.ResetTimer()
				before = cpu(b)
				s.ingest(store)
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/row")
		})
		b.Run("paced", func(b *testing.B) {
			var before time.Duration
			fill(b, store, func(s *stream, notify func()) {
				s.ingest(store)
				b.ResetTimer()
				before = cpu(b)
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for range (b.N + 1) / 2 {
					notify()
					notify()
					<-tick.C
				}
			})
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/row")
		})
	})
}
