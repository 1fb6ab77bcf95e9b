package inbox_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// period is the time of a partition.
const period = 28 * 24 * time.Hour

// start is the start of a partition, ten partitions ago.
var start = func() time.Time {
	first := time.Date(1970, 1, 5, 0, 0, 0, 0, time.UTC)
	return first.Add(time.Since(first) / period * period).Add(-10 * period)
}()

// old is [entry] with another time, in the given partition from start on.
func old(user string, seq uint64, periods float64) inbox.Entry {
	e := entry(user, seq)
	e.Notification.CreatedAt = start.Add(time.Duration(periods * float64(period)))
	return e
}

// partitioned runs test on PostgreSQL and behind PgBouncer, with the URL of an empty database.
func partitioned(t *testing.T, test func(t *testing.T, url string)) {
	t.Parallel()
	for name, url := range map[string]func(testing.TB) string{"postgres": pgtest.DSN, "pgbouncer": pgtest.Pooled} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, url(t))
		})
	}
}

// partitions returns the partitions as numbers from start on.
func partitions(t *testing.T, s *inbox.Store) (all []int) {
	t.Helper()
	names, err := inbox.Partitions(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		from, err := time.Parse("20060102", strings.TrimPrefix(name, "notifications_"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, int(from.Sub(start)/period))
	}
	return all
}

// Two notifiers and more create the same partitions at once, for new and for old notifications.
func TestPartitionsAtOnce(t *testing.T) {
	partitioned(t, func(t *testing.T, url string) {
		var all sync.WaitGroup
		for i := range 4 {
			s := open(t, url)
			all.Go(func() {
				for w := range 8 {
					seq := uint64(1 + w*4 + i)
					if err := s.Append(t.Context(), []inbox.Entry{old("ana", seq, float64(w))}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		s := open(t, url)
		if got, want := partitions(t, s), []int{0, 1, 2, 3, 4, 5, 6, 7}; !slices.Equal(got, want) {
			t.Errorf("partitions %v, want %v", got, want)
		}
		if got := seqs(t, s, "ana", ""); len(got) != 32 {
			t.Errorf("%d notifications: %v", len(got), got)
		}
	})
}

// Expire hides what has expired and drops the partitions without anything else. It creates the next partition ahead of time.
func TestExpireDropsPartitions(t *testing.T) {
	partitioned(t, func(t *testing.T, url string) {
		s, another := open(t, url), open(t, url)
		for w := range 5 {
			seq := uint64(10 * w)
			add(t, s, old("ana", seq+1, float64(w)), old(jobs.Everyone, seq+2, float64(w)+0.4), old("ana", seq+3, float64(w)+0.9))
		}
		if _, err := s.MarkRead(t.Context(), "ana", at(22)); err != nil {
			t.Fatal(err)
		}
		n, err := s.Expire(t.Context(), start.Add(5*period/2))
		if n != 8 || err != nil {
			t.Fatalf("expired %d, %v; want 8", n, err)
		}
		if got, want := partitions(t, s), []int{2, 3, 4, 10, 11}; !slices.Equal(got, want) {
			t.Errorf("partitions %v, want %v", got, want)
		}
		want := []string{"43", "42", "41", "33", "32", "31", "23"}
		for _, s := range []*inbox.Store{s, another, open(t, url)} {
			if got := seqs(t, s, "ana", ""); !slices.Equal(got, want) {
				t.Errorf("ana's inbox: %v, want %v", got, want)
			}
			if n := unread(t, s, "ana"); n != len(want) {
				t.Errorf("%d unread, want %d", n, len(want))
			}
			for _, id := range []jobs.NotificationID{at(1), at(2), at(21), at(22)} {
				_, err1 := s.MarkRead(t.Context(), "ana", id)
				_, err2 := s.Delete(t.Context(), "ana", id)
				if err1 != inbox.ErrNotFound || err2 != inbox.ErrNotFound {
					t.Errorf("%s has expired: %v, %v", id, err1, err2)
				}
			}
		}
		// A longer time to keep does not bring back what has expired.
		if n, err := s.Expire(t.Context(), start); n != 0 || err != nil {
			t.Errorf("expired %d, %v; want 0", n, err)
		}
		// A notification that comes late is stored if it has not expired. Otherwise it does not bring back its partition.
		add(t, another, old("ana", 51, 2.6), old("ana", 52, 2.1), old("ana", 53, 0))
		if got, want := seqs(t, s, "ana", ""), append([]string{"51"}, want...); !slices.Equal(got, want) {
			t.Errorf("ana's inbox: %v, want %v", got, want)
		}
		if got, want := partitions(t, s), []int{2, 3, 4, 10, 11}; !slices.Equal(got, want) {
			t.Errorf("partitions %v, want %v", got, want)
		}
		if n, err := another.Expire(t.Context(), start.Add(9*period)); n != 8 || err != nil {
			t.Errorf("expired %d, %v; want 8", n, err)
		}
		if got, want := partitions(t, s), []int{10, 11}; !slices.Equal(got, want) {
			t.Errorf("partitions %v, want %v", got, want)
		}
	})
}

// A partition that another process has dropped is created again for what has not expired.
func TestDroppedPartition(t *testing.T) {
	partitioned(t, func(t *testing.T, url string) {
		s := open(t, url)
		add(t, s, old("ana", 1, 3))
		names, err := inbox.Partitions(t.Context(), s)
		if err != nil || len(names) != 1 {
			t.Fatalf("partitions %v, %v", names, err)
		}
		drop := strings.Replace(inbox.Query(s, `DROP TABLE {notifications}`), "notifications\"", names[0]+"\"", 1)
		if !strings.Contains(drop, names[0]) {
			drop = strings.Replace(drop, "_notifications", "_"+names[0], 1)
		}
		if _, err := inbox.Writer(s).ExecContext(t.Context(), drop); err != nil {
			t.Fatal(err)
		}
		add(t, s, old("ana", 2, 3), old("ana", 3, 4))
		if got, want := seqs(t, s, "ana", ""), []string{"3", "2"}; !slices.Equal(got, want) {
			t.Errorf("ana's inbox: %v, want %v", got, want)
		}
	})
}

// While a program reads the table for long, as a backup does, no partition is dropped, and other readers do not wait for that.
func TestExpireKeepsNoReaderWaiting(t *testing.T) {
	partitioned(t, func(t *testing.T, url string) {
		s := open(t, url)
		add(t, s, old("ana", 1, 0), old("ana", 2, 1), old("ana", 3, 9))
		reading, err := inbox.Writer(s).BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer reading.Rollback()
		var n int
		if err := reading.QueryRowContext(t.Context(), inbox.Query(s, `SELECT count(*) FROM {notifications}`)).Scan(&n); err != nil || n != 3 {
			t.Fatal(n, err)
		}
		ctx := within(t, time.Minute)
		expired := make(chan error, 1)
		go func() {
			_, err := s.Expire(ctx, start.Add(5*period))
			expired <- err
		}()
		for lists := 0; ; lists++ {
			once, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			_, err := s.List(once, "ana", inbox.ListOptions{})
			cancel()
			if err != nil {
				t.Fatalf("list %d: %v", lists, err)
			}
			select {
			case err := <-expired:
				if err == nil || !strings.Contains(err.Error(), "lock timeout") || lists < 10 {
					t.Errorf("Expire: %v, after %d lists", err, lists)
				}
			default:
				continue
			}
			break
		}
		if got, want := seqs(t, s, "ana", ""), []string{"3"}; !slices.Equal(got, want) {
			t.Errorf("ana's inbox: %v, want %v", got, want)
		}
		if err := reading.Rollback(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Expire(t.Context(), start.Add(5*period)); err != nil {
			t.Error(err)
		}
		if got, want := partitions(t, s), []int{9, 10, 11}; !slices.Equal(got, want) {
			t.Errorf("partitions %v, want %v", got, want)
		}
	})
}

// The inbox has a key once, whatever the times of its notifications: in one batch, later, and appended at once in two epochs, as
// by a notifier that has not noticed yet that an epoch has begun.
func TestKeysAreUniqueAcrossPartitions(t *testing.T) {
	partitioned(t, func(t *testing.T, url string) {
		s := open(t, url)
		again := func(seq uint64, periods float64) inbox.Entry {
			e := old("ana", seq, periods)
			e.Notification.Key = "key-1"
			return e
		}
		add(t, s, again(1, 2), again(2, 3), again(3, 2))
		add(t, s, again(4, 4))
		if got, want := seqs(t, s, "ana", ""), []string{"1"}; !slices.Equal(got, want) {
			t.Errorf("ana's inbox: %v, want %v", got, want)
		}
		var all sync.WaitGroup
		const keys = 100
		for i := range 4 {
			s := open(t, url)
			all.Go(func() {
				for seq := range uint64(keys) {
					e := old("ben", seq+10, float64(i))
					e.ID.Epoch += jobs.Epoch(i)
					if err := s.Append(t.Context(), []inbox.Entry{e}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if got := seqs(t, s, "ben", ""); len(got) != keys {
			t.Errorf("%d notifications with %d keys", len(got), keys)
		}
	})
}

// A list is in the order of the stream, whatever the times of the notifications, and its pages have each once.
func TestListAcrossPartitions(t *testing.T) {
	partitioned(t, func(t *testing.T, url string) {
		s := open(t, url)
		var batch []inbox.Entry
		var want []string
		for seq := range uint64(200) {
			batch = append(batch, old([]string{"ana", "ben", jobs.Everyone}[seq%3], seq+1, 10*rand.Float64()))
			if seq%3 != 1 {
				want = append(want, fmt.Sprint(seq+1))
			}
		}
		add(t, s, batch...)
		slices.Reverse(want)
		for _, status := range []string{"", jobs.Unread} {
			var got []string
			for o := (inbox.ListOptions{Status: status, Limit: 7}); ; {
				page := list(t, s, "ana", o)
				for _, n := range page.Notifications {
					got = append(got, fmt.Sprint(parse(t, n.ID).Seq))
				}
				if page.Next == "" {
					break
				}
				o.Before = parse(t, page.Next)
			}
			if !slices.Equal(got, want) {
				t.Errorf("status %q:\n got %v\nwant %v", status, got, want)
			}
		}
	})
}

// Times that other programs have invented create few partitions, and expire.
func TestInventedTimes(t *testing.T) {
	partitioned(t, func(t *testing.T, url string) {
		s := open(t, url)
		for i, year := range []int{1, 1582, 1969, 1970, 2400, 9999} {
			e := entry("ana", uint64(i+1))
			e.Notification.CreatedAt = time.Date(year, 7, 1, 0, 0, 0, 0, time.UTC)
			add(t, s, e)
		}
		if got := seqs(t, s, "ana", ""); len(got) != 6 {
			t.Errorf("ana's inbox: %v", got)
		}
		if got := partitions(t, s); len(got) != 2 || got[1] != 10 {
			t.Errorf("partitions %v", got)
		}
		// The clock of this process is wrong. That does not hide what comes later.
		if n, err := s.Expire(t.Context(), time.Now().Add(1000*time.Hour)); n != 6 || err != nil {
			t.Errorf("expired %d, %v; want 6", n, err)
		}
		next := entry("ana", 7)
		next.Notification.CreatedAt = time.Now().Add(time.Minute)
		add(t, s, next)
		if got := seqs(t, s, "ana", ""); !slices.Equal(got, []string{"7"}) {
			t.Errorf("ana's inbox: %v", got)
		}
	})
}
