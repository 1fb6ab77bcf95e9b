package inbox_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// How large a log the benchmarks work on, and where they keep it between runs:
//
//	go test ./notifier/inbox -run '^$' -bench 'Log/sqlite' -benchtime 5000x -rows 10000000 -log /tmp/hark.db
var (
	rows = flag.Int("rows", 100_000, "notifications in the log of BenchmarkLog")
	path = flag.String("log", "", "SQLite file that BenchmarkLog keeps, a temporary one if empty")
)

// Each of these users gets a hundredth of a thousandth, and one a thousand times as much.
const heavy = "heavy@example.com"

func user(i int) string { return fmt.Sprintf("user-%06d@example.com", i) }

// load fills the log up to -rows, in batches of 1,000: 100 notifications a user, in random order, 1 of 10,000
// for everyone and 1 of 100 for the heavy user.
func load(b *testing.B, s *inbox.Store) (users int) {
	b.Helper()
	users = max(1, *rows/100)
	at, err := s.Position(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	first, began := at.Seq, time.Now()
	for seq := first; seq < uint64(*rows); {
		batch := make([]inbox.Entry, 0, 1000)
		for range 1000 {
			seq++
			batch = append(batch, benchEntry(random, seq, users))
		}
		if _, err := s.Append(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	if n := float64(uint64(*rows) - first); n > 0 {
		b.Logf("loaded %.0f rows, %.0f/s", n, n/time.Since(began).Seconds())
	}
	return users
}

func benchEntry(random *rand.Rand, seq uint64, users int) inbox.Entry {
	to := user(random.IntN(users))
	switch {
	case seq%10_000 == 0:
		to = jobs.Everyone
	case seq%100 == 0:
		to = heavy
	}
	e := entry(to, seq)
	e.Notification.Title, e.Notification.Body = "Your export “Orders 2026” is ready", "300,000 rows, 14 MB. The file is kept for 7 days."
	e.Notification.Type, e.Notification.Link = "job.succeeded", "/v1/jobs/01JD3Q00000000000000000000/file"
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
}

// timed runs do b.N times and reports how long the median and the 99th of a hundred take.
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
		b.Run("mark-read", func(b *testing.B) {
			timed(b, func() error {
				_, err := s.MarkRead(b.Context(), user(random.IntN(users)), at(1+random.Uint64N(uint64(*rows))))
				if err == inbox.ErrNotFound {
					err = nil
				}
				return err
			})
		})
		b.Run("append-1000", func(b *testing.B) {
			pos, err := s.Position(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			seq, n := pos.Seq, 0
			timed(b, func() error {
				batch := make([]inbox.Entry, 0, 1000)
				for range 1000 {
					seq++
					batch = append(batch, benchEntry(random, seq, users))
				}
				n += len(batch)
				_, err := s.Append(b.Context(), batch)
				return err
			})
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
		})
	})
}
