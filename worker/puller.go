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

	"github.com/hark-jobs/hark/internal/trouble"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// A pull asks for as many jobs as there are free slots and no more: a job that waits in a worker's memory
// waits while its lease runs out, and while other workers are idle.
const (
	pullExpires   = 30 * time.Second
	pullHeartbeat = 2 * time.Second
)

// leaseRefresh is how often the lease is read from the consumer: hark setup may have changed it. A lease must not be
// shorter than its heartbeats for long.
const leaseRefresh = 10 * time.Second

// puller takes the jobs of one kind from their durable consumer. It speaks the pull protocol itself:
// nats.go's Fetch makes a subscription and a goroutine for every pull, and drops what arrives while it is
// being stopped, which would keep those jobs waiting for a whole lease.
type puller struct {
	worker  *Worker
	handler *Handler
	running *sync.WaitGroup
	trouble *trouble.Trouble
	length  atomic.Int64 // of the lease, a time.Duration
	// announced is the lease that was logged last as a change: several jobs may notice one at once.
	announced atomic.Int64

	// For the goroutine of run alone. They outlive one pull: so do the jobs that it has started.
	shares *shares
	freed  chan string // the users whose jobs have ended
	free   int         // slots with nothing to do
}

func newPuller(w *Worker, h *Handler) *puller {
	return &puller{worker: w, handler: h, shares: newShares(h), freed: make(chan string, h.slots), free: h.slots, trouble: trouble.New(w.log.With("kind", h.kind.Name),
		"jobs cannot be taken; trying again until they can", "jobs can be taken again", errNotStarted)}
}

var (
	errNotStarted = errors.New("worker: not started yet")
	// errSilent is what keeps a puller from taking jobs when its consumer sends nothing, not even heartbeats.
	errSilent = errors.New("worker: the consumer does not answer")
)

// lease returns how long a job stays with this worker without a heartbeat.
func (p *puller) lease() time.Duration { return time.Duration(p.length.Load()) }

// run pulls until ctx ends, and starts serve on a goroutine for each job, at most one for each slot.
func (p *puller) run(ctx context.Context, serve func(*nats.Msg)) {
	log := p.worker.log.With("kind", p.handler.kind.Name)
	for pause := 100 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 5*time.Second) {
		subject, err := p.open(ctx)
		if err == nil {
			p.trouble.Over()
			pause = 100 * time.Millisecond
			err = p.pull(ctx, subject, log, serve)
		}
		if ctx.Err() != nil {
			return
		}
		p.trouble.Begin(err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// open makes the kind and its consumer known, and returns where to ask for jobs.
func (p *puller) open(ctx context.Context) (subject string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	name, err := p.openConsumer(ctx)
	if err != nil {
		return "", err
	}
	if err := p.worker.queue.PublishKind(ctx, p.handler.kind); err != nil {
		return "", err
	}
	return fmt.Sprintf("$JS.API.CONSUMER.MSG.NEXT.%s.%s", jobs.StreamName, name), nil
}

// openConsumer returns the consumer's name, and takes its lease over.
func (p *puller) openConsumer(ctx context.Context) (name string, err error) {
	name, lease, err := p.worker.queue.OpenWorkerConsumer(ctx, p.handler.kind.Name)
	if err == nil {
		p.length.Store(int64(lease))
	}
	return name, err
}

// refresh reads the lease again until ctx ends. It has a goroutine of its own, so that a server that is slow to answer
// holds up no job.
func (p *puller) refresh(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(leaseRefresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.refreshLease(ctx, log)
		p.refreshKind(ctx, log)
	}
}

// refreshKind makes the kind known again if its bucket was deleted or restored without it.
func (p *puller) refreshKind(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, leaseRefresh)
	defer cancel()
	if _, err := p.worker.queue.Kind(ctx, p.handler.kind.Name); !errors.Is(err, jobs.ErrKindUnknown) {
		return
	}
	if err := p.worker.queue.PublishKind(ctx, p.handler.kind); err != nil {
		log.Warn("the kind is not known, and cannot be published; trying again", "err", err)
	}
}

func (p *puller) refreshLease(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, leaseRefresh)
	defer cancel()
	before := p.lease()
	if _, err := p.openConsumer(ctx); err != nil {
		return // pull finds out why, and tries again
	}
	if after := p.lease(); after != before && p.announced.Swap(int64(after)) != int64(after) {
		log.Info("the lease was changed", "from", before, "to", after)
	}
}

// pull asks for jobs until ctx ends, when it returns nil after handing back what it had not started, or
// until the consumer cannot be asked any more.
func (p *puller) pull(ctx context.Context, subject string, log *slog.Logger, serve func(*nats.Msg)) error {
	nc, slots := p.worker.queue.Conn(), p.handler.slots
	msgs := make(chan *nats.Msg, 2*slots+16)
	inbox := nc.NewInbox()
	sub, err := nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return err
	}
	defer handBack(sub, msgs)
	refreshing, stop := context.WithCancel(ctx)
	refreshed := make(chan struct{})
	go func() { p.refresh(refreshing, log); close(refreshed) }()
	defer func() { stop(); <-refreshed }()

	asked := 0 // slots that a pull is out for
	start := func(m *nats.Msg) {
		user := userOf(m)
		if wait := p.shares.begin(user, time.Now()); wait > 0 {
			if err := respondNak(m, wait); err != nil {
				log.Warn("job not put off; it comes again when its lease is over", "err", err)
			}
			return
		}
		p.free--
		p.running.Go(func() {
			serve(m)
			p.freed <- user
		})
	}
	silence := time.NewTimer(0)
	defer silence.Stop()
	for {
		if asked == 0 && p.free > 0 {
			req, err := json.Marshal(map[string]any{"batch": p.free, "expires": pullExpires, "idle_heartbeat": pullHeartbeat})
			if err != nil {
				return err
			}
			if err := nc.PublishRequest(subject, inbox, req); err != nil {
				return err
			}
			asked = p.free
			silence.Reset(2*pullHeartbeat + time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case user := <-p.freed:
			p.free++
			p.shares.end(user)
		case <-silence.C:
			if asked == 0 {
				continue // nothing was asked: all slots are busy
			}
			p.trouble.Begin(errSilent) // the request is lost; ask again
			asked = 0
		case m := <-msgs:
			p.trouble.Over()
			silence.Reset(2*pullHeartbeat + time.Second)
			switch status := m.Header.Get("Status"); {
			case m.Reply == "" || status != "":
				if status == "100" {
					continue
				}
				if status != "408" && status != "404" {
					return fmt.Errorf("worker: pull: %s %s", status, m.Header.Get("Description"))
				}
				asked = 0
			case p.free == 0: // an answer to a request that was taken for lost
				m.Respond([]byte("-NAK"))
			default:
				asked = max(asked-1, 0)
				start(m)
			}
		}
	}
}

// handBack ends the subscription and gives back the jobs that had arrived and were not started.
func handBack(sub *nats.Subscription, msgs <-chan *nats.Msg) {
	sub.Unsubscribe()
	for {
		select {
		case m := <-msgs:
			if m.Reply != "" && m.Header.Get("Status") == "" {
				m.Respond([]byte("-NAK"))
			}
		default:
			return
		}
	}
}
