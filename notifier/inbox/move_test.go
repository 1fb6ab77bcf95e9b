package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

func sqliteFile(t testing.TB) string { return filepath.Join(t.TempDir(), "inbox.db") }

// tables are the tables that a move copies, with what makes a row.
var tables = map[string]string{
	"notifications":  "audience, epoch, seq, key_id, COALESCE(job_id, $1), created_at, read_at, deleted, body",
	"receipts":       "reader, epoch, seq, read_at, deleted",
	"read_positions": "reader, epoch, seq, read_at",
	"positions":      "epoch, stream, seq",
}

// dump returns all rows of an inbox, in an order that is the same in all databases.
func dump(t *testing.T, s *inbox.Store) (all []string) {
	t.Helper()
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	for table, columns := range tables {
		var args []any
		if strings.Contains(columns, "$1") {
			args = []any{[]byte("none")}
		}
		rows, err := inbox.Writer(s).QueryContext(t.Context(), inbox.Query(s, "SELECT "+columns+" FROM {"+table+"}"), args...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			row := make([]any, strings.Count(strings.ReplaceAll(columns, ", $1", ""), ",")+1)
			targets := make([]any, len(row))
			for i := range row {
				targets[i] = &row[i]
			}
			if err := rows.Scan(targets...); err != nil {
				t.Fatal(err)
			}
			line := table
			for _, value := range row {
				if bytes, ok := value.([]byte); ok {
					value = fmt.Sprintf("%q", bytes)
				}
				line += fmt.Sprint(" ", value)
			}
			all = append(all, line)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	return all
}

// wantSame checks that two inboxes have the same rows.
func wantSame(t *testing.T, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%d rows, want %d", len(got), len(want))
	shown := 0
	for _, line := range want {
		if !slices.Contains(got, line) && shown < 5 {
			t.Errorf("missing: %.300s", line)
			shown++
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) && shown < 10 {
			t.Errorf("more: %.300s", line)
			shown++
		}
	}
}

// fillToMove stores 3,300 notifications of ten partitions and two epochs, of which some are read or deleted, and returns all rows.
func fillToMove(t *testing.T, s *inbox.Store) []string {
	t.Helper()
	const n = 3300
	var batch []inbox.Entry
	for seq := range uint64(n) {
		e := old([]string{"ana", "ben", jobs.Everyone}[seq%3], seq+1, 10*float64(seq)/n)
		if seq < 300 {
			e.ID.Epoch--
		}
		if seq%5 == 0 {
			e.Notification.JobID = fmt.Sprintf("01JD3Q%020d", seq)
		}
		e.Notification.Body = "nul \x00, emoji 👩‍👩‍👧‍👦, quote ' \" \\ ; -- $1"
		batch = append(batch, e)
	}
	add(t, s, batch...)
	for seq := uint64(301); seq < n; seq += 35 {
		do := []func(context.Context, string, jobs.NotificationID) (inbox.Change, error){s.MarkRead, s.Delete}[seq/35%2]
		for _, user := range []string{"ana", "ben"} {
			if _, err := do(t.Context(), user, at(seq)); err != nil && err != inbox.ErrNotFound {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.MarkReadUpTo(t.Context(), "ana", at(1500)); err != nil {
		t.Fatal(err)
	}
	return dump(t, s)
}

// An inbox is moved from any database to any other with all rows, and a second move changes nothing. The new one goes on where the old
// one was.
func TestMove(t *testing.T) {
	t.Parallel()
	for name, c := range map[string][2]func(testing.TB) string{
		"sqlite to postgres":    {sqliteFile, pgtest.DSN},
		"sqlite to pgbouncer":   {sqliteFile, pgtest.Pooled},
		"pgbouncer to postgres": {pgtest.Pooled, pgtest.DSN},
		"postgres to sqlite":    {pgtest.DSN, sqliteFile},
		"sqlite to sqlite":      {sqliteFile, sqliteFile},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := open(t, c[0](t)), open(t, c[1](t))
			want := fillToMove(t, from)
			var last, total int64
			o := inbox.MoveOptions{Progress: func(done, all int64) {
				if done < last || done > all {
					t.Errorf("%d of %d rows after %d", done, all, last)
				}
				last, total = done, all
			}}
			moved, err := inbox.Move(t.Context(), from, to, o)
			if err != nil || moved.Notifications != 3300 || moved.Marks == 0 || moved.Position != at(3300) || moved.Already {
				t.Fatalf("%+v, %v", moved, err)
			}
			if last != total || total != moved.Notifications+moved.Marks {
				t.Errorf("%d of %d rows at the end", last, total)
			}
			wantSame(t, dump(t, to), want)
			wantSame(t, dump(t, from), want)
			for _, user := range []string{"ana", "ben"} {
				if got, want := seqs(t, to, user, ""), seqs(t, from, user, ""); !slices.Equal(got, want) {
					t.Errorf("%s has\n%v, want\n%v", user, got, want)
				}
			}
			// Known keys are known, and the new inbox is used.
			add(t, to, old("ana", 3001, 0), old("ana", 3301, 9.9))
			if _, err := to.MarkReadUpTo(t.Context(), "ben", jobs.NotificationID{}); err != nil {
				t.Fatal(err)
			}
			want = dump(t, to)
			if moved, err := inbox.Move(t.Context(), from, to, o); err != nil || !moved.Already {
				t.Errorf("again: %+v, %v", moved, err)
			}
			wantSame(t, dump(t, to), want)
		})
	}
}

// A move that is interrupted after each batch goes on where it was.
func TestMoveGoesOn(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(testing.TB) string{"sqlite": sqliteFile, "postgres": pgtest.DSN, "pgbouncer": pgtest.Pooled} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, target := sqliteFile(t), url(t)
			want := fillToMove(t, open(t, source))
			calls, last := 0, int64(0)
			for ; calls < 100; calls++ {
				ctx, cancel := context.WithCancel(t.Context())
				reports := 0
				_, err := inbox.Move(ctx, open(t, source), open(t, target), inbox.MoveOptions{Progress: func(done, _ int64) {
					if reports == 0 && done != last {
						t.Errorf("call %d begins after %d rows, want %d", calls, done, last)
					}
					if reports++; reports == 2 {
						cancel()
					}
					last = done
				}})
				cancel()
				if err == nil {
					break
				}
				if !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			}
			if calls < 5 || calls == 100 {
				t.Errorf("%d calls were interrupted", calls)
			}
			wantSame(t, dump(t, open(t, target)), want)
		})
	}
}

