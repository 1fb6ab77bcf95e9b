package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
	"github.com/nats-io/nats.go"
)

const defaultNS = joblog.DefaultNamespace

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// bench is a queue with a worker that the test can stop.
type bench struct {
	*testing.T
	queue *joblog.Store
}

func newBench(t *testing.T) *bench { return newBenchWith(t, joblog.Options{}) }

func newBenchWith(t *testing.T, config joblog.Options) *bench {
	return newBenchOn(t, natstest.Connect(t), config)
}

func newBenchOn(t *testing.T, nc *nats.Conn, config joblog.Options) *bench {
	t.Parallel()
	q, err := joblog.Open(natstest.Context(t), nc, config)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t, q}
}

// start runs a worker until stop is called or the test ends.
func (b *bench) start(o worker.Options) (stop func()) {
	b.Helper()
	o.Queue = queue.New(b.queue)
	w, err := worker.New(o)
	if err != nil {
		b.Fatal(err)
	}
	if err := w.PublishKinds(natstest.Context(b)); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}
	b.Cleanup(stop)
	return stop
}

func (b *bench) enqueue(r jobs.Request) jobs.Job {
	b.Helper()
	if r.User == "" {
		r.User = "ana"
	}
	job, _, err := b.queue.Enqueue(natstest.Context(b), r)
	if err != nil {
		b.Fatal(err)
	}
	return job
}

// await polls the job until ok says so.
func (b *bench) await(id string, ok func(jobs.Job) bool) (job jobs.Job) {
	b.Helper()
	polltest.Nil(b, "the job changes", func() (err error) {
		if job, err = b.queue.Get(natstest.Context(b), "ana", id); err != nil {
			b.Fatal(err)
		}
		if !ok(job) {
			return fmt.Errorf("it is still %+v", job)
		}
		return nil
	})
	return job
}

func in(state jobs.State) func(jobs.Job) bool {
	return func(j jobs.Job) bool { return j.State == state }
}

func (b *bench) notes() (all []jobs.Notification) {
	b.Helper()
	for after, more := uint64(0), true; more; {
		var page []joblog.StoredNotification
		var err error
		if page, more, err = b.queue.NotificationsPage(natstest.Context(b), "ana", after, 1000); err != nil {
			b.Fatal(err)
		}
		for _, n := range page {
			var note jobs.Notification
			if err := json.Unmarshal(n.Data, &note); err != nil {
				b.Fatal(err)
			}
			all, after = append(all, note), n.Seq
		}
	}
	return all
}

// told waits until there is exactly one notification and it is of this type.
func (b *bench) told(kind string) {
	b.Helper()
	var notes []jobs.Notification
	polltest.Until(b, "a notification", func() bool { notes = b.notes(); return len(notes) > 0 })
	if len(notes) != 1 || notes[0].Type != kind {
		b.Errorf("told %+v, want one %s", notes, kind)
	}
}

type none struct{}

func TestSucceed(t *testing.T) {
	b := newBench(t)
	type params struct {
		Pages int  `json:"pages"`
		Draft bool `json:"draft,omitempty"`
	}
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[params](jobs.Kind{Name: "report", Title: "Report"}),
		func(ctx context.Context, job *worker.Job, p params) (jobs.Result, error) {
			job.Progress(int64(p.Pages), int64(p.Pages), "writing")
			err := job.WriteFile(ctx, "report.txt", "text/plain", func(w io.Writer) error {
				_, err := io.WriteString(w, "hello")
				return err
			})
			return jobs.Result{Value: map[string]int{"pages": p.Pages}, Summary: "7 pages"}, err
		})}})
	for _, bad := range []string{`{}`, `{"pages":"7"}`, `{"pages":7,"other":1}`} {
		var invalid *jobs.InvalidError
		if _, _, err := b.queue.Enqueue(natstest.Context(t), jobs.Request{User: "ana", Kind: "report", Params: json.RawMessage(bad)}); !errors.As(err, &invalid) {
			t.Errorf("params %s: %v", bad, err)
		}
	}
	job := b.await(b.enqueue(jobs.Request{Kind: "report", Params: json.RawMessage(`{"pages":7}`)}).ID, in(jobs.Succeeded))
	if job.Attempt != 1 || string(job.Result) != `{"pages":7}` || job.Progress != (jobs.Progress{Done: 7, Total: 7, Message: "7 pages"}) ||
		job.File == nil || job.File.Size != 5 || job.File.ExpiresAt.Before(job.FinishedAt.Add(time.Hour)) || job.StartedAt.IsZero() {
		t.Errorf("%+v", job)
	}
	f, err := b.queue.OpenFile(natstest.Context(t), &job)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if text, err := io.ReadAll(f); err != nil || string(text) != "hello" {
		t.Errorf("file %q, %v", text, err)
	}
	if _, err := f.Seek(2, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(f); err != nil || string(text) != "llo" {
		t.Errorf("file from 2: %q, %v", text, err)
	}
	b.told("job.succeeded")
}

