package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/trouble"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// A pull requests as many jobs as the worker can start now, and never more. A job that waits in a worker's memory would use
// up its lease while other workers are idle.
const (
	pullExpires   = 30 * time.Second
	pullHeartbeat = time.Second
)

// leaseRefresh is how often the lease is read from the consumer: hark setup may have changed it.
const leaseRefresh = 10 * time.Second

// openCheck is the timeout of the check of the clock before jobs are fetched. It is short, since after a leader of NATS was lost the
// bucket that has the time may have none for longer than the consumer.
const openCheck = 2 * time.Second

// fetcher fetches the jobs of one kind from their durable consumer. It implements the pull protocol itself: nats.go's
// Fetch makes a subscription and a goroutine for every pull, and drops messages that arrive while it stops, which would
// delay those jobs by a whole lease.
type fetcher struct {
	worker  *Worker
	handler *Handler
	running *sync.WaitGroup
	trouble *trouble.Trouble
	length  atomic.Int64 // length of the lease, a time.Duration
	// announced is the lease that was last logged as a change. Several jobs may read a change at once.
	announced atomic.Int64

	// Used by the goroutine of run only. They outlive one pull, as its jobs do.
	shares *shares
	freed  chan string   // users of jobs that have ended
	spread chan struct{} // has a token when the log has got several streams; for pull
	free   atomic.Int64  // how many more jobs can start; checkDelivery reads it on another goroutine
}

func newFetcher(w *Worker, h *Handler) *fetcher {
	f := &fetcher{worker: w, handler: h, shares: newShares(h), freed: make(chan string, h.concurrency), spread: make(chan struct{}, 1), trouble: trouble.New(w.log.With("kind", h.kind.Name),
		"fetching jobs failed; retrying", "fetching jobs works again", errNotStarted)}
	f.free.Store(int64(h.concurrency))
	return f
}

var (
	errNotStarted = errors.New("worker: not started yet")
	// errSilent: the consumer sends neither jobs nor heartbeats.
	errSilent = errors.New("worker: no heartbeat from the consumer")
)

// lease returns how long a job stays with this worker without a heartbeat.
func (f *fetcher) lease() time.Duration { return time.Duration(f.length.Load()) }

// run fetches jobs until ctx ends, and starts serve on a goroutine for each of them, at most concurrency at once.
func (f *fetcher) run(ctx context.Context, serve func(*nats.Msg)) {
	log := f.worker.log.With("kind", f.handler.kind.Name)
	for pause := 100 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 5*time.Second) {
		opened, err := f.fetch(ctx, log, serve)
		if opened {
			pause = 100 * time.Millisecond
		}
		if ctx.Err() != nil {
			return
		}
		f.trouble.Begin(err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// fetch fetches jobs until ctx ends or something fails. Opened reports whether it could begin.
func (f *fetcher) fetch(ctx context.Context, log *slog.Logger, serve func(*nats.Msg)) (opened bool, err error) {
	if n := f.worker.store.Streams(); n > 1 {
		return f.pullAll(ctx, n, log, serve)
	}
	subject, err := f.open(ctx)
	if err != nil {
		return false, err
	}
	f.trouble.Over()
	return true, f.pull(ctx, subject, log, serve)
}

// open publishes the kind, opens its consumer, and returns the subject of pull requests.
func (f *fetcher) open(ctx context.Context) (subject string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	subject, err = f.openConsumer(ctx)
	if err != nil {
		return "", err
	}
	if err := f.worker.store.PublishKind(ctx, f.handler.kind); err != nil {
		return "", err
	}
	f.checkClock(ctx, openCheck)
	return subject, nil
}

// openConsumer returns the subject of pull requests to the first stream, and stores the lease of the consumer.
func (f *fetcher) openConsumer(ctx context.Context) (subject string, err error) {
	subject, lease, err := f.worker.store.OpenWorkerConsumer(ctx, 0, f.handler.kind.Name)
	if err == nil {
		f.length.Store(int64(lease))
	}
	return subject, err
}

// refresh reads the lease and the kind periodically until ctx ends. It runs on its own goroutine, so that a slow server
// does not delay jobs.
func (f *fetcher) refresh(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(leaseRefresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f.refreshLease(ctx, log)
		f.refreshKind(ctx, log)
		f.checkClock(ctx, leaseRefresh)
		f.refreshStreams(ctx)
		f.checkDelivery(ctx, log)
	}
}

// refreshStreams has the store notice that the number of streams was changed.
func (f *fetcher) refreshStreams(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaseRefresh)
	defer cancel()
	_, _ = f.worker.store.CurrentEpoch(ctx) // what fails is tried again
	if f.worker.store.Streams() > 1 {
		select {
		case f.spread <- struct{}{}:
		default:
		}
	}
}

// refreshKind publishes the kind again if its bucket was deleted, or restored without it.
func (f *fetcher) refreshKind(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, leaseRefresh)
	defer cancel()
	if _, err := f.worker.store.Kind(ctx, f.handler.kind.Name); !errors.Is(err, jobs.ErrKindUnknown) {
		return
	}
	if err := f.worker.store.PublishKind(ctx, f.handler.kind); err != nil {
		log.Warn("publishing the kind failed; retrying", "err", err)
	}
}

