package sse

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/sharedcall"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// Options configures a [Hub].
type Options struct {
	// Queue is the log that the hub serves. It is required.
	Queue *joblog.Store
	// SubscribeAll makes the hub use one subscription for the live messages of all users, instead of one per
	// connected user. It saves more than a kilobyte per user and costs work for messages that concern no stream
	// here. It is meant for the only hub of a log. Defaults to false.
	SubscribeAll bool
	// Exclusive says that no foreign program can publish on the NATS server. The hub then trusts the sequences of
	// live messages. Otherwise it verifies that the log holds them, with one question for all messages of about a
	// millisecond. Defaults to false.
	Exclusive bool
	// MaxStreams is the number of streams that a user may have open. One more ends the oldest. Defaults to 20.
	MaxStreams int
	// Backlog is the number of bytes that may be pending for one stream. Events beyond it are read from the log
	// once the reader has caught up. Defaults to 64 KiB.
	Backlog int
	// TotalBacklog is the number of bytes that may be pending for all streams together. Events beyond it are read
	// from the log, too; a stream with a partly written event is cut. The last quarter is reserved for streams
	// with nothing pending, which are cut when they do not take it within a second. Defaults to 256 MiB.
	TotalBacklog int
	// WriteTimeout is the time in which a slow reader must take a quarter of Backlog, or all that is pending.
	// Otherwise its stream is cut. Defaults to 30 s.
	WriteTimeout time.Duration
	// Heartbeat is the interval between two heartbeat events of a stream, in whole seconds. Defaults to 15 s.
	Heartbeat time.Duration
	// PollIdle is the time for which the stream of a polling reader is kept after a poll. After the first poll it
	// is a quarter of that. Defaults to 60 s.
	PollIdle time.Duration
	// Drain is the time over which the reconnects of all readers are spread when the hub closes. Defaults to 5 s.
	Drain time.Duration
	// OnTakeOver is called for each connection that is taken over from net/http. It returns a function that is
	// called when the connection is closed, or nil. That function must not block. Defaults to none.
	OnTakeOver func(net.Conn) (closed func())
	// Announced says whether the listeners of a topic get the events join and leave, with the users who begin and end to listen.
	// It must not block, and must always say the same of a topic, at all hubs. Defaults to none.
	Announced func(topic string) bool
	// Logger defaults to [slog.Default].
	Logger *slog.Logger
}

// Hub delivers live messages to the event streams of one process. Its methods are safe for concurrent use.
type Hub struct {
	queue *joblog.Store
	nc    *nats.Conn
	ns    joblog.Namespace
	o     Options
	log   *slog.Logger
	from  atomic.Pointer[[]*source] // the streams of the log

	epoch        atomic.Int64 // jobs.Epoch of the log
	live         chan *nats.Msg
	logReaders   chan struct{} // one slot per stream that may read the log at a time
	ready        chan struct{} // closed once Run has subscribed, or has failed
	slowConsumer chan struct{} // holds one token after NotifySlowConsumer

	skipped      atomic.Uint64
	failedReads  failedReads
	pendingBytes atomic.Int64 // bytes pending for all readers
	takenOver    atomic.Int64 // connections that are taken over at present
	takeOver     bool         // take connections over where that is possible
	poller       *poller      // watches the connections taken over; set before ready is closed

	name      string // identifies this hub to other hubs, and in the keys of poll sessions
	polls     pollSessions
	forwarded sync.WaitGroup // polls that other hubs have forwarded to this one

	presences  *sharedcall.Group[string, jobs.Presence] // by the keys of topics
	known      atomic.Pointer[knownHubs]
	leaveGrace time.Duration
	byeAfter   int64

	tokenSeed maphash.Seed // for tokenHash

	mu          sync.RWMutex
	users       map[string]*userStreams // by the user's subject token
	topics      map[string]*topic       // those with listeners, by their keys
	audiences   map[string]*audience    // those of announced topics, by their keys
	closed      bool
	openStreams int

	// The fields below belong to Run.
	commonSub     *nats.Subscription // for all users, with Options.SubscribeAll; otherwise nil
	ends          chan logEnd
	housekeeping  housekeeping
	stored        chan storedMessages
	comparing     sync.WaitGroup // counts the goroutines of readStored
	received      uint64         // counts the live messages
	liveEvents    liveEvents
	beats         beats
	cutOff        cutOff
	attendances   chan *nats.Msg // from the subscriptions of all audiences
	logPositions  chan logPosition
	checkingEpoch atomic.Bool        // checkEpoch is under way
	logEnds       logEnds            // belongs to checkEpoch
	cancelFetch   context.CancelFunc // stops fetchLogPosition
}

