package joblog_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// openLogged opens a store that logs to log.
func openLogged(t *testing.T, nc *nats.Conn, s joblog.Settings, log io.Writer) *joblog.Store {
	t.Helper()
	q, err := joblog.Open(natstest.Context(t), nc, joblog.Options{Settings: s, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

const createdAgain = "it was created again, empty"

// atOnce calls each function on a goroutine of its own until it returns no error. Each call has 10 s: on a cluster some
// requests that come while a stream is created get no response.
func atOnce(t *testing.T, calls map[string]func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for name, call := range calls {
		all.Go(func() {
			for {
				short, cancel := context.WithTimeout(ctx, 10*time.Second)
				err := call(short)
				cancel()
				if err == nil {
					return
				}
				if ctx.Err() != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	all.Wait()
}

// lostCalls are calls that notice that the log is gone.
func lostCalls(q *joblog.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Writable":     q.Writable,
		"CurrentEpoch": func(ctx context.Context) error { _, err := q.CurrentEpoch(ctx); return err },
		"Notify": func(ctx context.Context) error {
			_, _, err := q.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: "T"})
			return err
		},
		"Enqueue": func(ctx context.Context) error {
			_, _, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "k"})
			return err
		},
		"List": func(ctx context.Context) error { _, err := q.List(ctx, "ana", jobs.ListOptions{}); return err },
		"Get": func(ctx context.Context) error {
			if _, err := q.Get(ctx, "ana", missingID); !errors.Is(err, jobs.ErrNotFound) {
				return errors.Join(errors.New("not yet"), err)
			}
			return nil
		},
		"Cancel": func(ctx context.Context) error {
			if _, err := q.Cancel(ctx, "ana", missingID); !errors.Is(err, jobs.ErrNotFound) {
				return errors.Join(errors.New("not yet"), err)
			}
			return nil
		},
		"OpenWorkerConsumer": func(ctx context.Context) error { _, _, err := q.OpenWorkerConsumer(ctx, 0, "k"); return err },
	}
}

// A log that is deleted is created again with the settings that it had last, once, in a new epoch, by whichever call of
// whichever process notices first.
func TestLostLogIsCreatedAgain(t *testing.T) {
	nc := natstest.Connect(t)
	var log logtest.Buffer
	settings := joblog.Settings{MaxAge: 720 * time.Hour, Lease: 7 * time.Second}
	a, b := openLogged(t, nc, settings, &log), openLogged(t, nc, joblog.Settings{}, &log)
	if err := a.PublishKind(natstest.Context(t), jobs.Kind{Name: "k", Title: "K", MaxAttempts: 1, Open: true}); err != nil {
		t.Fatal(err)
	}
	// Changed after both were opened, and seen by both.
	if _, err := joblog.Setup(natstest.Context(t), nc, joblog.Location{}, joblog.Settings{MaxAge: 48 * time.Hour}, false); err != nil {
		t.Fatal(err)
	}
	calls := lostCalls(a)
	names := slices.Sorted(maps.Keys(calls))
	calls["of another process"] = b.Writable
	for i, name := range append([]string{""}, names...) {
		for _, q := range []*joblog.Store{a, b} {
			if err := q.Writable(natstest.Context(t)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := q.Notify(natstest.Context(t), "ana", jobs.Notification{Type: "t", Title: "T"}); err != nil {
				t.Fatal(err)
			}
		}
		before := a.Epoch()
		if err := a.JetStream().DeleteStream(natstest.Context(t), defaultNS.LogStream()); err != nil {
			t.Fatal(err)
		}
		if name == "" {
			atOnce(t, calls)
		} else {
			atOnce(t, map[string]func(context.Context) error{name: calls[name]})
		}
		if n := log.Count(createdAgain); n != i+1 {
			t.Fatalf("%s: a stream was created again %d times, want %d:\n%s", name, n, i+1, log.String())
		}
		for _, q := range []*joblog.Store{a, b} {
			if now, err := q.CurrentEpoch(natstest.Context(t)); err != nil || now <= before || now != q.Epoch() {
				t.Errorf("%s: the epoch is %d after %d, %v", name, now, before, err)
			}
		}
		stream, err := a.JetStream().Stream(natstest.Context(t), defaultNS.LogStream())
		if err != nil {
			t.Fatal(err)
		}
		if c := stream.CachedInfo().Config; c.MaxAge != 48*time.Hour || c.RePublish == nil || !c.AllowDirect || !c.AllowRollup || !c.AllowAtomicPublish {
			t.Errorf("%s: it was created with %+v", name, c)
		}
		if _, lease, err := b.OpenWorkerConsumer(natstest.Context(t), 0, "k"); err != nil || lease != 7*time.Second {
			t.Errorf("%s: the lease is %v, %v", name, lease, err)
		}
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "stream=hark_log") {
		t.Errorf("logged %s", log.String())
	}
}

// Of two processes that create a lost log at the same moment, with the same epoch, one says that it has created it.
func TestLostLogWithOneEpoch(t *testing.T) {
	nc := natstest.Connect(t)
	var log logtest.Buffer
	a, b := openLogged(t, nc, joblog.Settings{}, &log), openLogged(t, nc, joblog.Settings{}, &log)
	joblog.CreateTogether(a.Epoch()+1000, a, b)
	if err := a.JetStream().DeleteStream(natstest.Context(t), defaultNS.LogStream()); err != nil {
		t.Fatal(err)
	}
	atOnce(t, map[string]func(context.Context) error{"a": a.Writable, "b": b.Writable})
	if n := log.Count(createdAgain); n != 1 {
		t.Errorf("it was created again %d times, want 1:\n%s", n, log.String())
	}
}

// Two processes on a cluster notice at once that the log is gone. One creates it, with its replicas.
func TestLostLogOnCluster(t *testing.T) {
	t.Parallel()
	servers := natstest.Cluster(t, 3)
	var log logtest.Buffer
	a := openLogged(t, servers.ConnectTo(t, 0), joblog.Settings{Replicas: 3}, &log)
	b := openLogged(t, servers.ConnectTo(t, 1), joblog.Settings{}, &log)
	if err := a.PublishKind(natstest.Context(t), jobs.Kind{Name: "k", Title: "K", MaxAttempts: 1, Open: true}); err != nil {
		t.Fatal(err)
	}
	before := a.Epoch()
	if err := a.JetStream().DeleteStream(natstest.Context(t), defaultNS.LogStream()); err != nil {
		t.Fatal(err)
	}
	calls := lostCalls(a)
	for name, call := range lostCalls(b) {
		calls[name+" of b"] = call
	}
	atOnce(t, calls)
	if n := log.Count(createdAgain); n != 1 {
		t.Errorf("it was created again %d times:\n%s", n, log.String())
	}
	stream, err := b.JetStream().Stream(natstest.Context(t), defaultNS.LogStream())
	if err != nil || stream.CachedInfo().Config.Replicas != 3 {
		t.Errorf("replicas %+v, %v", stream.CachedInfo().Config, err)
	}
	for _, q := range []*joblog.Store{a, b} {
		if now, err := q.CurrentEpoch(natstest.Context(t)); err != nil || now <= before {
			t.Errorf("the epoch is %d after %d, %v", now, before, err)
		}
	}
}

// The buckets of kinds and files are created again, as they were, by the call that needs them.
func TestLostBucketsAreCreatedAgain(t *testing.T) {
	nc := natstest.Connect(t)
	var log logtest.Buffer
	q := openLogged(t, nc, joblog.Settings{FileAge: 48 * time.Hour, UserFileSpace: 1 << 20}, &log)
	ctx := natstest.Context(t)
	kind := jobs.Kind{Name: "k", Title: "K", MaxAttempts: 1, Open: true}
	if err := q.PublishKind(ctx, kind); err != nil {
		t.Fatal(err)
	}
	job := leased("ana", missingID)
	store := func() error {
		_, err := q.StoreFile(ctx, job, strings.NewReader("0123456789"))
		return err
	}
	if err := store(); err != nil {
		t.Fatal(err)
	}
	job.File = &jobs.File{Name: "f", Size: 10, ExpiresAt: time.Now().Add(time.Hour)}
	before := kept(t, nc)
	for i, c := range []struct {
		stream string
		call   func() error
		want   error
	}{
		{joblog.BucketStream(defaultNS.KindsBucket()), func() error { return q.PublishKind(ctx, kind) }, nil},
		{joblog.BucketStream(defaultNS.KindsBucket()), func() error { _, err := q.Kind(ctx, "other"); return err }, jobs.ErrKindUnknown},
		{defaultNS.FilesStream(), store, nil},
		{defaultNS.FilesStream(), func() error { _, err := q.OpenFile(ctx, job); return err }, jobs.ErrFileGone},
		{defaultNS.FilesStream(), func() error { return q.DeleteFile(ctx, job) }, nil},
	} {
		if err := q.JetStream().DeleteStream(ctx, c.stream); err != nil {
			t.Fatal(err)
		}
		if err := c.call(); !errors.Is(err, c.want) {
			t.Errorf("%d %s: %v, want %v", i, c.stream, err, c.want)
		}
		if n := log.Count(createdAgain); n != i+1 {
			t.Errorf("%d %s: created again %d times:\n%s", i, c.stream, n, log.String())
		}
	}
	equal(t, "kept", kept(t, nc), before...)
	files, err := q.JetStream().Stream(ctx, defaultNS.FilesStream())
	if err != nil || files.CachedInfo().Config.Metadata["hark.user-file-space"] != "1048576" {
		t.Errorf("files: %+v, %v", files.CachedInfo().Config, err)
	}
	if err := store(); err != nil {
		t.Error(err)
	}
	if r, err := q.OpenFile(ctx, job); err != nil {
		t.Error(err)
	} else if text, err := io.ReadAll(r); string(text) != "0123456789" {
		t.Errorf("%q, %v", text, err)
	}
}

// A watch ends with ErrReset when the log was created again meanwhile.
func TestWatchOfALostLog(t *testing.T) {
	q := newQueue(t)
	ctx := natstest.Context(t)
	seen, done := make(chan struct{}, 10), make(chan error, 1)
	go func() {
		done <- q.Watch(ctx, "ana", jobs.Position{}, func(joblog.Event) bool { seen <- struct{}{}; return true })
	}()
	for began := false; !began; { // it begins at the end of the log, whenever it has begun
		if _, _, err := q.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: "T"}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-seen:
			began = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := q.JetStream().DeleteStream(ctx, defaultNS.LogStream()); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case <-seen:
			continue
		case err := <-done:
			if !errors.Is(err, joblog.ErrReset) {
				t.Errorf("it ended with %v", err)
			}
		}
		break
	}
}

// A store that is closed creates nothing.
func TestClosedStoreCreatesNothing(t *testing.T) {
	nc := natstest.Connect(t)
	q, err := joblog.Open(natstest.Context(t), nc, joblog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := q.JetStream().DeleteStream(natstest.Context(t), defaultNS.LogStream()); err != nil {
		t.Fatal(err)
	}
	if err := q.Writable(natstest.Context(t)); err == nil {
		t.Error("the log is writable")
	}
	if _, err := q.JetStream().Stream(natstest.Context(t), defaultNS.LogStream()); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("there is a log: %v", err)
	}
}
