package sse

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// SetLiveBuffer sets the number of live messages that may wait for the hub. It must be called before Run.
func (h *Hub) SetLiveBuffer(n int) { h.live = make(chan *nats.Msg, n) }

// WaitingLive returns the number of live messages that wait for the hub.
func (h *Hub) WaitingLive() int { return len(h.live) }

// PauseDelivery keeps the hub from delivering anything until release is called.
func (h *Hub) PauseDelivery() (release func()) {
	h.mu.Lock()
	return h.mu.Unlock
}

// Users returns the number of users with open streams.
func (h *Hub) Users() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.users)
}

// FailBounds makes requests for the bounds of the log fail while set was last called with an error. It must be
// called before Run.
func (h *Hub) FailBounds() (set func(error)) {
	var failing atomic.Pointer[error]
	for _, src := range h.sources() {
		read := src.bounds.read
		src.bounds.read = func(ctx context.Context) (first, last uint64, err error) {
			if err := failing.Load(); err != nil && *err != nil {
				return 0, 0, *err
			}
			return read(ctx)
		}
	}
	return func(err error) { failing.Store(&err) }
}

func JobFrame(subject string, seq uint64, stored []byte) []byte {
	u, _ := encodeJob(subject, seq, stored)
	return u.frame
}

func InboxFrame(data []byte) []byte { return encodeInboxChange(data).frame }

func HelloFrame(id jobs.Position, user string, at time.Time) []byte {
	return append(idLine(nil, id), jsonFrame("hello", helloData{user, id.String(), at})...)
}

var (
	NotificationFrame = encodeNotification
	IDLine            = idLine
	ByeFrame          = byeFrame
	Heartbeat         = heartbeat
	ResumePoint       = resumePoint
)

// MaxIDLine is the greatest length of an id line.
const MaxIDLine = maxIDLine

// DisableTakeOver makes the hub take no connection over. It must be called before Run.
func (h *Hub) DisableTakeOver() { h.takeOver = false }

// SetBroadcastChunk sets the number of users that a broadcast is delivered to at a time. It must be called before
// Run.
func (h *Hub) SetBroadcastChunk(chunk int) {
	for _, src := range h.sources() {
		src.broadcasts.chunkSize = chunk
	}
}

// DisableReplay keeps every stream from reading the log: one that must catch up stays in that state. The hub does not compare
// what it has received with the log either: on a machine that stands still it would take a late message for a lost one. It
// must be called before Run.
func (h *Hub) DisableReplay() {
	h.logReaders = make(chan struct{})
	for _, src := range h.sources() {
		src.comparison.reading = true
	}
}

// FullStreams returns the number of streams without room for more.
func (h *Hub) FullStreams() (n int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for _, us := range h.users {
		for s := range us.eachLocked {
			if s.conn.waitWritable(now, 1) != nil {
				n++
			}
		}
	}
	return n
}

// PollSessions returns the number of streams whose readers poll.
func (h *Hub) PollSessions() int { return len(h.pollSessions()) }

// WaitingPolls returns the number of polls that wait.
func (h *Hub) WaitingPolls() (n int) {
	for _, s := range h.pollSessions() {
		s.mu.Lock()
		if s.wake != nil {
			n++
		}
		s.mu.Unlock()
	}
	return n
}

// PausedReplays returns the number of streams whose replay waits for the next poll.
func (h *Hub) PausedReplays() (n int) {
	for _, s := range h.pollSessions() {
		s.stream.mu.Lock()
		if s.stream.catchUp != nil && s.stream.catchUp.paused {
			n++
		}
		s.stream.mu.Unlock()
	}
	return n
}

func (h *Hub) pollSessions() []*pollSession {
	h.polls.mu.Lock()
	defer h.polls.mu.Unlock()
	return slices.Collect(maps.Values(h.polls.byKey))
}

// PendingBytes returns the number of bytes pending for all readers.
func (h *Hub) PendingBytes() int64 { return h.pendingBytes.Load() }

// SetEventBuffer sets the number of live events that may wait for the hub. It must be called before Run.
func (h *Hub) SetEventBuffer(n int) { h.liveEvents.received = make(chan *nats.Msg, n) }

// EventsDropped returns a function that returns the number of events of a topic that NATS has dropped.
func (h *Hub) EventsDropped(key string) func() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	sub := h.topics[key].sub
	return func() int { n, _ := sub.Dropped(); return n }
}

// WaitingEvents returns the number of live events that wait for the hub.
func (h *Hub) WaitingEvents() int { return len(h.liveEvents.received) }

// BeforeBounds makes each request for the bounds of the log call a function first. It must be called before Run.
func (h *Hub) BeforeBounds(do func()) {
	for _, src := range h.sources() {
		read := src.bounds.read
		src.bounds.read = func(ctx context.Context) (first, last uint64, err error) {
			do()
			return read(ctx)
		}
	}
}

// SetLeaveGrace sets the time after which a user without streams has left a topic. It must be called before Run.
func (h *Hub) SetLeaveGrace(d time.Duration) { h.leaveGrace = d }

// SetByeAfter sets the seconds without a connection after which streams end. It must be called before Run.
func (h *Hub) SetByeAfter(seconds int64) { h.byeAfter = seconds }

// KnownHubs returns the number of other hubs that this one knows.
func (h *Hub) KnownHubs() int { return len(h.known.Load().hubs) }

// Audiences returns the number of announced topics with listeners.
func (h *Hub) Audiences() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.audiences)
}

// PublishedUsers returns the number of users here who listen to an announced topic, without those who are not published yet.
func (h *Hub) PublishedUsers(key string) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	a := h.audiences[key]
	return len(a.own) - len(a.came)
}

// SecondsWithoutNATS returns for how long the hub has had no connection.
func (h *Hub) SecondsWithoutNATS() int { return int(h.cutOff.seconds.Load()) }

// SetSettleAfter sets the age of a settled end of the log. It must be called before Run.
func (h *Hub) SetSettleAfter(d time.Duration) { h.logEnds.settleAfter = d }
