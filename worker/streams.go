package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/nats-io/nats.go"
)

// Where the log has several streams, the kind has a consumer on each. The worker asks one after the other for as many jobs as
// it can start, without waiting, so that streams with many jobs get turns. Once all have answered that they have none, it
// leaves a request for one job at each, and the first job of any stream arrives at once. While it was busy with that job,
// another such request may be answered; then the worker has no place for the job and hands it back at once.
const (
	// askTime is the timeout of a request without waiting.
	askTime = 2 * time.Second
	// reopenPause is the pause before the consumer of a stream is opened again after a failure.
	reopenPause = time.Second
)

// pulls fetches the jobs of one kind from several streams. It is for one goroutine.
type pulls struct {
	f       *fetcher
	log     *slog.Logger
	nc      *nats.Conn
	msgs    chan *nats.Msg
	sources []*source
	opened  chan opened
	opening sync.WaitGroup
	start   func(*nats.Msg)

	asked     *source // the source of the request without waiting, or nil
	askSub    *nats.Subscription
	askInbox  string
	askedAt   time.Time
	requested int // jobs that it may still return
	got       int // jobs that it has returned
	next      int // the number of the source that is asked next
	empty     int // sources in a row that have answered that they have no job
}

// source is the consumer of one stream.
type source struct {
	number  int
	subject string // of pull requests; empty while the consumer is not open
	sub     *nats.Subscription
	inbox   string
	waits   bool      // a request for one job is there
	heard   time.Time // when it was last answered
}

// opened is the result of opening the consumer of a source.
type opened struct {
	source  *source
	subject string
	err     error
}

// pullAll fetches jobs from n streams until ctx ends, and then returns nil, or until the number of streams changes. Before it
// returns it sends a nak for each job that it has not started. A stream that fails is opened again while others go on.
func (f *fetcher) pullAll(ctx context.Context, n int, log *slog.Logger, serve func(*nats.Msg)) (begun bool, err error) {
	publishing, cancel := context.WithTimeout(ctx, 10*time.Second)
	err = f.worker.store.PublishKind(publishing, f.handler.kind)
	cancel()
	if err != nil {
		return false, err
	}
	p := &pulls{f: f, log: log, nc: f.worker.store.Conn(), msgs: make(chan *nats.Msg, 2*f.handler.concurrency+16*n), opened: make(chan opened, n)}
	p.start = func(m *nats.Msg) { f.start(m, log, serve) }
	defer p.close()
	p.askInbox = p.nc.NewInbox()
	if p.askSub, err = p.nc.ChanSubscribe(p.askInbox, p.msgs); err != nil {
		return false, err
	}
	background, stop := context.WithCancel(ctx)
	defer p.opening.Wait()
	defer stop()
	p.opening.Go(func() { f.refresh(background, log) })
	for i := range n {
		s := &source{number: i, inbox: p.nc.NewInbox()}
		if s.sub, err = p.nc.ChanSubscribe(s.inbox, p.msgs); err != nil {
			return false, err
		}
		p.sources = append(p.sources, s)
		p.open(background, s, 0)
	}
	tick := time.NewTicker(pullHeartbeat / 2)
	defer tick.Stop()
	for {
		if err := p.request(); err != nil {
			return true, err
		}
		select {
		case <-ctx.Done():
			return true, nil
		case user := <-f.freed:
			if f.free.Add(1) == 1 {
				p.empty = 0
			}
			f.shares.end(user)
		case o := <-p.opened:
			p.onOpened(background, o)
		case now := <-tick.C:
			p.checkSilence(background, now)
			if f.worker.store.Streams() != n {
				return true, joblog.ErrSpread
			}
		case m := <-p.msgs:
			p.receive(background, m)
		}
	}
}

// close ends the subscriptions, and sends a nak for each job that had arrived and was not started.
func (p *pulls) close() {
	subs := []*nats.Subscription{p.askSub}
	for _, s := range p.sources {
		subs = append(subs, s.sub)
	}
	nakPending(p.nc, p.msgs, subs...)
}

