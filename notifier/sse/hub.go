package sse

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// Options of a hub. Queue is required.
type Options struct {
	Queue *jobs.Queue
	// HearAll subscribes to the news of all users at once, instead of to those of each who has a stream: more than a
	// kilobyte less for each of them, and work for news that concern nobody here. It is meant for the only hub.
	HearAll bool
	// MaxStreams is how many streams a user may have open; one more ends the oldest. 20.
	MaxStreams int
	// Backlog is how many bytes a stream may owe its reader. What comes on top of that is read from the log
	// once the reader has taken some. 64 KiB.
	Backlog int
	// AllBacklogs is how many bytes all streams together may owe their readers. What comes on top of that is read from the
	// log, too, or, if it was begun, the stream is cut. 256 MiB.
	AllBacklogs int
	// Patience is how long a reader that is owed something may take less than a quarter of Backlog, and not all of it,
	// before it is cut. 30 s.
	Patience time.Duration
	// Keepalive is how long a stream stays silent at most. 15 s.
	Keepalive time.Duration
	// Drain is the time over which readers are told to come back when the hub closes. 5 s.
	Drain time.Duration
	// Taken is called for each connection that is taken over from net/http. It returns what to call when that is closed,
	// which must not block; nil if nobody needs to know.
	Taken func(net.Conn) (closed func())
	Log   *slog.Logger // slog.Default()
}

// Hub brings live messages to the streams of one process. Its methods are safe for concurrent use.
type Hub struct {
	queue  *jobs.Queue
	nc     *nats.Conn
	o      Options
	log    *slog.Logger
	bounds boundsReader

	epoch   atomic.Int64 // jobs.Epoch of the stream
	live    chan *nats.Msg
	readers chan struct{} // a place for each stream that may read the log at a time
	ready   chan struct{} // closed once Run hears what is live, or never will
	lossy   chan struct{} // holds one token when Missed was called

	owed     atomic.Int64 // bytes that wait for readers
	taken    atomic.Int64 // connections that are taken over now
	takeOver bool         // connections, where that can be done
	poller   *poller      // of the connections taken over; set before ready is closed

	seed maphash.Seed // of tokenHash

	mu     sync.RWMutex
	feeds  map[string]*feed // by the user's token
	closed bool
	open   int

	// What follows is for Run alone.
	common   *nats.Subscription // to what concerns everyone, or to all
	pending  broadcasts
	chores   chores
	dropped  int       // messages that the common subscription had lost at the last look
	heard    uint64    // the greatest stream sequence heard live
	horizon  [2]uint64 // what it was one and two keepalives ago
	standing chan standing
	stopAsk  context.CancelFunc
}

// liveBuffer is how many live messages may wait for the hub. What does not fit is dropped, found missing,
// and read from the log.
const liveBuffer = 1 << 16

// logReaders is how many streams may read the log at a time.
const logReaders = 64

// New checks the options and makes a hub of them. It starts nothing.
func New(o Options) (*Hub, error) {
	if o.Queue == nil {
		return nil, errors.New("sse: needs a queue")
	}
	if o.MaxStreams < 0 || o.Backlog < 0 || o.AllBacklogs < 0 || o.Patience < 0 || o.Keepalive < 0 || o.Drain < 0 {
		return nil, errors.New("sse: an option is negative")
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = 20
	}
	if o.Backlog == 0 {
		o.Backlog = 64 << 10
	}
	if o.AllBacklogs == 0 {
		o.AllBacklogs = 256 << 20
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	if o.Keepalive == 0 {
		o.Keepalive = 15 * time.Second
	}
	if o.Drain == 0 {
		o.Drain = 5 * time.Second
	}
	if o.Taken == nil {
		o.Taken = func(net.Conn) func() { return nil }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	h := &Hub{
		queue: o.Queue, nc: o.Queue.Conn(), o: o, log: o.Log.With("part", "hub"),
		live: make(chan *nats.Msg, liveBuffer), readers: make(chan struct{}, logReaders),
		ready: make(chan struct{}), lossy: make(chan struct{}, 1),
		pending: broadcasts{chunk: broadcastChunk},
		seed:    maphash.MakeSeed(),
		feeds:   make(map[string]*feed), standing: make(chan standing), stopAsk: func() {}, takeOver: true,
	}
	h.epoch.Store(int64(o.Queue.Epoch()))
	h.bounds.read = o.Queue.Bounds
	return h, nil
}

// Run brings live messages to the streams until ctx ends. Then it says bye on every stream, with a time to
// come back that is spread over [Options.Drain], ends them all, takes no more, and returns nil. It runs once.
// It returns an error, and does the same, when the connection to NATS is closed for good.
func (h *Hub) Run(ctx context.Context) (err error) {
	if h.poller, err = newPoller(); err != nil {
		h.close()
		return err
	}
	polled := make(chan struct{})
	go func() { h.poller.run(); close(polled) }()
	defer func() {
		h.close()
		h.poller.stop()
		<-polled
	}()
	// Heard before the first subscription, so that no loss of the connection goes unnoticed.
	events := h.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer h.nc.RemoveStatusListener(events)
	common := jobs.LiveSubject(jobs.Everyone)
	if h.o.HearAll {
		common = jobs.LiveSubjects
	}
	if h.common, err = h.nc.ChanSubscribe(common, h.live); err != nil {
		return fmt.Errorf("sse: %w", err)
	}
	defer h.common.Unsubscribe()
	if _, h.heard, err = h.bounds.get(ctx); err != nil && ctx.Err() == nil {
		h.log.Warn("log not asked where it stands; a loss now costs more to mend", "err", err)
	}
	h.age()
	h.age()
	defer func() { h.stopAsk() }()
	close(h.ready)
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-h.live:
			err = h.hear(ctx, events, m)
		case <-h.pending.due():
			err = h.some(ctx, events, func() { h.pending.serve(h) })
		case <-h.chores.due():
			err = h.some(ctx, events, h.doChores)
		case status := <-events:
			err = h.connection(ctx, status)
		case at := <-h.standing:
			h.stands(at)
		case <-h.lossy:
			h.mend()
		case now := <-second.C:
			h.tick(now)
		}
		if err != nil {
			return err
		}
	}
}