func quick(int) time.Duration { return 10 * time.Millisecond }

func TestRetryUntilItFails(t *testing.T) {
	b := newBench(t)
	var runs atomic.Int32
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "flaky"}),
		func(ctx context.Context, job *worker.Job, _ none) (jobs.Result, error) {
			if runs.Add(1) == 2 {
				panic("second attempt")
			}
			return jobs.Result{}, &worker.Error{Code: "db_down", Message: "The database is down.", Err: errors.New("secret")}
		}, worker.Backoff(quick))}})
	job := b.await(b.enqueue(jobs.Request{Kind: "flaky", MaxAttempts: 3}).ID, in(jobs.Failed))
	if runs.Load() != 3 || job.Attempt != 3 || *job.Error != (jobs.Error{Code: "db_down", Message: "The database is down."}) {
		t.Errorf("%d runs, %+v %+v", runs.Load(), job, job.Error)
	}
	b.told("job.failed")
	if _, err := b.queue.Retry(natstest.Context(t), "ana", job.ID, nil); err != nil {
		t.Fatal(err)
	}
	job = b.await(job.ID, func(j jobs.Job) bool { return j.State == jobs.Failed && j.Run == 2 })
	if runs.Load() != 6 || job.Attempt != 3 {
		t.Errorf("after retry: %d runs, %+v", runs.Load(), job)
	}
}

func TestHandlerOutcomes(t *testing.T) {
	b := newBench(t)
	var snoozed atomic.Bool
	handlers := []worker.Handler{
		worker.Handle(jobs.Define[none](jobs.Kind{Name: "gives-up"}), func(context.Context, *worker.Job, none) (jobs.Result, error) {
			return jobs.Result{}, worker.Cancel(&worker.Error{Code: "gone", Message: "The customer is gone."})
		}),
		worker.Handle(jobs.Define[none](jobs.Kind{Name: "snoozes"}), func(context.Context, *worker.Job, none) (jobs.Result, error) {
			if snoozed.CompareAndSwap(false, true) {
				return jobs.Result{}, worker.Snooze(20 * time.Millisecond)
			}
			return jobs.Result{}, nil
		}),
		worker.Handle(jobs.Define[none](jobs.Kind{Name: "slow", MaxAttempts: 1}), func(ctx context.Context, _ *worker.Job, _ none) (jobs.Result, error) {
			<-ctx.Done()
			return jobs.Result{}, ctx.Err()
		}, worker.Timeout(20*time.Millisecond)),
	}
	b.start(worker.Options{Handlers: handlers})
	if job := b.await(b.enqueue(jobs.Request{Kind: "gives-up"}).ID, in(jobs.Cancelled)); job.Error.Code != "gone" {
		t.Errorf("%+v", job.Error)
	}
	if job := b.await(b.enqueue(jobs.Request{Kind: "snoozes", MaxAttempts: 1}).ID, in(jobs.Succeeded)); job.Attempt != 1 {
		t.Errorf("a snooze counted: %+v", job)
	}
	if job := b.await(b.enqueue(jobs.Request{Kind: "slow"}).ID, in(jobs.Failed)); job.Error.Code != "timeout" {
		t.Errorf("%+v", job.Error)
	}
}

