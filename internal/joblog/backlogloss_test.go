package joblog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// backlogs is a queue with the kind k, and the backlogs of its users.
type backlogs struct {
	*joblog.Backlogs
	t   *testing.T
	q   *joblog.Store
	log jetstream.Stream
}

// openBacklogs returns them with ana known, who has nothing waiting.
func openBacklogs(t *testing.T) backlogs {
	t.Helper()
	q, _ := open(t, natstest.Connect(t), joblog.Settings{})
	b := backlogs{joblog.NewBacklogs(q), t, q, nil}
	b.bind()
	b.want("ana", 1000, 0)
	return b
}

func (b *backlogs) bind() {
	b.t.Helper()
	err := b.q.PublishKind(natstest.Context(b.t), jobs.Kind{Name: "k", MaxAttempts: 3})
	if err == nil {
		b.log, err = b.q.JetStream().Stream(natstest.Context(b.t), defaultNS.LogStream())
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *backlogs) enqueue(user string, n int) (last jobs.Job) {
	b.t.Helper()
	for range n {
		last = enqueue(b.t, b.q, jobs.Request{User: user})
	}
	return last
}

func (b *backlogs) want(user string, limit, n int) {
	b.t.Helper()
	if got, err := b.Count(natstest.Context(b.t), user, "k", limit); err != nil || got != n {
		b.t.Errorf("%s has %d waiting with the limit %d, %v; want %d", user, got, limit, err, n)
	}
}

// until counts again for as long as a comparison with the log may be old.
func (b *backlogs) until(user string, limit, n int) {
	b.t.Helper()
	polltest.Nil(b.t, "the count is right", func() error {
		got, err := b.Count(natstest.Context(b.t), user, "k", limit)
		if err != nil {
			b.t.Fatal(err)
		}
		if got != n {
			return fmt.Errorf("%s has %d waiting, not %d", user, got, n)
		}
		return nil
	})
}

// Jobs that have expired before a worker took them do not keep their user from new ones.
func TestBacklogsForgetWhatExpired(t *testing.T) {
	t.Parallel()
	b := openBacklogs(t)
	b.enqueue("ana", 3)
	b.want("ana", 3, 3)
	config := b.log.CachedInfo().Config
	config.MaxAge, config.Duplicates = time.Second, time.Second
	if _, err := b.q.JetStream().UpdateStream(natstest.Context(t), config); err != nil {
		t.Fatal(err)
	}
	b.until("ana", 1, 0) // below the limit nothing is compared with the log
}

// A job that was purged from the log, or whose end was, waits no more, and all others do, more than are read at a time.
func TestBacklogsForgetWhatWasPurged(t *testing.T) {
	t.Parallel()
	b := openBacklogs(t)
	purged := b.enqueue("ana", 1)
	b.enqueue("ana", 600)
	retrying := b.enqueue("ana", 1)
	retrying.State, retrying.Attempt = jobs.Retrying, 1
	if _, err := b.q.PutState(natstest.Context(t), &retrying, 0); err != nil {
		t.Fatal(err)
	}
	b.want("ana", 1000, 602)
	if err := b.log.Purge(natstest.Context(t), jetstream.WithPurgeSubject(defaultNS.SpecSubject("ana", "k", purged.ID))); err != nil {
		t.Fatal(err)
	}
	b.want("ana", 601, 601)
	b.enqueue("ana", 1)
	b.want("ana", 601, 602)
}

// Jobs of a log that is not there any more do not count in the one that is, whichever process finds that out, and new ones do.
func TestBacklogsForgetWithTheEpoch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		learn func(*backlogs)
		limit int // with which it is noticed
	}{
		"begun by this process":   {func(b *backlogs) { mustEpoch(b.q.BeginEpoch(natstest.Context(b.t), 0))(b.t) }, 1000},
		"begun by another":        {func(b *backlogs) { b.recreate(); mustEpoch(b.q.CurrentEpoch(natstest.Context(b.t)))(b.t) }, 1000},
		"not noticed by this one": {func(b *backlogs) { b.recreate() }, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := openBacklogs(t)
			b.enqueue("ana", 4)
			b.want("ana", 1000, 4)
			c.learn(&b)
			b.want("ana", c.limit, 0)
			b.enqueue("ana", 3)
			b.want("ana", 1000, 3)
			b.want("ana", 3, 3)
		})
	}
}

// A log that has gone back, before anybody has noticed, has lost the jobs that waited.
func TestBacklogsForgetWhatALogHasLost(t *testing.T) {
	t.Parallel()
	b := openBacklogs(t)
	b.enqueue("ana", 4)
	b.want("ana", 1000, 4)
	// The same epoch, in another log.
	epoch := b.q.Epoch()
	b.recreate("hark.epoch", fmt.Sprint(epoch+1_000_000))
	mustEpoch(b.q.CurrentEpoch(natstest.Context(t)))(t)
	b.want("ana", 4, 0)
	b.enqueue("ana", 4)
	b.want("ana", 1000, 4)
	b.recreate("hark.epoch", fmt.Sprint(epoch+1_000_000))
	b.want("ana", 4, 0)
	b.enqueue("ana", 1)
	b.want("ana", 1, 1)
}

// recreate deletes the log, and creates it again, with this in its metadata.
func (b *backlogs) recreate(metadata ...string) {
	b.t.Helper()
	config := b.log.CachedInfo().Config
	for i := 0; i+1 < len(metadata); i += 2 {
		config.Metadata[metadata[i]] = metadata[i+1]
	}
	for last := uint64(1); last > 0; { // the server may find the files of the deleted one, which it removes meanwhile
		err := b.q.JetStream().DeleteStream(natstest.Context(b.t), defaultNS.LogStream())
		if err == nil {
			var log jetstream.Stream
			if log, err = b.q.JetStream().CreateStream(natstest.Context(b.t), config); err == nil {
				last = log.CachedInfo().State.LastSeq
			}
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	b.bind()
}

func mustEpoch(_ jobs.Epoch, err error) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What is remembered is bounded, users and jobs. Those who were asked about last are remembered.
func TestBacklogsAreBounded(t *testing.T) {
	t.Parallel()
	b := openBacklogs(t)
	b.Limit(10, 20)
	remembered := func(users, jobs int) {
		t.Helper()
		if u, j := b.Remembered(); u != users || j != jobs {
			t.Errorf("%d users and %d jobs are remembered; want %d and %d", u, j, users, jobs)
		}
	}
	for i := range 30 { // each has one job waiting
		user := fmt.Sprint("user", i)
		b.want(user, 1000, 0)
		b.enqueue(user, 1)
		b.want(user, 1000, 1)
		b.want("ana", 1000, 0)
	}
	remembered(10, 9)
	b.enqueue("ana", 15)
	b.want("ana", 1000, 15)
	remembered(6, 20)
	b.enqueue("ana", 10)
	b.want("ana", 1000, 25) // the one that is asked about is never forgotten
	remembered(1, 25)
	b.want("user29", 1000, 0)
	remembered(1, 0)
}
