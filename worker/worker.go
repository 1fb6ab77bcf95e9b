package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// Options of a worker. Queue and Handlers are required.
type Options struct {
	Queue    *jobs.Queue
	Handlers []Handler
	// Grace is how long handlers may go on after Run was told to stop; 10 s.
	Grace time.Duration
	// Observer, if set, is notified of each attempt.
	Observer Observer
	Log      *slog.Logger // slog.Default()
}

// Observer is notified of attempts, for metrics. Its methods are called from several goroutines at once and must not
// block.
type Observer interface {
	// Started is called when a handler is about to run.
	Started(kind string)
	// Ended is called when the attempt's outcome was committed, or given up. Outcome is the state that was written, or
	// "lost" if none was: the lease is lost, or the state could not be written.
	Ended(kind, outcome string, took time.Duration)
}

type noObserver struct{}

func (noObserver) Started(string)                      {}
func (noObserver) Ended(string, string, time.Duration) {}

// Worker runs jobs.
type Worker struct {
	queue    *jobs.Queue
	handlers []Handler
	pullers  []*puller // one for each handler
	grace    time.Duration
	name     string
	observer Observer
	log      *slog.Logger
}

// New checks the options and makes a worker of them. It starts nothing.
func New(o Options) (*Worker, error) {
	if o.Grace == 0 {
		o.Grace = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	if o.Queue == nil || len(o.Handlers) == 0 {
		return nil, errors.New("worker: needs a queue and at least one handler")
	}
	seen := make(map[string]bool)
	for i := range o.Handlers {
		if err := o.Handlers[i].check(); err != nil {
			return nil, fmt.Errorf("worker: %w", err)
		}
		if name := o.Handlers[i].kind.Name; seen[name] {
			return nil, fmt.Errorf("worker: two handlers for kind %s", name)
		} else {
			seen[name] = true
		}
	}
	host, _ := os.Hostname()
	name := host + "-" + nuid.Next()[:10]
	w := &Worker{queue: o.Queue, handlers: o.Handlers, grace: o.Grace, name: name, observer: o.Observer, log: o.Log.With("part", "worker")}
	for i := range w.handlers {
		w.pullers = append(w.pullers, newPuller(w, &w.handlers[i]))
	}
	return w, nil
}

// Kinds makes the worker's kinds known, so that jobs of them can be enqueued. Run does it too; a program
// that enqueues right after starting calls it first.
func (w *Worker) Kinds(ctx context.Context) error {
	for i := range w.handlers {
		if err := w.queue.PublishKind(ctx, w.handlers[i].kind); err != nil {
			return err
		}
	}
	return nil
}

// Run takes jobs and runs them until ctx ends. Then it takes no more, waits for the grace, cancels the
// handlers that still run with [ErrStopping], hands their jobs back, and returns nil. Jobs that it cannot
// hand back are taken over by other workers when their leases are over.
func (w *Worker) Run(ctx context.Context) error {
	// Handlers and their commits outlive ctx by the grace. What stop's end still cannot stop is left.
	hard, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var pulls, jobsRunning sync.WaitGroup
	for _, p := range w.pullers {
		p.running = &jobsRunning
		pulls.Go(func() { p.run(ctx, func(m *nats.Msg) { w.serve(hard, p, m) }) })
	}
	pulls.Wait()
	ended := make(chan struct{})
	go func() { jobsRunning.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-time.After(w.grace):
		w.log.Info("handlers are cancelled, and their jobs handed back")
		stop(ErrStopping)
	}
	select {
	case <-ended:
		return nil
	case <-time.After(w.grace + time.Second):
		return errors.New("worker: handlers did not heed their contexts; their jobs run again when their leases are over")
	}
}

// outcomeLost is what an [Observer] gets for an attempt of which nothing was written.
const outcomeLost = "lost"

// Ready returns nil while jobs of all kinds can be taken, and otherwise why those of one cannot. It does not block.
func (w *Worker) Ready() error {
	for _, p := range w.pullers {
		if err := p.trouble.Err(); err != nil {
			return fmt.Errorf("kind %s: %w", p.handler.kind.Name, err)
		}
	}
	return nil
}

// serve runs one delivered job to its commit.
func (w *Worker) serve(ctx context.Context, p *puller, m *nats.Msg) {
	h := p.handler
	d, err := newDelivery(m)
	if err != nil { // nothing that a worker wrote; it would come back for ever
		w.log.Error("message dropped", "err", err)
		if err := m.Respond([]byte("+TERM")); err != nil {
			w.log.Warn("message not dropped", "err", err)
		}
		return
	}
	log := w.log.With("job", d.order.ID, "kind", d.order.Kind)
	if !d.first {
		p.refreshLease(ctx, log) // it may come again because the lease is shorter than this worker knows
	}
	l := &lease{queue: w.queue, delivery: d, length: p.lease, log: log}
	if err := l.acquire(ctx, w.name); err != nil {
		if !errors.Is(err, errDone) {
			log.Warn("job not taken; it comes again", "err", err)
		}
		return
	}
	l.log = log.With("attempt", l.job.Attempt)
	began, outcome := time.Now(), outcomeLost
	w.observer.Started(d.order.Kind)
	defer func() { w.observer.Ended(d.order.Kind, outcome, time.Since(began)) }()
	result, cause, err := w.attempt(ctx, h, l)
	if err != nil {
		l.log.Warn("attempt failed", "err", err, "cause", cause)
	}
	if errors.Is(cause, ErrLeaseLost) || errors.Is(err, jobs.ErrCrashed) {
		l.dropFile(ctx, cause)
		return // whatever it did does not count
	}
	// A commit under way when the worker stops gets the time that a call to the server may take.
	commitCtx, done := context.WithTimeout(context.WithoutCancel(ctx), max(p.lease(), w.grace))
	defer done()
	ended := ending{result, err, cause}
	state, err := l.commit(commitCtx, func() verdict { return l.judge(h, ended) })
	if err != nil {
		l.log.Warn("job's end not committed; it comes again", "err", err)
	} else {
		outcome = string(state)
	}
	if state != jobs.Succeeded {
		l.dropFile(ctx, err)
	}
}

// attempt runs the handler, holding the lease meanwhile. Cause is why the handler's context ended before it
// returned, nil if it did not.
func (w *Worker) attempt(ctx context.Context, h *Handler, l *lease) (result jobs.Result, cause, err error) {
	handlerCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	runCtx := handlerCtx
	if h.timeout > 0 {
		var stop context.CancelFunc
		runCtx, stop = context.WithTimeoutCause(handlerCtx, h.timeout, ErrTimeout)
		defer stop()
	}
	job := &Job{Job: l.job, Claims: l.delivery.order.Claims, Log: l.log, lease: l}
	returned, kept := make(chan struct{}), make(chan struct{})
	keepCtx, release := context.WithCancel(context.WithoutCancel(ctx))
	go func() { l.keep(keepCtx, returned, cancel); close(kept) }()
	defer func() {
		close(returned)
		release() // a write under way is not worth waiting for
		<-kept
		cause = context.Cause(runCtx)
		if v := recover(); v != nil {
			err = &panicError{v}
			l.log.Error("handler panicked", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	result, err = h.run(runCtx, job, l.delivery.order.Params)
	return result, nil, err
}