// TestHandlerGetsWhatWasChecked holds that a handler's struct is filled by exact names alone, at any depth, and that of two
// equal names neither is taken, also where another program has stored the job.
func TestHandlerGetsWhatWasChecked(t *testing.T) {
	b := newBench(t)
	type params struct {
		Filter struct {
			User string `json:"user"`
		} `json:"filter"`
	}
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[params](jobs.Kind{Name: "report"}), func(_ context.Context, _ *worker.Job, p params) (jobs.Result, error) {
		return jobs.Result{Value: p.Filter.User}, nil
	})}})
	store := func(raw string) string { // as the log has it
		job := b.enqueue(jobs.Request{Kind: "report", Params: json.RawMessage(`{"filter":{}}`)})
		spec := joblog.Spec{ID: job.ID[:10] + "0000" + job.ID[14:], Kind: "report", Title: "x", User: "ana", Params: json.RawMessage(raw),
			MaxAttempts: 3, CreatedAt: job.CreatedAt, Run: 1}
		text, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.queue.Conn().Request(defaultNS.SpecSubject("ana", "report", spec.ID), text, time.Minute); err != nil {
			t.Fatal(err)
		}
		return spec.ID
	}
	if job := b.await(b.enqueue(jobs.Request{Kind: "report", Params: json.RawMessage(`{"filter":{"user":"ana","more":1}}`)}).ID, in(jobs.Succeeded)); string(job.Result) != `"ana"` {
		t.Errorf("result %s", job.Result)
	}
	for name, id := range map[string]string{
		"USER":           b.enqueue(jobs.Request{Kind: "report", Params: json.RawMessage(`{"filter":{"USER":"bob"}}`)}).ID,
		"user and USER":  b.enqueue(jobs.Request{Kind: "report", Params: json.RawMessage(`{"filter":{"user":"ana","USER":"bob"}}`)}).ID,
		"stored FILTER":  store(`{"FILTER":{"user":"bob"}}`),
		"stored twice":   store(`{"filter":{"user":"ana","user":"bob"}}`),
		"stored twice 2": store(`{"filter":{"user":"ana"},"filter":{"user":"bob"}}`),
	} {
		if job := b.await(id, func(j jobs.Job) bool { return j.State.Terminal() }); job.State != jobs.Failed || job.Error.Code != "params_invalid" || job.Attempt != 1 {
			t.Errorf("%s: %+v, %+v", name, job, job.Error)
		}
	}
}

func TestCancelRunning(t *testing.T) {
	b := newBench(t)
	cause := make(chan error, 1)
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "long"}),
		func(ctx context.Context, _ *worker.Job, _ none) (jobs.Result, error) {
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return jobs.Result{}, ctx.Err()
		})}})
	id := b.enqueue(jobs.Request{Kind: "long"}).ID
	b.await(id, in(jobs.Running))
	job, err := b.queue.Cancel(natstest.Context(t), "ana", id)
	if err != nil || job.State != jobs.Running || !job.CancelRequested {
		t.Fatalf("%+v %v", job, err)
	}
	if err := <-cause; !errors.Is(err, worker.ErrCancelled) {
		t.Errorf("cause %v", err)
	}
	b.await(id, in(jobs.Cancelled))
	b.told("job.cancelled")
}

// A cancel reaches its handler also when nothing is published live.
func TestCancelUnheard(t *testing.T) {
	b := newBench(t)
	js := b.queue.JetStream()
	stream, err := js.Stream(natstest.Context(t), defaultNS.LogStream())
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.RePublish = nil
	if _, err := js.UpdateStream(natstest.Context(t), config); err != nil {
		t.Fatal(err)
	}
	cause := make(chan error, 1)
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "long"}),
		func(ctx context.Context, _ *worker.Job, _ none) (jobs.Result, error) {
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return jobs.Result{}, ctx.Err()
		})}})
	id := b.enqueue(jobs.Request{Kind: "long"}).ID
	b.await(id, in(jobs.Running))
	if _, err := b.queue.Cancel(natstest.Context(t), "ana", id); err != nil {
		t.Fatal(err)
	}
	if err := <-cause; !errors.Is(err, worker.ErrCancelled) {
		t.Errorf("cause %v", err)
	}
	b.await(id, in(jobs.Cancelled))
}