func wantRefusal(t *testing.T, from, to *inbox.Store, code string) {
	t.Helper()
	var refusal *inbox.MoveError
	if moved, err := inbox.Move(t.Context(), from, to, inbox.MoveOptions{}); !errors.As(err, &refusal) || refusal.Code != code {
		t.Errorf("%+v, %v; want the code %s", moved, err, code)
	}
}

func TestMoveIsRefused(t *testing.T) {
	t.Parallel()
	filled := sqliteFile(t)
	want := fillToMove(t, open(t, filled))

	t.Run("without a source", func(t *testing.T) {
		t.Parallel()
		file := sqliteFile(t)
		wantRefusal(t, open(t, file), open(t, pgtest.DSN(t)), "missing")
		if _, err := os.Stat(file); err == nil {
			t.Error("the move has made the source")
		}
		empty := open(t, pgtest.DSN(t))
		wantRefusal(t, empty, open(t, sqliteFile(t)), "missing")
		var n int
		if err := inbox.Writer(empty).QueryRowContext(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&n); err != nil || n != 0 {
			t.Errorf("the source has %d tables, %v", n, err)
		}
	})
	t.Run("to itself", func(t *testing.T) {
		t.Parallel()
		file := sqliteFile(t)
		add(t, open(t, file), entry("ana", 1))
		link := file + "-link"
		if err := os.Link(file, link); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, open(t, file), open(t, link), "same")
		pooled := pgtest.Pooled(t)
		add(t, open(t, pooled), entry("ana", 1))
		direct, err := inbox.Open(strings.Replace(pooled, "port=6432", "port=5432", 1), options(pooled))
		if err != nil {
			t.Fatal(err)
		}
		defer direct.Close()
		wantRefusal(t, open(t, pooled), direct, "same")
		wantRefusal(t, direct, open(t, pooled), "same")
	})
	t.Run("into another inbox", func(t *testing.T) {
		t.Parallel()
		to := open(t, pgtest.DSN(t))
		add(t, to, entry("ana", 1), entry(jobs.Everyone, 2))
		if _, err := to.MarkRead(t.Context(), "ben", at(2)); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, open(t, filled), to, "exists")
		if _, err := inbox.Move(t.Context(), open(t, filled), to, inbox.MoveOptions{Replace: true}); err != nil {
			t.Fatal(err)
		}
		wantSame(t, dump(t, to), want)
		other := open(t, sqliteFile(t))
		add(t, other, entry("cem", 1))
		wantRefusal(t, other, to, "exists")
		wantSame(t, dump(t, to), want)
	})
	t.Run("after a change", func(t *testing.T) {
		t.Parallel()
		from, to := open(t, sqliteFile(t)), open(t, pgtest.DSN(t))
		fillToMove(t, from)
		interrupt := func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stop := inbox.MoveOptions{Replace: true, Progress: func(done, _ int64) {
				if done > 0 {
					cancel()
				}
			}}
			if _, err := inbox.Move(ctx, from, to, stop); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		for _, change := range []func() error{
			func() error { return from.Append(t.Context(), []inbox.Entry{old("ana", 4000, 9)}) },
			func() error { _, err := from.MarkRead(t.Context(), "ben", at(2000)); return err },
			func() error { _, err := from.Delete(t.Context(), "ana", at(1600)); return err },
			func() error { _, err := from.MarkRead(t.Context(), "cem", at(300*3)); return err },
			func() error { _, err := from.Delete(t.Context(), "cem", at(300*3)); return err },
			func() error { _, err := from.MarkReadUpTo(t.Context(), "cem", at(2000)); return err },
			func() error { _, err := from.Expire(t.Context(), start.Add(period/2)); return err },
		} {
			interrupt()
			if err := change(); err != nil {
				t.Fatal(err)
			}
			wantRefusal(t, from, to, "changed")
		}
	})
	for _, used := range []string{"source", "target"} {
		t.Run("while a hark uses the "+used, func(t *testing.T) {
			t.Parallel()
			from, to := open(t, sqliteFile(t)), open(t, pgtest.DSN(t))
			add(t, from, entry("ana", 1))
			if used == "target" {
				newStream(t).ingest(to)
			} else {
				newStream(t).ingest(from)
			}
			leased(t, map[string]*inbox.Store{"source": from, "target": to}[used])
			wantRefusal(t, from, to, "in_use")
		})
	}
	t.Run("when a hark begins to use the target", func(t *testing.T) {
		t.Parallel()
		from, to := open(t, sqliteFile(t)), open(t, pgtest.DSN(t))
		fillToMove(t, from)
		_, err := inbox.Move(t.Context(), from, to, inbox.MoveOptions{Progress: func(done, _ int64) {
			if done == 2000 {
				if err := to.AcquireLease(t.Context(), epoch, "another"); err != nil {
					t.Error(err)
				}
			}
		}})
		var refusal *inbox.MoveError
		if !errors.As(err, &refusal) || refusal.Code != "in_use" {
			t.Errorf("%v, want a refusal", err)
		}
	})
}

