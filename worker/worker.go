package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// Options are the options of [New]. Queue and Handlers are required.
type Options struct {
	Queue    *queue.Client
	Handlers []Handler
	// Grace is how long handlers may continue after the context of Run has ended. Defaults to 10 s.
	Grace time.Duration
	// Middleware wraps the handlers. The first is the outermost.
	Middleware []Middleware
	// Observer, if set, is notified of each attempt.
	Observer Observer
	// Log defaults to slog.Default().
	Logger *slog.Logger
}

// Observer is notified of attempts, for metrics, traces and error reports. Its methods are called from several
// goroutines at once and must not block.
type Observer interface {
	// Started is called before a handler runs.
	Started(job *jobs.Job)
	// Ended is called after the outcome of the attempt was committed, or the commit was given up.
	Ended(job *jobs.Job, end End)
}

// End is how an attempt ended.
type End struct {
	// State is the written state of the job. It is empty if none was written: the lease was lost, or the commit failed.
	State jobs.State
	// Err is the full error of the handler, which users do not see, or nil. A panic is a [*PanicError].
	Err error
	// Cause is the cause with which the handler's context had ended before the handler returned, or nil.
	Cause error
	Took  time.Duration
}

type noObserver struct{}

func (noObserver) Started(*jobs.Job)    {}
func (noObserver) Ended(*jobs.Job, End) {}

// Worker runs jobs.
type Worker struct {
	store    *joblog.Store
	handlers []Handler
	fetchers []*fetcher // one for each handler
	grace    time.Duration
	name     string
	observer Observer
	log      *slog.Logger
}