// A queued job that is cancelled never starts, and its user is notified once, though the worker finds it later.
func TestCancelQueued(t *testing.T) {
	b := newBench(t)
	var ran sync.Map // by job id
	handler := worker.Handle(jobs.Define[none](jobs.Kind{Name: "quick"}), func(_ context.Context, job *worker.Job, _ none) (jobs.Result, error) {
		ran.Store(job.ID, true)
		return jobs.Result{}, nil
	})
	b.start(worker.Options{Handlers: []worker.Handler{handler}})() // makes the kind known, and stops
	id := b.enqueue(jobs.Request{Kind: "quick"}).ID
	if job, err := b.queue.Cancel(natstest.Context(t), "ana", id); err != nil || job.State != jobs.Cancelled {
		t.Fatalf("%+v %v", job, err)
	}
	b.start(worker.Options{Handlers: []worker.Handler{handler}})
	b.await(b.enqueue(jobs.Request{Kind: "quick", User: "ana"}).ID, in(jobs.Succeeded))
	// A state is stored before its notification.
	var notes []jobs.Notification
	polltest.Until(t, "a notification for each end", func() bool { notes = b.notes(); return len(notes) >= 2 })
	if len(notes) != 2 {
		t.Errorf("told %+v", notes)
	}
	if job := b.await(id, in(jobs.Cancelled)); job.Attempt != 0 {
		t.Errorf("%+v", job)
	}
	if _, ok := ran.Load(id); ok {
		t.Error("the cancelled job ran")
	}
}

// A job whose worker has gone silent is taken over, and what the old worker does counts no more.
func TestTakeOver(t *testing.T) {
	b := newBenchWith(t, joblog.Options{Settings: joblog.Settings{Lease: time.Second}})
	handler := worker.Handle(jobs.Define[none](jobs.Kind{Name: "take"}), func(context.Context, *worker.Job, none) (jobs.Result, error) {
		return jobs.Result{Value: "second"}, nil
	})
	b.start(worker.Options{Handlers: []worker.Handler{handler}})() // makes kind and consumer
	job := b.enqueue(jobs.Request{Kind: "take"})
	zombie := job
	zombie.State, zombie.Attempt, zombie.Worker = jobs.Running, 1, "zombie"
	seq, err := b.queue.PutState(natstest.Context(t), &zombie, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.start(worker.Options{Handlers: []worker.Handler{handler}})
	done := b.await(job.ID, in(jobs.Succeeded))
	if done.Lost != 1 || done.Attempt != 1 || string(done.Result) != `"second"` {
		t.Errorf("%+v", done)
	}
	if _, err := b.queue.Finish(natstest.Context(t), zombie, jobs.Failed, seq); !errors.Is(err, joblog.ErrConflict) {
		t.Errorf("the old worker wrote: %v", err)
	}
	b.told("job.succeeded")
}

// A worker that cannot prove its lease any more stops its handler.
func TestLeaseLost(t *testing.T) {
	b := newBench(t)
	cause := make(chan error, 1)
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "long"}),
		func(ctx context.Context, _ *worker.Job, _ none) (jobs.Result, error) {
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return jobs.Result{}, nil
		}, worker.Concurrency(1))}})
	id := b.enqueue(jobs.Request{Kind: "long"}).ID
	b.await(id, in(jobs.Running))
	s, err := b.queue.Read(natstest.Context(t), "ana", id)
	if err != nil {
		t.Fatal(err)
	}
	s.Job.Worker = "another"
	if _, err := b.queue.PutState(natstest.Context(t), &s.Job, s.StateSeq); err != nil {
		t.Fatal(err)
	}
	if err := <-cause; !errors.Is(err, worker.ErrLeaseLost) {
		t.Errorf("cause %v", err)
	}
	if job := b.await(id, in(jobs.Running)); job.Worker != "another" {
		t.Errorf("%+v", job)
	}
}