// leased waits until an ingester has the lease.
func leased(t *testing.T, s *inbox.Store) {
	t.Helper()
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	for n := 0; n == 0; {
		if err := inbox.Writer(s).QueryRowContext(ctx, inbox.Query(s, `SELECT count(*) FROM {positions} WHERE lease_until > 0`)).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
}

// A notifier continues on the new database: nothing is ingested twice, and nothing is missed of what came meanwhile.
func TestIngestAfterAMove(t *testing.T) {
	t.Parallel()
	from, to := open(t, sqliteFile(t)), open(t, pgtest.DSN(t))
	s := newStream(t)
	var skipped []uint64
	count := func(o *inbox.IngesterOptions) {
		o.Skipped = func(_ string, seq uint64, _ error) { skipped = append(skipped, seq) }
	}
	stop := s.ingest(from, count)
	for i := range 20 {
		s.notify([]string{"ana", jobs.Everyone}[i%2], i)
	}
	malformed := s.publish(defaultNS.NotificationSubject("ana"), []byte("{"))
	last := s.notify("ana", 20)
	e, err := s.epoch(t.Context())
	if err == nil {
		err = from.WaitFor(within(t, time.Minute), "ana", jobs.NotificationID{Epoch: e, Seq: last})
	}
	if err == nil {
		_, err = from.MarkRead(t.Context(), "ana", jobs.NotificationID{Epoch: e, Seq: 1})
	}
	if err == nil {
		_, err = from.MarkRead(t.Context(), "ana", jobs.NotificationID{Epoch: e, Seq: 2})
	}
	if err == nil {
		_, err = from.Delete(t.Context(), "ana", jobs.NotificationID{Epoch: e, Seq: 4})
	}
	if err != nil {
		t.Fatal(err)
	}
	stop()
	want := seqs(t, from, "ana", "")
	s.notify("ben", 21)
	again := s.notify("ana", 0) // a key that the inbox has
	next := s.notify("ana", 22)
	if _, err := inbox.Move(t.Context(), from, to, inbox.MoveOptions{}); err != nil {
		t.Fatal(err)
	}
	stop = s.ingest(to, count)
	if err := to.WaitFor(within(t, time.Minute), "ana", jobs.NotificationID{Epoch: e, Seq: next}); err != nil {
		t.Fatal(err)
	}
	stop()
	if got := seqs(t, to, "ana", ""); !slices.Equal(got, append([]string{fmt.Sprint(next)}, want...)) {
		t.Errorf("ana has %v, want %d before %v; not %d", got, next, want, again)
	}
	if n := len(dump(t, to)) - len(dump(t, from)); n != 2 {
		t.Errorf("%d rows more, want 2", n)
	}
	if !slices.Equal(skipped, []uint64{malformed}) { // it was read once
		t.Errorf("skipped %v, want %d once", skipped, malformed)
	}
}
