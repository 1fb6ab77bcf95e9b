package joblog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// How often each read is made: with one in three from the replica that lags, a wrong answer is certain. A file is read in
// three reads, and costs more.
const (
	tries     = 30
	fileTries = 8
)

// lagging returns two queues on a cluster of three servers one of which lags: a third of the direct gets know nothing of the
// last second. Both were opened while one server alone kept the stream.
func lagging(t *testing.T) (a, b *joblog.Store) {
	t.Helper()
	servers := natstest.BreakableCluster(t, 3)
	a, _ = open(t, servers.ConnectTo(t, 0), joblog.Settings{Replicas: 1})
	b, _ = open(t, servers.ConnectTo(t, 1), joblog.Settings{})
	if err := a.PublishKind(natstest.Context(t), jobs.Kind{Name: "k", Title: "K", MaxAttempts: 1, Open: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := joblog.Setup(natstest.Context(t), a.Conn(), joblog.Location{}, joblog.Settings{Replicas: 3}, false); err != nil {
		t.Fatal(err)
	}
	servers.Lead(0)
	servers.Lag(2, time.Second)
	return a, b
}

// What one process has stored, another one finds at once, whichever replica answers: nothing is not found, ended or gone on the
// word of a replica that lags.
func TestReadsFollowWrites(t *testing.T) {
	t.Parallel()
	a, b := lagging(t)
	ctx := natstest.Context(t)
	enqueueFor := func(t *testing.T, user, key string) jobs.Job {
		t.Helper()
		job, _, err := a.Enqueue(ctx, jobs.Request{User: user, Kind: "k", IdempotencyKey: key})
		if err != nil {
			t.Fatal(err)
		}
		return job
	}
	enqueue := func(t *testing.T, key string) jobs.Job { return enqueueFor(t, "ana", key) }
	enqueueFor(t, "other", "")
	counts := joblog.NewBacklogs(b)
	if _, err := counts.Count(ctx, "bob", "k", 1000); err != nil {
		t.Fatal(err)
	}
	failed := func(t *testing.T) jobs.Job {
		t.Helper()
		job := enqueue(t, "")
		job.State, job.Attempt = jobs.Running, 1
		seq, err := a.PutState(ctx, &job, 0)
		if err != nil {
			t.Fatal(err)
		}
		if job, err = a.Finish(ctx, job, jobs.Failed, seq); err != nil {
			t.Fatal(err)
		}
		return job
	}
	for _, test := range []struct {
		name string
		do   func(t *testing.T, i int) error
	}{
		{"count what waits", func(t *testing.T, i int) error { // first, before another read learns of the replicas
			enqueueFor(t, "bob", "")
			n, err := counts.Count(ctx, "bob", "k", 1000)
			if err == nil && n != i+1 {
				err = fmt.Errorf("%d of %d", n, i+1)
			}
			return err
		}},
		{"get", func(t *testing.T, _ int) error {
			_, err := b.Get(ctx, "ana", enqueue(t, "").ID)
			return err
		}},
		{"read", func(t *testing.T, _ int) error {
			_, err := b.Read(ctx, "ana", enqueue(t, "").ID)
			return err
		}},
		{"owner", func(t *testing.T, _ int) error {
			user, err := b.Owner(ctx, enqueue(t, "").ID)
			if err == nil && user != "ana" {
				err = fmt.Errorf("it is %q", user)
			}
			return err
		}},
		{"the same idempotency key", func(t *testing.T, i int) error {
			key := fmt.Sprint(i)
			first := enqueue(t, key)
			again, created, err := b.Enqueue(ctx, jobs.Request{User: "ana", Kind: "k", IdempotencyKey: key})
			if err == nil && (created || again.ID != first.ID) {
				err = fmt.Errorf("%s, then %s, created %t", first.ID, again.ID, created)
			}
			if err == nil {
				_, err = b.Find(ctx, "ana", key)
			}
			return err
		}},
		{"the same key of a notification", func(t *testing.T, i int) error {
			n := jobs.Notification{Key: fmt.Sprint(i), Type: "t", Title: "T"}
			first, _, err := a.Notify(ctx, "ana", n)
			if err != nil {
				return err
			}
			again, created, err := b.Notify(ctx, "ana", n)
			if err == nil && (created || again.ID != first.ID) {
				err = fmt.Errorf("%s, then %s, created %t", first.ID, again.ID, created)
			}
			return err
		}},
		{"wait for a new job", func(t *testing.T, _ int) error {
			job := enqueue(t, "")
			_, err := b.Wait(ctx, job, time.Millisecond)
			return err
		}},
		{"wait for a job that was retried", func(t *testing.T, _ int) error {
			job := failed(t)
			retried, err := a.Retry(ctx, "ana", job.ID, nil)
			if err != nil {
				return err
			}
			job, err = b.Wait(ctx, retried, time.Millisecond)
			if err == nil && job.Revision < retried.Revision {
				err = fmt.Errorf("it is %s of run %d", job.State, job.Run)
			}
			return err
		}},
		{"cancel", func(t *testing.T, _ int) error {
			_, err := b.Cancel(ctx, "ana", enqueue(t, "").ID)
			return err
		}},
		{"retry, then cancel", func(t *testing.T, _ int) error {
			job := failed(t)
			if _, err := b.Retry(ctx, "ana", job.ID, nil); err != nil {
				return err
			}
			_, err := a.Cancel(ctx, "ana", job.ID)
			return err
		}},
		{"list", func(t *testing.T, _ int) error {
			job := enqueueFor(t, "lena", "") // who has few
			page, err := b.List(ctx, "lena", jobs.ListOptions{Limit: 1})
			if err == nil && (len(page.Jobs) != 1 || page.Jobs[0].ID != job.ID) {
				err = errors.New("the newest job is missing")
			}
			return err
		}},
		{"kind", func(t *testing.T, i int) error {
			name := fmt.Sprintf("new-%d", i)
			if err := a.PublishKind(ctx, jobs.Kind{Name: name, Title: "N", MaxAttempts: 1}); err != nil {
				return err
			}
			_, err := b.Kind(ctx, name)
			return err
		}},
		{"file", func(t *testing.T, _ int) error {
			job := enqueue(t, "")
			content := bytes.Repeat([]byte("x"), 200<<10) // two chunks
			size, err := a.StoreFile(ctx, &job, bytes.NewReader(content))
			if err != nil {
				return err
			}
			job.File = &jobs.File{Size: size, ExpiresAt: time.Now().Add(time.Hour)}
			f, err := b.OpenFile(ctx, &job)
			if err != nil {
				return err
			}
			defer f.Close()
			got, err := io.ReadAll(f)
			if err == nil && !bytes.Equal(got, content) {
				err = fmt.Errorf("%d bytes of %d", len(got), len(content))
			}
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wrong, of := 0, tries
			if test.name == "file" {
				of = fileTries
			}
			var last error
			for i := range of {
				if err := test.do(t, i); err != nil {
					wrong, last = wrong+1, err
				}
			}
			if wrong > 0 {
				t.Errorf("%d of %d wrong, the last: %v", wrong, of, last)
			}
		})
	}
}

// Where the log ends is not answered by a replica that is cut off from the leader: it has missed what was stored since.
func TestBoundsAreTheLeaders(t *testing.T) {
	t.Parallel()
	servers := natstest.BreakableCluster(t, 3)
	a, _ := open(t, servers.ConnectTo(t, 0), joblog.Settings{Replicas: 3})
	b, _ := open(t, servers.ConnectTo(t, 2), joblog.Settings{})
	servers.Lead(0)
	servers.Cut(2)
	ctx := natstest.Context(t)
	if _, _, err := a.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: "T"}); err != nil {
		t.Fatal(err)
	}
	_, stored, err := a.Bounds(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the server that is cut off answers without a leader", func() bool {
		short, cancel := context.WithTimeout(ctx, time.Second) // at first nobody answers
		defer cancel()
		info, err := b.JetStream().Stream(short, "hark_log")
		return err == nil && info.CachedInfo().Cluster.Leader == ""
	})
	if _, last, err := b.Bounds(ctx, 0); err == nil {
		t.Errorf("it says that the log ends at %d, which ends at %d", last, stored)
	}
	servers.Heal(2)
	polltest.Until(t, "the log ends at what was stored", func() bool {
		_, last, err := b.Bounds(ctx, 0)
		return err == nil && last == stored
	})
}