// open opens the consumer of a source after a pause. It does not block.
func (p *pulls) open(ctx context.Context, s *source, pause time.Duration) {
	s.subject, s.waits = "", false
	if p.asked == s {
		p.asked = nil
	}
	store, kind := p.f.worker.store, p.f.handler.kind.Name
	p.opening.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		subject, lease, err := store.OpenWorkerConsumer(short, s.number, kind)
		if err == nil && s.number == 0 {
			p.f.length.Store(int64(lease))
		}
		if err == nil {
			p.f.checkClockOf(ctx, s.number, openCheck)
		}
		select {
		case p.opened <- opened{s, subject, err}:
		case <-ctx.Done():
		}
	})
}

func (p *pulls) onOpened(ctx context.Context, o opened) {
	if o.err != nil {
		p.fail(ctx, o.source, o.err)
		return
	}
	o.source.subject, p.empty = o.subject, 0
	for _, s := range p.sources {
		if s.subject == "" {
			return
		}
	}
	p.f.trouble.Over()
}

// fail records a failure of a source, and opens it again.
func (p *pulls) fail(ctx context.Context, s *source, err error) {
	p.f.trouble.Begin(err)
	p.open(ctx, s, reopenPause)
}

// checkSilence opens the sources again that have not answered for too long.
func (p *pulls) checkSilence(ctx context.Context, now time.Time) {
	for _, s := range p.sources {
		if s.waits && now.Sub(s.heard) > 2*pullHeartbeat+time.Second || p.asked == s && now.Sub(p.askedAt) > askTime {
			p.fail(ctx, s, errSilent)
		}
	}
}

// request sends the requests that are due.
func (p *pulls) request() error {
	if p.f.free.Load() == 0 || p.asked != nil {
		return nil
	}
	for ; p.empty < len(p.sources); p.empty++ {
		s := p.sources[p.next]
		if s.subject == "" {
			p.next = (p.next + 1) % len(p.sources)
			continue
		}
		p.asked, p.askedAt, p.requested, p.got = s, time.Now(), int(p.f.free.Load()), 0
		return p.send(s, p.askInbox, map[string]any{"batch": p.requested, "no_wait": true})
	}
	for _, s := range p.sources {
		if s.subject == "" || s.waits {
			continue
		}
		s.waits, s.heard = true, time.Now()
		if err := p.send(s, s.inbox, map[string]any{"batch": 1, "expires": pullExpires, "idle_heartbeat": pullHeartbeat}); err != nil {
			return err
		}
	}
	return nil
}

func (p *pulls) send(s *source, inbox string, request map[string]any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return p.nc.PublishRequest(s.subject, inbox, body)
}

// receive handles a message: a job or a status. A job has a reply subject.
func (p *pulls) receive(ctx context.Context, m *nats.Msg) {
	if m.Sub == p.askSub {
		p.answered(ctx, m)
		return
	}
	for _, s := range p.sources {
		if s.sub != m.Sub {
			continue
		}
		s.heard = time.Now()
		switch status := m.Header.Get("Status"); {
		case m.Reply != "":
			s.waits = false
			p.next, p.empty = s.number, 0 // it may have more
			p.begin(m)
		case status == "408" || status == "404":
			s.waits = false
		case status != "100" && s.subject != "":
			p.fail(ctx, s, fmt.Errorf("worker: pull: %s %s", status, m.Header.Get("Description")))
		}
		return
	}
}

// answered handles an answer to the request without waiting.
func (p *pulls) answered(ctx context.Context, m *nats.Msg) {
	s := p.asked
	if m.Reply != "" {
		p.begin(m)
		p.got++
		if p.requested--; s != nil && p.requested <= 0 {
			p.turn(s)
		}
		return
	}
	if s == nil {
		return // late
	}
	switch status := m.Header.Get("Status"); status {
	case "100":
	case "404", "408":
		p.turn(s)
	default:
		p.fail(ctx, s, fmt.Errorf("worker: pull: %s %s", status, m.Header.Get("Description")))
	}
}

// turn ends a request without waiting. The next source is asked next.
func (p *pulls) turn(s *source) {
	p.asked, p.next = nil, (s.number+1)%len(p.sources)
	if p.empty++; p.got > 0 {
		p.empty = 0
	}
}

// begin starts a job if there is a place for it.
func (p *pulls) begin(m *nats.Msg) {
	if p.f.free.Load() == 0 {
		m.Respond([]byte("-NAK"))
		return
	}
	p.start(m)
}