// liveBuffer is the number of live messages that may wait for the hub. NATS drops further ones; the hub detects
// that, and the streams read them from the log.
const liveBuffer = 1 << 16

// maxLogReaders is the number of streams that may read the log at a time.
const maxLogReaders = 64

// New returns a hub. It starts nothing and does no I/O. It returns an error if Queue is missing or an option is
// negative.
func New(o Options) (*Hub, error) {
	if o.Queue == nil {
		return nil, errors.New("sse: needs a queue")
	}
	if o.MaxStreams < 0 || o.Backlog < 0 || o.TotalBacklog < 0 || o.WriteTimeout < 0 || o.Heartbeat < 0 || o.PollIdle < 0 || o.Drain < 0 {
		return nil, errors.New("sse: an option is negative")
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = 20
	}
	if o.Backlog == 0 {
		o.Backlog = maxEvent
	}
	if o.TotalBacklog == 0 {
		o.TotalBacklog = 256 << 20
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 30 * time.Second
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 15 * time.Second
	}
	if o.PollIdle == 0 {
		o.PollIdle = time.Minute
	}
	if o.Drain == 0 {
		o.Drain = 5 * time.Second
	}
	if o.OnTakeOver == nil {
		o.OnTakeOver = func(net.Conn) func() { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	h := &Hub{
		queue: o.Queue, nc: o.Queue.Conn(), ns: o.Queue.Namespace(), o: o, log: o.Logger.With("part", "hub"),
		live: make(chan *nats.Msg, liveBuffer), logReaders: make(chan struct{}, maxLogReaders),
		ready: make(chan struct{}), slowConsumer: make(chan struct{}, 1),
		name: crand.Text(), tokenSeed: maphash.MakeSeed(), ends: make(chan logEnd), stored: make(chan storedMessages),
		liveEvents: liveEvents{received: make(chan *nats.Msg, eventBuffer), prefix: o.Queue.Namespace().TopicSubject("")},
		beats:      beats{received: make(chan *nats.Msg, beatBuffer), others: make(map[string]*otherHub), departed: make(map[string]time.Time)},
		leaveGrace: defaultLeaveGrace, byeAfter: defaultByeAfter, logEnds: logEnds{settleAfter: defaultSettleAfter},
		audiences: make(map[string]*audience), attendances: make(chan *nats.Msg, attendanceBuffer),
		topics: make(map[string]*topic),
		users:  make(map[string]*userStreams), logPositions: make(chan logPosition), cancelFetch: func() {}, takeOver: true,
	}
	h.epoch.Store(int64(o.Queue.Epoch()))
	sources := h.newSources(o.Queue.Streams())
	h.from.Store(&sources)
	h.presences = sharedcall.New(presenceTimeout, h.gather)
	h.noteKnownHubs()
	return h, nil
}

// Run delivers live messages to the streams until ctx ends, then closes the hub and returns nil. It returns an
// error, and also closes the hub, if it cannot subscribe or if the connection to NATS is closed for good. Run must
// be called once.
//
// When the hub closes, every stream gets a bye event with a reconnect time that is spread over [Options.Drain],
// and ends. New streams are refused with [ErrClosed].
func (h *Hub) Run(ctx context.Context) (err error) {
	if h.poller, err = newPoller(); err != nil {
		h.close()
		return err
	}
	polled := make(chan struct{})
	go func() { h.poller.run(); close(polled) }()
	defer func() {
		h.close()
		h.forwarded.Wait()
		h.presences.Close()
		h.poller.stop()
		<-polled
	}()
	// The listener comes before the first subscription, so that no reconnect goes unnoticed.
	events := h.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer h.nc.RemoveStatusListener(events)
	if h.o.SubscribeAll {
		if h.commonSub, err = h.nc.ChanSubscribe(h.ns.LiveSubjects(), h.live); err != nil {
			return fmt.Errorf("sse: %w", err)
		}
		defer h.commonSub.Unsubscribe()
	} else {
		defer h.endListening()
		if err := h.listenToBroadcasts(); err != nil {
			return err
		}
	}
	for _, src := range h.sources() {
		if _, src.lastHeard, err = src.bounds.get(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("end of the log unknown at start; catching up after a lost message will read more of the log", "stream", src.number, "err", err)
		} else {
			h.restartComparison(src, src.lastHeard)
		}
	}
	h.advanceReplayFloor()
	h.advanceReplayFloor()
	defer func() { h.cancelFetch() }()
	forwarded, err := h.serveForwardedPolls()
	if err != nil {
		return fmt.Errorf("sse: %w", err)
	}
	defer forwarded.Unsubscribe()
	otherHubs, err := h.nc.ChanSubscribe(h.ns.HubsSubject(), h.beats.received)
	if err != nil {
		return fmt.Errorf("sse: %w", err)
	}
	defer otherHubs.Unsubscribe()
	presence, err := h.servePresence()
	if err != nil {
		return fmt.Errorf("sse: %w", err)
	}
	defer presence.Unsubscribe()
	h.publishBeat(false) // at once, so that the others know of this hub
	defer h.publishBeat(true)
	comparing, stopComparing := context.WithCancel(ctx)
	defer h.endComparison()
	defer stopComparing()
	close(h.ready)
	suspects := time.NewTicker(suspectCheckInterval)
	defer suspects.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-h.live:
			err = h.receive(ctx, events, m)
		case m := <-h.liveEvents.received:
			err = h.receiveEvent(ctx, events, m)
		case <-h.liveEvents.ready():
			err = h.doShare(ctx, events, h.serveListenersLocked)
		case m := <-h.beats.received:
			h.onBeat(m, time.Now())
		case m := <-h.attendances:
			h.onAttendance(m)
		case <-h.broadcastsReady():
			err = h.doShare(ctx, events, h.serveBroadcastsLocked)
		case <-h.housekeeping.ready():
			err = h.doShare(ctx, events, h.housekeepChunkLocked)
		case status := <-events:
			err = h.onConnStatus(ctx, status)
		case at := <-h.logPositions:
			h.onLogPosition(at)
		case p := <-h.ends:
			h.onLogEnd(ctx, p)
		case found := <-h.stored:
			h.onStored(found, time.Now())
		case now := <-suspects.C:
			h.resolveSuspects(now)
		case <-h.slowConsumer:
			h.checkDrops()
		case now := <-second.C:
			h.publishBeat(false)
			h.checkConnection(now)
			h.checkBeats(now)
			h.noteKnownHubs()
			h.updateAudiences(now)
			h.startHousekeeping(now)
			err = h.checkSpread(ctx)
			h.startComparing(comparing)
			if h.housekeeping.second%h.heartbeatPeriod() == 0 || h.queue.Epoch() != h.currentEpoch() {
				h.checkEpoch(ctx)
			}
		}
		if err != nil {
			return err
		}
	}
}

