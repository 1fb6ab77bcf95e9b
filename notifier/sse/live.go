package sse

import (
	"strconv"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// feed is one user's place in the hub: a subscription and the streams that it serves.
type feed struct {
	sub     *nats.Subscription
	streams []*stream // the oldest first

	// What follows is for Run alone.
	dropped    int    // messages that sub had lost at the last look
	broadcasts uint64 // the number of the next one to be handed to it
}

// dispatch turns one live message into a frame and hands it to the streams that want it.
func (h *Hub) dispatch(m *nats.Msg) {
	token, topic, ok := jobs.ParseSubject(m.Subject)
	if !ok {
		return
	}
	seq := headerSeq(m, jetstream.SequenceHeader)
	h.heard = max(h.heard, seq)
	h.mu.RLock()
	defer h.mu.RUnlock()
	if token == jobs.Everyone {
		if topic == jobs.TopicNote {
			n := h.note(m, seq)
			n.everyone = true
			h.pending.add(h, n)
		}
		return
	}
	f := h.feeds[token]
	if f == nil {
		return
	}
	switch topic {
	case jobs.TopicNote:
		// Its id tells a reader that it has every broadcast before it, too.
		h.mendEveryone()
		f.mend(h.horizon[1])
		h.pending.hand(f, seq)
		f.note(h.note(m, seq))
	case jobs.TopicInbox:
		f.send(inboxFrame(m.Data))
	case jobs.TopicJob, jobs.TopicState:
		f.send(jobFrame(topic, seq, m.Data))
	}
}

// liveNote is a notification as it arrived live.
type liveNote struct {
	seq, prev uint64 // its sequence, and that of the one before it on the same subject
	everyone  bool
	frame     []byte // nil if it is malformed; it takes part in the counting all the same
}

func (h *Hub) note(m *nats.Msg, seq uint64) liveNote {
	return liveNote{
		seq: seq, prev: headerSeq(m, jetstream.LastSequenceHeader),
		frame: noteFrame(jobs.EventID{Epoch: h.currentEpoch(), Seq: seq}, 0, m.Data),
	}
}

func headerSeq(m *nats.Msg, name string) uint64 {
	v := m.Header[name]
	if len(v) == 0 {
		return 0
	}
	// The server adds its own behind what a publisher may have set. 0 stands for none.
	seq, _ := strconv.ParseUint(v[len(v)-1], 10, 64)
	return seq
}

func (f *feed) note(n liveNote) {
	for _, s := range f.streams {
		s.note(n)
	}
}

// send hands news to the user's streams.
func (f *feed) send(n news) {
	if n.frame == nil {
		return
	}
	for _, s := range f.streams {
		s.send(n)
	}
}