// checkClock checks whether the clock of a NATS server went back, so that jobs do not wait until it has caught up.
func (f *fetcher) checkClock(ctx context.Context, limit time.Duration) {
	for i := range f.worker.store.Streams() {
		f.checkClockOf(ctx, i, limit)
	}
}

func (f *fetcher) checkClockOf(ctx context.Context, stream int, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	log := f.worker.log.With("kind", f.handler.kind.Name)
	switch back, err := f.worker.store.CheckClock(ctx, stream, f.handler.kind.Name); {
	case err != nil && ctx.Err() == nil:
		log.Warn("checking the clock of the NATS server failed", "err", err)
	case back > 0:
		log.Warn("the clock of the NATS server went back; jobs under way are delivered again", "by", back)
	}
}

func (f *fetcher) refreshLease(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, leaseRefresh)
	defer cancel()
	before := f.lease()
	if _, err := f.openConsumer(ctx); err != nil {
		return // pull gets the same error, and retries
	}
	if after := f.lease(); after != before && f.announced.Swap(int64(after)) != int64(after) {
		log.Info("lease changed", "from", before, "to", after)
	}
}

// pull fetches jobs until ctx ends, and then returns nil, or until the consumer fails. Before it returns it sends a nak
// for each job that it has not started.
func (f *fetcher) pull(ctx context.Context, subject string, log *slog.Logger, serve func(*nats.Msg)) error {
	nc, concurrency := f.worker.store.Conn(), f.handler.concurrency
	msgs := make(chan *nats.Msg, 2*concurrency+16)
	inbox := nc.NewInbox()
	sub, err := nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return err
	}
	defer nakPending(nc, msgs, sub)
	refreshing, stop := context.WithCancel(ctx)
	refreshed := make(chan struct{})
	go func() { f.refresh(refreshing, log); close(refreshed) }()
	defer func() { stop(); <-refreshed }()

	requested := 0 // jobs that the pull in progress may still return
	silence := time.NewTimer(0)
	defer silence.Stop()
	for {
		if free := int(f.free.Load()); requested == 0 && free > 0 {
			req, err := json.Marshal(map[string]any{"batch": free, "expires": pullExpires, "idle_heartbeat": pullHeartbeat})
			if err != nil {
				return err
			}
			if err := nc.PublishRequest(subject, inbox, req); err != nil {
				return err
			}
			requested = free
			silence.Reset(2*pullHeartbeat + time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.spread:
			return joblog.ErrSpread
		case user := <-f.freed:
			f.free.Add(1)
			f.shares.end(user)
		case <-silence.C:
			if requested == 0 {
				continue // no pull in progress: all handlers are busy
			}
			f.trouble.Begin(errSilent) // the request is lost; send it again
			requested = 0
		case m := <-msgs:
			f.trouble.Over()
			silence.Reset(2*pullHeartbeat + time.Second)
			switch status := m.Header.Get("Status"); {
			case m.Reply == "": // a status; a job has a reply subject, and its publisher may have set a Status header
				if status == "100" {
					continue
				}
				if status != "408" && status != "404" {
					return fmt.Errorf("worker: pull: %s %s", status, m.Header.Get("Description"))
				}
				requested = 0
			case f.free.Load() == 0: // a late response to a request that was considered lost
				m.Respond([]byte("-NAK"))
			default:
				requested = max(requested-1, 0)
				f.start(m, log, serve)
			}
		}
	}
}

// start runs serve on a goroutine of its own for a job, unless its user has as many as they may: then it is deferred.
func (f *fetcher) start(m *nats.Msg, log *slog.Logger, serve func(*nats.Msg)) {
	user := userOf(m)
	if wait := f.shares.begin(user, time.Now()); wait > 0 {
		if err := respondNak(m, wait); err != nil {
			log.Warn("deferring a job failed; it is delivered again when its lease expires", "err", err)
		}
		return
	}
	f.free.Add(-1)
	f.running.Go(func() {
		serve(m)
		f.freed <- user
	})
}

// unsubscribeTime is how long nakPending waits for the server, which answers at once unless the connection is bad.
const unsubscribeTime = 5 * time.Second

// nakPending ends the subscriptions, and sends a nak for each job that has arrived, or is on its way, and was not started. It blocks
// for a round trip.
func nakPending(nc *nats.Conn, msgs <-chan *nats.Msg, subs ...*nats.Subscription) {
	for _, sub := range subs {
		_ = sub.Drain() // unlike Unsubscribe it takes what the server has sent before it ends the subscription
	}
	if nc.IsConnected() { // otherwise nothing arrives
		_ = nc.FlushTimeout(unsubscribeTime) // a job that arrives later is delivered again after the lease
	}
	for {
		select {
		case m := <-msgs:
			if m.Reply != "" {
				m.Respond([]byte("-NAK"))
			}
		default:
			return
		}
	}
}