// receive handles one live message. A pending change of the connection is handled first.
func (h *Hub) receive(ctx context.Context, events <-chan nats.Status, m *nats.Msg) (err error) {
	// NATS signals a reconnect before it delivers a message of the new connection. The signal is handled first, so that
	// this message does not pass for the direct successor of one from the old connection.
	select {
	case status := <-events:
		err = h.onConnStatus(ctx, status)
	default:
	}
	h.onLive(ctx, m)
	h.received++
	return err
}

// doShare calls do with the lock held for reading, and then receives up to livePerChunk live messages. It keeps
// long work for many users from delaying the live messages of others.
func (h *Hub) doShare(ctx context.Context, events <-chan nats.Status, do func()) error {
	h.mu.RLock()
	do()
	h.mu.RUnlock()
	for range livePerChunk {
		select {
		case m := <-h.live:
			if err := h.receive(ctx, events, m); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// exceedsTotal reports whether n more bytes would exceed Options.TotalBacklog.
func (h *Hub) exceedsTotal(n int) bool {
	return h.pendingBytes.Load()+int64(n) > int64(h.o.TotalBacklog)
}

// exceedsShared reports whether n more bytes would exceed the part of Options.TotalBacklog that streams with
// pending bytes share. The last quarter is reserved for streams with nothing pending, so that they do not wait for
// slow readers.
func (h *Hub) exceedsShared(n int) bool { return h.exceedsTotal(n + h.o.TotalBacklog/4) }

func (h *Hub) currentEpoch() jobs.Epoch { return jobs.Epoch(h.epoch.Load()) }

// addStream adds s to the user's streams. If the user has too many then, it ends the oldest. It returns ErrClosed
// if the hub is closed, or the error of the subscription.
func (h *Hub) addStream(s *stream, user string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	token := joblog.EscapeUser(user)
	us := h.users[token]
	if us == nil {
		us = &userStreams{token: token}
		if !h.o.SubscribeAll {
			var err error
			if us.sub, err = h.nc.ChanSubscribe(h.ns.LiveSubject(user), h.live); err != nil {
				return fmt.Errorf("sse: %w", err)
			}
		}
		// Messages dropped before now are in the log, whose end the stream asks for after this.
		if n, err := h.subscriptionFor(us).Dropped(); err == nil {
			us.droppedSeen = n
		}
		h.users[token] = us
	}
	s.heartbeatSlot = uint16(rand.Uint32())
	h.openStreams++
	if us.addLocked(s) > h.o.MaxStreams {
		us.oldest.end("too_many_streams", "Too many streams of yours are open; the oldest was closed.", time.Minute)
		us.removeLocked(us.oldest) // at once: another stream may be added before the ended one removes itself
		h.openStreams--
	}
	return nil
}

// removeStream removes a stream that has ended. It unsubscribes from the user's messages with the user's last
// stream.
func (h *Hub) removeStream(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaveTopicsLocked(s)
	us := s.user
	if us == nil {
		return // it was never added
	}
	if !us.removeLocked(s) {
		return
	}
	h.openStreams--
	if us.oldest != nil {
		return
	}
	delete(h.users, us.token)
	if us.sub == nil {
		return
	}
	if err := us.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		h.log.Warn("unsubscribe failed", "err", err)
	}
}

// Open returns the number of open streams.
func (h *Hub) Open() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.openStreams
}

// TakenOver returns the number of open connections that were taken over from net/http.
func (h *Hub) TakenOver() int { return int(h.takenOver.Load()) }

// close ends all streams, and makes Serve and Poll fail with ErrClosed.
func (h *Hub) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	select {
	case <-h.ready:
	default:
		close(h.ready) // releases Serve and Poll
	}
	h.endAll("shutting_down", "The server is shutting down; reconnect.")
}

// endAll ends every stream with a bye event. The reconnect times are spread over Options.Drain.
func (h *Hub) endAll(code, message string) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, us := range h.users {
		for s := range us.eachLocked {
			s.end(code, message, rand.N(h.o.Drain)+100*time.Millisecond)
		}
	}
}

// ErrClosed is returned by [Hub.Serve] and [Hub.Poll] once the hub is closed.
var ErrClosed = errors.New("sse: the hub is closed")
