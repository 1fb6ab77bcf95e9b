package sse

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// SetLive gives the hub another room for live messages. Before Run only.
func (h *Hub) SetLive(n int) { h.live = make(chan *nats.Msg, n) }

// Waiting returns how many live messages wait for the hub.
func (h *Hub) Waiting() int { return len(h.live) }

// Hold keeps the hub from handing anything out until release is called.
func (h *Hub) Hold() (release func()) {
	h.mu.Lock()
	return h.mu.Unlock
}

// Feeds returns how many users the hub is subscribed for.
func (h *Hub) Feeds() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.feeds)
}

// FailBounds lets the question where the log stands fail while set was last called with an error. Before Run
// only.
func (h *Hub) FailBounds() (set func(error)) {
	var failing atomic.Pointer[error]
	read := h.bounds.read
	h.bounds.read = func(ctx context.Context) (first, last uint64, err error) {
		if err := failing.Load(); err != nil && *err != nil {
			return 0, 0, *err
		}
		return read(ctx)
	}
	return func(err error) { failing.Store(&err) }
}

func JobFrame(topic jobs.Topic, seq uint64, stored []byte) []byte {
	return jobFrame(topic, seq, stored).frame
}

func InboxFrame(data []byte) []byte { return inboxFrame(data).frame }

func HelloFrame(user, id string, at time.Time) []byte {
	return jsonFrame("hello", id, helloData{user, id, at})
}

var (
	NoteFrame   = noteFrame
	ByeFrame    = bye
	Keepalive   = keepalive
	ResumePoint = resumePoint
)

// Ordinary makes the hub take no connection over. Before Run only.
func (h *Hub) Ordinary() { h.takeOver = false }

// Crumble makes the hub serve so many feeds at a time when it broadcasts. Before Run only.
func (h *Hub) Crumble(chunk int) { h.pending.chunk = chunk }

// NoLog lets no stream read the log: one that falls behind stays there. Before Run only.
func (h *Hub) NoLog() { h.readers = make(chan struct{}) }

// Full returns how many streams have no room for more.
func (h *Hub) Full() (n int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for _, f := range h.feeds {
		for s := range f.streams {
			if s.wire.room(now, 1) != nil {
				n++
			}
		}
	}
	return n
}

// Owed returns how many bytes wait for readers.
func (h *Hub) Owed() int64 { return h.owed.Load() }
