package backup_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/backup"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// openStreams opens a log of n streams in which each of four users has a job and a notification.
func openStreams(t *testing.T, nc *nats.Conn, n int) *joblog.Store {
	t.Helper()
	ctx := natstest.Context(t)
	q, err := joblog.Open(ctx, nc, joblog.Options{Settings: joblog.Settings{Streams: n}, Logger: logTo(t)})
	if err == nil {
		err = q.PublishKind(ctx, jobs.Kind{Name: "a", Open: true})
	}
	for _, user := range []string{"ana", "bob", "a@b.c", "user-1"} { // one in each of four streams
		if err == nil {
			_, _, err = q.Enqueue(ctx, jobs.Request{Kind: "a", User: user, IdempotencyKey: "k"})
		}
		if err == nil {
			_, _, err = q.Notify(ctx, user, jobs.Notification{Type: "t", Title: "own"})
		}
	}
	if err == nil {
		_, _, err = q.Notify(ctx, jobs.Everyone, jobs.Notification{Type: "t", Title: "all"})
	}
	for i := range n {
		if err == nil {
			_, _, err = q.OpenWorkerConsumer(ctx, i, "a")
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// A backup has all streams of the log. A restore brings them back, in place of a log with another number of streams, too.
func TestRestoreSeveralStreams(t *testing.T) {
	t.Parallel()
	ctx, from, dir := t.Context(), natstest.Connect(t), t.TempDir()
	q := openStreams(t, from, 4)
	saved, err := backup.Backup(ctx, from, joblog.Location{}, dir, logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range saved.Streams {
		names = append(names, s.Name)
	}
	all := append(defaultNS.LogStreams(4), streams[1:]...)
	if !slices.Equal(names, all) {
		t.Errorf("saved %q, want %q", names, all)
	}
	if _, err := backup.Check(dir); err != nil {
		t.Error(err)
	}
	for _, n := range []int{1, 2, 4, 8} {
		to := natstest.Connect(t)
		there := openStreams(t, to, n)
		_, err := backup.Restore(ctx, to, dir, backup.Options{Logger: logTo(t)})
		var refused *backup.Error
		if !errors.As(err, &refused) || refused.Code != "streams_exist" {
			t.Errorf("over a log of %d: %v", n, err)
		}
		if err := there.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := backup.Restore(ctx, to, dir, backup.Options{Replace: true, Logger: logTo(t)}); err != nil {
			t.Fatal(err)
		}
		for _, name := range all[:len(all)-1] { // there are no files
			same(t, name, stored(t, from, name), stored(t, to, name))
		}
		var exist []string
		js, err := jetstream.New(to)
		if err != nil {
			t.Fatal(err)
		}
		list := js.StreamNames(ctx)
		for name := range list.Name() {
			if defaultNS.IsLogStream(name) {
				exist = append(exist, name)
			}
		}
		slices.Sort(exist)
		if !slices.Equal(exist, defaultNS.LogStreams(4)) {
			t.Errorf("restored over %d streams: %q", n, exist)
		}
		back, err := joblog.Open(ctx, to, joblog.Options{Logger: logTo(t)})
		if err != nil {
			t.Fatal(err)
		}
		if back.Streams() != 4 || back.Epoch() <= q.Epoch() {
			t.Errorf("%d streams of epoch %d, after %d", back.Streams(), back.Epoch(), q.Epoch())
		}
		if page, err := back.List(ctx, "", jobs.ListOptions{Everyone: true}); err != nil || len(page.Jobs) != 4 {
			t.Errorf("%d jobs, %v", len(page.Jobs), err)
		}
		if _, created, err := back.Enqueue(ctx, jobs.Request{Kind: "a", User: "bob", IdempotencyKey: "k"}); err != nil || created {
			t.Errorf("the same request again: %v, %v", created, err)
		}
		if err := back.Close(); err != nil {
			t.Error(err)
		}
	}
}