// Stopping hands running jobs back without using up their attempt.
func TestStopHandsBack(t *testing.T) {
	b := newBench(t)
	var runs atomic.Int32
	handler := worker.Handle(jobs.Define[none](jobs.Kind{Name: "long", MaxAttempts: 1}), func(ctx context.Context, _ *worker.Job, _ none) (jobs.Result, error) {
		if runs.Add(1) > 1 {
			return jobs.Result{}, nil
		}
		<-ctx.Done()
		return jobs.Result{}, context.Cause(ctx)
	})
	stop := b.start(worker.Options{Handlers: []worker.Handler{handler}, Grace: 5 * time.Second})
	id := b.enqueue(jobs.Request{Kind: "long"}).ID
	b.await(id, in(jobs.Running))
	stop()
	if job := b.await(id, in(jobs.Queued)); job.Attempt != 0 {
		t.Errorf("%+v", job)
	}
	b.start(worker.Options{Handlers: []worker.Handler{handler}})
	if job := b.await(id, in(jobs.Succeeded)); job.Attempt != 1 {
		t.Errorf("%+v", job)
	}
}

// A job that is on its way to a worker when that stops goes to another worker at once, not after the lease.
func TestStopWhileAJobIsOnItsWay(t *testing.T) {
	for name, streams := range map[string]int{"one stream": 1, "four streams": 4} {
		t.Run(name, func(t *testing.T) {
			server, err := natsd.Start(natsd.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Stop)
			connect := func(addr string) *nats.Conn {
				nc, err := nats.Connect("nats://"+addr, nats.Timeout(time.Minute))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(nc.Close)
				return nc
			}
			addr := strings.TrimPrefix(server.URL(), "nats://")
			relay := natstest.NewRelay(t, addr)
			b := newBenchOn(t, connect(addr), joblog.Options{Settings: joblog.Settings{Lease: time.Hour, Streams: streams}})
			nc := connect(relay.Addr())
			far, err := joblog.Open(natstest.Context(t), nc, joblog.Options{})
			if err != nil {
				t.Fatal(err)
			}
			handler := worker.Handle(jobs.Define[none](jobs.Kind{Name: "count"}), func(context.Context, *worker.Job, none) (jobs.Result, error) {
				return jobs.Result{}, nil
			})
			stop := (&bench{t, far}).start(worker.Options{Handlers: []worker.Handler{handler}})
			b.waiting(defaultNS.LogStream(), 1) // of ana
			relay.Freeze()
			id := b.enqueue(jobs.Request{Kind: "count"}).ID
			polltest.Until(t, "the job is on its way", func() bool {
				c, err := b.queue.JetStream().Consumer(natstest.Context(t), defaultNS.LogStream(), defaultNS.WorkerConsumer("count"))
				return err == nil && c.CachedInfo().NumAckPending == 1
			})
			subscriptions, stopped := nc.NumSubscriptions(), make(chan struct{})
			go func() { stop(); close(stopped) }()
			// A worker that no longer takes what arrives has dropped its subscription by now. One that is right waits for the server.
			for end := time.Now().Add(time.Second); nc.NumSubscriptions() >= subscriptions && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			relay.Thaw()
			<-stopped
			b.start(worker.Options{Handlers: []worker.Handler{handler}})
			b.await(id, in(jobs.Succeeded))
		})
	}
}

// Many jobs on few slots: all run, once each.
func TestMany(t *testing.T) {
	b := newBench(t)
	var runs atomic.Int32
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "quick"}),
		func(context.Context, *worker.Job, none) (jobs.Result, error) { runs.Add(1); return jobs.Result{}, nil },
		worker.Concurrency(4))}})
	const n = 200
	ids := make([]string, n)
	for i := range ids {
		ids[i] = b.enqueue(jobs.Request{Kind: "quick"}).ID
	}
	for _, id := range ids {
		b.await(id, in(jobs.Succeeded))
	}
	if runs.Load() != n {
		t.Errorf("%d runs of %d jobs", runs.Load(), n)
	}
}