// A leader that is cut off takes itself for the leader for ten seconds. The others elect another one sooner, and what they store
// it does not know: then it does not count as the leader any more.
func TestBoundsOfAFormerLeader(t *testing.T) {
	t.Parallel()
	servers := natstest.BreakableCluster(t, 3)
	a, _ := open(t, servers.ConnectTo(t, 0), joblog.Settings{Replicas: 3})
	b, _ := open(t, servers.ConnectTo(t, 2), joblog.Settings{})
	servers.Lead(0)
	servers.Cut(0)
	ctx := natstest.Context(t)
	polltest.Nil(t, "another server leads", func() error {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, _, err := b.Notify(short, "ana", jobs.Notification{Type: "t", Title: "T"})
		return err
	})
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond) // without an end it waits for a leader
	defer cancel()
	if _, last, err := a.Bounds(short, 0); err == nil {
		t.Errorf("it says that the log ends at %d", last)
	}
}

// A job that was stored while a leader was cut off is not answered as not found by that leader, which takes itself for the leader for
// ten seconds.
func TestNotFoundOfAFormerLeader(t *testing.T) {
	t.Parallel()
	servers := natstest.BreakableCluster(t, 3)
	ctx := natstest.Context(t)
	a, _ := open(t, servers.ConnectTo(t, 0), joblog.Settings{Replicas: 3})
	b, _ := open(t, servers.ConnectTo(t, 1), joblog.Settings{})
	if err := b.PublishKind(ctx, jobs.Kind{Name: "k", Title: "K", MaxAttempts: 1, Open: true}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Enqueue(ctx, jobs.Request{User: "ana", Kind: "k"}); err != nil {
		t.Fatal(err)
	}
	servers.Lead(0)
	servers.Cut(0)
	var job jobs.Job
	polltest.Nil(t, "the other servers store a job", func() (err error) {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		job, _, err = b.Enqueue(short, jobs.Request{User: "ana", Kind: "k", IdempotencyKey: "one"})
		return err
	})
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := a.Get(short, "ana", job.ID); err == nil || errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("Get: %v", err)
	}
	if user, err := a.Owner(short, job.ID); err == nil || errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("Owner: %q, %v", user, err)
	}
	servers.Heal(0)
	polltest.Nil(t, "the job is found, and one that never was is not", func() error {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if _, err := a.Get(short, "ana", job.ID); err != nil {
			return err
		}
		if _, err := a.Get(short, "ana", "01JD3Q00000000000000000002"); !errors.Is(err, jobs.ErrNotFound) {
			return fmt.Errorf("a job that never was: %w", err)
		}
		return nil
	})
}
