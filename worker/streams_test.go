package worker_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// fourUsers live in the four streams of a log of four.
var fourUsers = []string{"ana", "bob", "a@b.c", "user-1"}

// ended waits until the jobs of users have succeeded and each user has as many notifications.
func (b *bench) ended(all map[string][]jobs.Job) {
	b.Helper()
	for user, some := range all {
		for _, job := range some {
			polltest.Nil(b, "the job of "+user+" succeeds", func() error {
				now, err := b.queue.Get(natstest.Context(b), user, job.ID)
				if err == nil && now.State != jobs.Succeeded {
					err = fmt.Errorf("it is %s", now.State)
				}
				return err
			})
		}
		polltest.Nil(b, "the notifications of "+user, func() error {
			page, _, err := b.queue.NotificationsPage(natstest.Context(b), user, 0, 1000)
			if err == nil && len(page) != len(some) {
				err = fmt.Errorf("%d, want %d", len(page), len(some))
			}
			return err
		})
	}
}

// counter counts the jobs that run, and each job's runs.
type counter struct {
	mu            sync.Mutex
	running, most int
	runs          map[string]int
}

func (c *counter) handler(concurrency int, do func()) worker.Handler {
	c.runs = make(map[string]int)
	return worker.Handle(jobs.Define[none](jobs.Kind{Name: "count"}), func(_ context.Context, job *worker.Job, _ none) (jobs.Result, error) {
		c.mu.Lock()
		c.running++
		c.most = max(c.most, c.running)
		c.runs[job.ID]++
		c.mu.Unlock()
		do()
		c.mu.Lock()
		c.running--
		c.mu.Unlock()
		return jobs.Result{}, nil
	}, worker.Concurrency(concurrency), worker.PerUser(concurrency))
}

// A worker runs the jobs of all streams, each once, and never more at a time than it may.
func TestJobsOfSeveralStreams(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 3, 8} {
		t.Run(fmt.Sprint(concurrency), func(t *testing.T) {
			b := newBenchWith(t, joblog.Options{Settings: joblog.Settings{Streams: 4}})
			var c counter
			b.start(worker.Options{Handlers: []worker.Handler{c.handler(concurrency, func() {})}})
			all := make(map[string][]jobs.Job)
			for i, user := range fourUsers { // to an idle worker, and to one that is busy with another stream
				all[user] = append(all[user], b.enqueue(jobs.Request{Kind: "count", User: user}))
				if i%2 == 0 {
					b.ended(all)
				}
			}
			for i := range 80 {
				user := fourUsers[i*i%7%len(fourUsers)]
				all[user] = append(all[user], b.enqueue(jobs.Request{Kind: "count", User: user}))
			}
			b.ended(all)
			for id, n := range c.runs {
				if n != 1 {
					t.Errorf("%s ran %d times", id, n)
				}
			}
			if c.most > concurrency {
				t.Errorf("%d at a time, and %d may run", c.most, concurrency)
			}
		})
	}
}

// waiting waits until want requests for jobs are at the consumer of a stream.
func (b *bench) waiting(stream string, want int) {
	b.Helper()
	polltest.Nil(b, "requests at "+stream, func() error {
		consumer, err := b.queue.JetStream().Consumer(natstest.Context(b), stream, defaultNS.WorkerConsumer("count"))
		if err == nil && consumer.CachedInfo().NumWaiting != want {
			err = fmt.Errorf("%d, want %d", consumer.CachedInfo().NumWaiting, want)
		}
		return err
	})
}

// The jobs of one stream get all places of a worker. A job of another stream does not wait until they are done, although a third stream
// has many jobs, too.
func TestStreamsTakeTurns(t *testing.T) {
	b := newBenchWith(t, joblog.Options{Settings: joblog.Settings{Streams: 4}})
	hold, began := make(chan struct{}), make(chan struct{}, 100)
	var c counter
	b.start(worker.Options{Handlers: []worker.Handler{c.handler(4, func() { began <- struct{}{}; <-hold })}})
	streams := defaultNS.LogStreams(4) // in the order of fourUsers
	for _, stream := range streams {
		b.waiting(stream, 1)
	}
	all := make(map[string][]jobs.Job)
	enqueue := func(user string, n int) {
		for range n {
			all[user] = append(all[user], b.enqueue(jobs.Request{Kind: "count", User: user}))
		}
	}
	enqueue(fourUsers[0], 20)
	for range 4 {
		<-began
	}
	enqueue(fourUsers[1], 1)
	b.waiting(streams[1], 0) // the worker has no place for it, hands it back, and asks this stream next
	enqueue(fourUsers[2], 20)
	b.waiting(streams[2], 0) // now that one
	for range 9 {            // two more rounds of four, and one
		hold <- struct{}{}
	}
	polltest.Nil(b, "the job of the second stream has its turn", func() error {
		job, err := b.queue.Get(natstest.Context(b), fourUsers[1], all[fourUsers[1]][0].ID)
		if err == nil && job.State == jobs.Queued {
			err = fmt.Errorf("it is %s", job.State)
		}
		return err
	})
	close(hold)
	b.ended(all)
}