// A lease that was made shorter reaches a worker that runs, and the job that it runs: that is taken over once at most.
func TestLeaseIsRefreshed(t *testing.T) {
	b := newBenchWith(t, joblog.Options{Settings: joblog.Settings{Lease: time.Hour}})
	end := make(chan struct{})
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "wait"}), func(ctx context.Context, _ *worker.Job, _ none) (jobs.Result, error) {
		select {
		case <-end:
			return jobs.Result{}, nil
		case <-ctx.Done():
			return jobs.Result{}, context.Cause(ctx)
		}
	})}})
	id := b.enqueue(jobs.Request{Kind: "wait"}).ID
	b.await(id, in(jobs.Running))
	if _, err := joblog.Setup(natstest.Context(t), b.queue.Conn(), joblog.Location{}, joblog.Settings{Lease: 2 * time.Second}, false); err != nil {
		t.Fatal(err)
	}
	// The worker's heartbeat comes too late for the new lease: the job comes again, and the worker learns why.
	b.await(id, func(j jobs.Job) bool { return j.Lost == 1 })
	// Four leases later it has come again three or four times more if the worker has not learnt it. Once more may be this
	// machine's doing, and once more each time that it stands still.
	most := 2
	for range 80 {
		began := time.Now()
		time.Sleep(100 * time.Millisecond)
		if time.Since(began) > time.Second {
			most++
		}
	}
	close(end)
	if job := b.await(id, in(jobs.Succeeded)); job.Lost > most {
		t.Errorf("the lease was lost %d times, want %d at most", job.Lost, most)
	}
}

// A user who has enqueued many jobs does not keep another's waiting: no more of theirs run at once than may, all the others
// of theirs wait, and in the end all have run, once each.
func TestPerUser(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	running, most, ran := 0, 0, make(map[string]int)
	release := make(chan struct{})
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "work"}), func(ctx context.Context, job *worker.Job, _ none) (jobs.Result, error) {
		mu.Lock()
		ran[job.ID]++
		if job.User == "ana" {
			running++
			most = max(most, running)
		}
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			if job.User == "ana" {
				running--
			}
		}()
		if job.User == "ana" {
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return jobs.Result{}, nil
	}, worker.Concurrency(4), worker.PerUser(2))}})
	const n = 200
	for range n {
		b.enqueue(jobs.Request{Kind: "work"})
	}
	job, _, err := b.queue.Enqueue(natstest.Context(t), jobs.Request{User: "ben", Kind: "work"})
	if err != nil {
		t.Fatal(err)
	}
	polltest.Nil(t, "ben's job succeeds", func() error {
		latest, err := b.queue.Get(natstest.Context(t), "ben", job.ID)
		if err == nil && latest.State != jobs.Succeeded {
			err = fmt.Errorf("it is %+v", latest)
		}
		return err
	})
	close(release)
	polltest.Nil(t, "all jobs run", func() error {
		mu.Lock()
		defer mu.Unlock()
		if done := len(ran); done != n+1 {
			return fmt.Errorf("%d of %d have", done, n+1)
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	if most != 2 {
		t.Errorf("%d jobs of ana ran at once, want 2", most)
	}
	for id, times := range ran {
		if times != 1 {
			t.Errorf("job %s ran %d times", id, times)
		}
	}
}

// Jobs that still run when the connection to the consumer is lost still count as running.
func TestSlotsOutliveThePull(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	running, most := 0, 0
	release := make(chan struct{})
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "work"}), func(context.Context, *worker.Job, none) (jobs.Result, error) {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		<-release
		mu.Lock()
		running--
		mu.Unlock()
		return jobs.Result{}, nil
	}, worker.Concurrency(3), worker.PerUser(3))}})
	var ids []string
	for range 2 {
		ids = append(ids, b.enqueue(jobs.Request{Kind: "work"}).ID)
	}
	for _, id := range ids {
		b.await(id, in(jobs.Running))
	}
	// The consumer is gone, which ends the pull: the fetcher creates it again, and all jobs are delivered again. Both go on.
	stream, err := b.queue.JetStream().Stream(natstest.Context(t), defaultNS.LogStream())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteConsumer(natstest.Context(t), defaultNS.WorkerConsumer("work")); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		ids = append(ids, b.enqueue(jobs.Request{Kind: "work"}).ID)
	}
	b.await(ids[2], func(jobs.Job) bool { mu.Lock(); defer mu.Unlock(); return running == 3 })
	consumer, err := stream.Consumer(natstest.Context(t), defaultNS.WorkerConsumer("work"))
	if err != nil {
		t.Fatal(err)
	}
	if n := consumer.CachedInfo().NumAckPending; n != 1 {
		t.Errorf("the new pull has taken %d jobs for 1 free slot", n)
	}
	close(release)
	for _, id := range ids {
		b.await(id, in(jobs.Succeeded))
	}
	mu.Lock()
	defer mu.Unlock()
	if most != 3 {
		t.Errorf("%d jobs ran at once on 3 slots", most)
	}
}