// New returns a worker. It starts nothing, and does no I/O.
func New(o Options) (*Worker, error) {
	if o.Grace == 0 {
		o.Grace = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
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
	w := &Worker{store: o.Queue.Store(), handlers: slices.Clone(o.Handlers), grace: o.Grace, name: name, observer: o.Observer, log: o.Logger.With("part", "worker")}
	for i := range w.handlers {
		for _, middleware := range slices.Backward(o.Middleware) {
			w.handlers[i].run = middleware(w.handlers[i].run)
		}
		w.fetchers = append(w.fetchers, newFetcher(w, &w.handlers[i]))
	}
	return w, nil
}

// PublishKinds publishes the worker's kinds, so that jobs of them can be enqueued. Run does it too; a program that
// enqueues right after its start calls it first. It blocks for one round trip for each kind.
func (w *Worker) PublishKinds(ctx context.Context) error {
	for i := range w.handlers {
		if err := w.store.PublishKind(ctx, w.handlers[i].kind); err != nil {
			return err
		}
	}
	return nil
}

// Run fetches and runs jobs until ctx ends. Then it fetches no more jobs, waits for the grace period, cancels the
// remaining handlers with [ErrStopping], requeues their jobs, and returns nil. It returns an error if handlers ignore
// the cancel for another grace period. Other workers take over jobs that were not requeued when their leases expire.
func (w *Worker) Run(ctx context.Context) error {
	// Handlers and their commits outlive ctx by the grace period.
	hard, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var pulls, jobsRunning sync.WaitGroup
	for _, f := range w.fetchers {
		f.running = &jobsRunning
		pulls.Go(func() { f.run(ctx, func(m *nats.Msg) { w.serve(hard, f, m) }) })
	}
	pulls.Wait()
	ended := make(chan struct{})
	go func() { jobsRunning.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-time.After(w.grace):
		w.log.Info("grace period over; cancelling handlers and requeueing their jobs")
		stop(ErrStopping)
	}
	select {
	case <-ended:
		return nil
	case <-time.After(w.grace + time.Second):
		return errors.New("worker: handlers ignored context cancellation; their jobs run again when their leases expire")
	}
}

// Ready returns nil while jobs of all kinds can be fetched, and otherwise the error of one kind. It does not block.
func (w *Worker) Ready() error {
	for _, f := range w.fetchers {
		if err := f.trouble.Err(); err != nil {
			return fmt.Errorf("kind %s: %w", f.handler.kind.Name, err)
		}
	}
	return nil
}

// serve runs a delivered job up to its commit.
func (w *Worker) serve(ctx context.Context, f *fetcher, m *nats.Msg) {
	h := f.handler
	d, err := newDelivery(m)
	if err != nil {
		w.skip(m, err)
		return
	}
	log := w.log.With("job", d.spec.ID, "kind", d.spec.Kind)
	if !d.first {
		f.refreshLease(ctx, log) // the lease may have been shortened
	}
	l := &lease{store: w.store, delivery: d, length: f.lease, log: log}
	if err := l.acquire(ctx, w.name); err != nil {
		if !errors.Is(err, errNothingToRun) {
			log.Warn("acquiring the lease failed; the job is delivered again", "err", err)
		}
		return
	}
	l.log = log.With("attempt", l.job.Attempt)
	job, began, end := l.job, time.Now(), End{}
	w.observer.Started(&job)
	defer func() {
		end.Took = time.Since(began)
		w.observer.Ended(&job, end)
	}()
	result, cause, err := w.attempt(ctx, h, l)
	end.Err, end.Cause = err, cause
	if err != nil {
		l.log.Warn("attempt failed", "err", err, "cause", cause)
	}
	if errors.Is(cause, ErrLeaseLost) || errors.Is(err, joblog.ErrSimulatedCrash) {
		l.deleteFile(ctx, cause)
		return // the attempt does not count
	}
	// A commit may outlive the stop of the worker, by a lease or the grace period.
	commitCtx, done := context.WithTimeout(context.WithoutCancel(ctx), max(f.lease(), w.grace))
	defer done()
	ended := attemptResult{result, err, cause}
	state, err := l.commit(commitCtx, func() outcome { return l.decide(h, ended) })
	if err != nil {
		l.log.Warn("commit failed; the job is delivered again", "err", err)
	} else {
		end.State = state
	}
	if state != jobs.Succeeded {
		l.deleteFile(ctx, err)
	}
}

// skip terminates a message that is not a job request. Otherwise the server would deliver it for ever.
func (w *Worker) skip(m *nats.Msg, err error) {
	var seq uint64
	if meta, err := m.Metadata(); err == nil {
		seq = meta.Sequence.Stream
	}
	w.store.Skip(joblog.SkippedJob, m.Subject, seq, err)
	if err := m.Respond([]byte("+TERM")); err != nil {
		w.log.Warn("terminating a malformed message failed", "err", err)
	}
}

// attempt runs the handler while it keeps the lease. cause is the cause with which the handler's context ended before it
// returned, or nil.
func (w *Worker) attempt(ctx context.Context, h *Handler, l *lease) (result jobs.Result, cause, err error) {
	handlerCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	runCtx, stop := h.limit(handlerCtx)
	defer stop()
	job := &Job{Job: l.job, Params: l.delivery.spec.Params, Claims: l.delivery.spec.Claims, Log: l.log, host: l}
	returned, kept := make(chan struct{}), make(chan struct{})
	keepCtx, release := context.WithCancel(context.WithoutCancel(ctx))
	go func() { l.heartbeat(keepCtx, returned, cancel); close(kept) }()
	defer func() {
		close(returned)
		release() // do not wait for a write in progress
		<-kept
		cause = context.Cause(runCtx)
	}()
	result, err = h.call(runCtx, job)
	return result, nil, err
}

// limit applies the timeout of the handler to ctx.
func (h *Handler) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if h.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, h.timeout, ErrTimeout)
}

// call runs the handler, and returns a panic as an error.
func (h *Handler) call(ctx context.Context, job *Job) (result jobs.Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
			job.Log.Error("handler panicked", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	if result, err = h.run(ctx, job); err == nil {
		result, err = storable(result, job.Log)
	}
	return result, err
}