// An idle worker waits at all streams. When each has a job at the same moment, it still runs no more than it may, and hands the others
// back until it has a place.
func TestIdleWorkerAtSeveralStreams(t *testing.T) {
	b := newBenchWith(t, joblog.Options{Settings: joblog.Settings{Streams: 4}})
	hold := make(chan struct{})
	var c counter
	b.start(worker.Options{Handlers: []worker.Handler{c.handler(1, func() { <-hold })}})
	waiting := func(want int) {
		t.Helper()
		for _, name := range defaultNS.LogStreams(4) {
			b.waiting(name, want)
		}
	}
	waiting(1)
	all := make(map[string][]jobs.Job)
	for _, user := range fourUsers {
		all[user] = append(all[user], b.enqueue(jobs.Request{Kind: "count", User: user}))
	}
	waiting(0)
	for range 100 { // a job that was taken would have begun by the end of this
		if err := b.queue.Writable(natstest.Context(t)); err != nil {
			t.Fatal(err)
		}
	}
	for range fourUsers {
		hold <- struct{}{}
	}
	b.ended(all)
	if c.most != 1 {
		t.Errorf("%d at a time, and one may run", c.most)
	}
}

// While the consumer of one stream is gone, and then the stream, the jobs of the others run, and those of the stream once it is
// there again.
func TestOneStreamIsLost(t *testing.T) {
	b := newBenchWith(t, joblog.Options{Settings: joblog.Settings{Streams: 4}})
	var c counter
	b.start(worker.Options{Handlers: []worker.Handler{c.handler(2, func() {})}})
	first := b.enqueue(jobs.Request{Kind: "count", User: "bob"})
	b.ended(map[string][]jobs.Job{"bob": {first}})
	ctx := natstest.Context(t)
	if err := b.queue.JetStream().DeleteConsumer(ctx, "hark_log_16", defaultNS.WorkerConsumer("count")); err != nil {
		t.Fatal(err)
	}
	all := map[string][]jobs.Job{"user-1": {b.enqueue(jobs.Request{Kind: "count", User: "user-1"})}}
	b.ended(all)
	b.ended(map[string][]jobs.Job{"bob": {first, b.enqueue(jobs.Request{Kind: "count", User: "bob"})}})
	// The new consumer delivers the first job again. A worker that holds this delivery when the stream is lost would run the job: the
	// new stream does not know that it has ended.
	b.acked("hark_log_16", "count")
	if err := b.queue.JetStream().DeleteStream(ctx, "hark_log_16"); err != nil {
		t.Fatal(err)
	}
	all["ana"] = append(all["ana"], b.enqueue(jobs.Request{Kind: "count", User: "ana"}))
	b.ended(all)
	b.ended(map[string][]jobs.Job{"bob": {b.enqueue(jobs.Request{Kind: "count", User: "bob"})}})
}

// A worker that runs goes on when the number of streams is changed.
func TestWorkerNoticesStreams(t *testing.T) {
	b := newBench(t)
	var c counter
	var ran atomic.Int32
	b.start(worker.Options{Handlers: []worker.Handler{c.handler(2, func() { ran.Add(1) })}})
	for _, n := range []int{4, 2} {
		if _, err := joblog.Setup(natstest.Context(t), b.queue.Conn(), joblog.Location{}, joblog.Settings{Streams: n}, false); err != nil {
			t.Fatal(err)
		}
		polltest.Until(t, "the store notices", func() bool { // as a health check does
			return b.queue.Writable(natstest.Context(t)) == nil && b.queue.Streams() == n
		})
	}
	all := make(map[string][]jobs.Job)
	for _, user := range fourUsers {
		all[user] = append(all[user], b.enqueue(jobs.Request{Kind: "count", User: user}))
	}
	b.ended(all)
}