// A worker whose slots are all busy is ready, for as long as that takes: it has asked for nothing.
func TestReadyWhileBusy(t *testing.T) {
	b := newBench(t)
	release := make(chan struct{})
	w, err := worker.New(worker.Options{Queue: queue.New(b.queue), Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "busy"}),
		func(context.Context, *worker.Job, none) (jobs.Result, error) { <-release; return jobs.Result{}, nil }, worker.Concurrency(1))}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Ready(); err == nil {
		t.Error("it is ready before it runs")
	}
	if err := w.PublishKinds(natstest.Context(t)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	id := b.enqueue(jobs.Request{Kind: "busy"}).ID
	b.await(id, in(jobs.Running))
	for end := time.Now().Add(6500 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) { // longer than a pull may be silent
		if err := w.Ready(); err != nil {
			t.Fatalf("while it is busy: %v", err)
		}
	}
	close(release)
	b.await(id, in(jobs.Succeeded))
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A tag that cannot be read is said at once, and never a limit that is silently not there.
func TestTagsOfParams(t *testing.T) {
	type pages struct {
		Pages int `json:"pages" minimum:"1" maximum:"500"`
	}
	type wrong struct {
		Pages int `json:"pages" minimum:"one"`
	}
	b := newBench(t)
	stop := b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[pages](jobs.Kind{Name: "print"}), func(context.Context, *worker.Job, pages) (jobs.Result, error) {
		return jobs.Result{}, nil
	})}})
	defer stop()
	for params, ok := range map[string]bool{`{"pages":1}`: true, `{"pages":500}`: true, `{"pages":0}`: false, `{"pages":501}`: false} {
		_, _, err := b.queue.Enqueue(natstest.Context(t), jobs.Request{User: "ana", Kind: "print", Params: json.RawMessage(params)})
		if (err == nil) != ok {
			t.Errorf("%s: %v", params, err)
		}
	}
	_, err := worker.New(worker.Options{Queue: queue.New(b.queue), Handlers: []worker.Handler{worker.Handle(jobs.Define[wrong](jobs.Kind{Name: "print"}), func(context.Context, *worker.Job, wrong) (jobs.Result, error) {
		return jobs.Result{}, nil
	})}})
	if err == nil || !strings.Contains(err.Error(), "kind print: param pages: minimum") {
		t.Errorf("%v", err)
	}
}

// A panic while the file is written is a failed attempt, as any other of a handler, and not the end of the process.
func TestPanicInWriteFile(t *testing.T) {
	b := newBench(t)
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "write", MaxAttempts: 1}), func(ctx context.Context, job *worker.Job, _ none) (jobs.Result, error) {
		return jobs.Result{}, job.WriteFile(ctx, "a.txt", "text/plain", func(io.Writer) error { panic("boom") })
	})}})
	job := b.await(b.enqueue(jobs.Request{Kind: "write"}).ID, in(jobs.Failed))
	if job.Error == nil || job.Error.Code != "handler_panicked" || job.Attempt != 1 {
		t.Errorf("%+v", job)
	}
}
