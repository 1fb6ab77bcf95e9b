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
	// Lease is how long a job stays with a worker that has gone silent; 30 s.
	Lease time.Duration
	// Grace is how long handlers may go on after Run was told to stop; 10 s.
	Grace time.Duration
	Log   *slog.Logger // slog.Default()
}

// Worker runs jobs.
type Worker struct {
	queue    *jobs.Queue
	handlers []Handler
	lease    time.Duration
	grace    time.Duration
	name     string
	log      *slog.Logger
}

// New checks the options and makes a worker of them. It starts nothing.
func New(o Options) (*Worker, error) {
	if o.Lease == 0 {
		o.Lease = 30 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Queue == nil || len(o.Handlers) == 0 {
		return nil, errors.New("worker: needs a queue and at least one handler")
	}
	if o.Lease < time.Second {
		return nil, fmt.Errorf("worker: a lease of %v is too short; a second is the least", o.Lease)
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
	return &Worker{o.Queue, o.Handlers, o.Lease, o.Grace, name, o.Log.With("part", "worker")}, nil
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
	for i := range w.handlers {
		h := &w.handlers[i]
		pulls.Go(func() {
			p := &puller{worker: w, handler: h, running: &jobsRunning}
			p.run(ctx, func(m *nats.Msg) { w.serve(hard, h, m) })
		})
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

// serve runs one delivered job to its commit.
func (w *Worker) serve(ctx context.Context, h *Handler, m *nats.Msg) {
	d, err := newDelivery(m)
	if err != nil { // nothing that a worker wrote; it would come back for ever
		w.log.Error("message dropped", "err", err)
		if err := m.Respond([]byte("+TERM")); err != nil {
			w.log.Warn("message not dropped", "err", err)
		}
		return
	}
	log := w.log.With("job", d.order.ID, "kind", d.order.Kind)
	l := &lease{queue: w.queue, delivery: d, length: w.lease, log: log}
	if err := l.acquire(ctx, w.name); err != nil {
		if !errors.Is(err, errDone) {
			log.Warn("job not taken; it comes again", "err", err)
		}
		return
	}
	l.log = log.With("attempt", l.job.Attempt)
	result, cause, err := w.attempt(ctx, h, l)
	if err != nil {
		l.log.Warn("attempt failed", "err", err, "cause", cause)
	}
	if errors.Is(cause, ErrLeaseLost) || errors.Is(err, jobs.ErrCrashed) {
		l.dropFile(ctx, cause)
		return // whatever it did does not count
	}
	// A commit under way when the worker stops gets the time that a call to the server may take.
	commitCtx, done := context.WithTimeout(context.WithoutCancel(ctx), max(w.lease, w.grace))
	defer done()
	ended := ending{result, err, cause}
	state, err := l.commit(commitCtx, func() verdict { return l.judge(h, ended) })
	if err != nil {
		l.log.Warn("job's end not committed; it comes again", "err", err)
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
	job := &Job{Job: l.job, Log: l.log, lease: l}
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