// hear takes in a live message.
func (h *Hub) hear(ctx context.Context, events <-chan nats.Status, m *nats.Msg) (err error) {
	// What comes over a new connection comes after the word of it, and must not be taken for the next thing
	// after what came over the old one.
	select {
	case status := <-events:
		err = h.connection(ctx, status)
	default:
	}
	h.dispatch(m)
	return err
}

// some does something for some feeds, and hears what has come meanwhile.
func (h *Hub) some(ctx context.Context, events <-chan nats.Status, do func()) error {
	h.mu.RLock()
	do()
	h.mu.RUnlock()
	for range liveShare {
		select {
		case m := <-h.live:
			if err := h.hear(ctx, events, m); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// owesTooMuch reports whether there is no room for n bytes more in what all readers are owed.
func (h *Hub) owesTooMuch(n int) bool { return h.owed.Load()+int64(n) > int64(h.o.AllBacklogs) }

func (h *Hub) currentEpoch() jobs.Epoch { return jobs.Epoch(h.epoch.Load()) }

// add makes s a stream of the user's feed. The oldest one leaves when there are too many.
func (h *Hub) add(s *stream, user string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	token := jobs.EscapeUser(user)
	f := h.feeds[token]
	if f == nil {
		f = &feed{token: token}
		if !h.o.HearAll {
			var err error
			if f.sub, err = h.nc.ChanSubscribe(jobs.LiveSubject(user), h.live); err != nil {
				return fmt.Errorf("sse: %w", err)
			}
		}
		// What was lost before is in the log that the stream is to ask about.
		if n, err := h.bringing(f).Dropped(); err == nil {
			f.dropped = n
		}
		h.feeds[token] = f
	}
	s.phase = uint16(rand.Uint32())
	h.open++
	if f.add(s) > h.o.MaxStreams {
		f.oldest.end("too_many_streams", "Another stream of yours was opened, and this is the oldest.", time.Minute)
		f.remove(f.oldest) // at once: the next one may come before the stream's own end does it
		h.open--
	}
	return nil
}

// remove forgets a stream that has ended.
func (h *Hub) remove(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := s.feed
	if f == nil {
		return // it was never added
	}
	if !f.remove(s) {
		return
	}
	if h.open--; f.oldest != nil {
		return
	}
	delete(h.feeds, f.token)
	if f.sub == nil {
		return
	}
	if err := f.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		h.log.Warn("not unsubscribed", "err", err)
	}
}

// Open returns how many streams are open.
func (h *Hub) Open() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.open
}

// TakenOver returns how many connections the hub has that were taken over from net/http.
func (h *Hub) TakenOver() int { return int(h.taken.Load()) }

func (h *Hub) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	select {
	case <-h.ready:
	default:
		close(h.ready) // Serve need wait no more
	}
	h.end("shutting_down", "This server stops; another one, or the same, will take over.")
}

// end ends every stream, and spreads when they come back.
func (h *Hub) end(code, message string) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, f := range h.feeds {
		for s := range f.streams {
			s.end(code, message, rand.N(h.o.Drain)+100*time.Millisecond)
		}
	}
}

// ErrClosed is returned by [Hub.Serve] once the hub takes no more streams.
var ErrClosed = errors.New("sse: the hub is closed")
