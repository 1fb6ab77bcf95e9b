package sse

import (
	"strconv"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// feed is one user's place in the hub: the streams that the user's news go to, and the subscription that brings them,
// unless one brings all. Nearly every user has one stream, so they are chained to each other, and not kept in a slice.
type feed struct {
	token  string             // the user's in subjects
	sub    *nats.Subscription // nil with [Options.HearAll]
	oldest *stream

	// What follows is for Run, and whom it has serve the feed.
	dropped    int    // messages that its subscription had lost at the last look
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
		h.mendCommon()
		h.mendFeed(f)
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

func (f *feed) user() string {
	user, err := jobs.UnescapeUser(f.token)
	if err != nil {
		panic(err) // the token was escaped by this module
	}
	return user
}

// streams yields the feed's streams, the oldest first.
func (f *feed) streams(yield func(*stream) bool) {
	for s := f.oldest; s != nil; s = s.newer {
		if !yield(s) {
			return
		}
	}
}

// add makes s the feed's newest stream, and returns how many there are.
func (f *feed) add(s *stream) (n int) {
	end := &f.oldest
	for n = 1; *end != nil; n++ {
		end = &(*end).newer
	}
	*end, s.feed = s, f
	return n
}

// remove reports whether s was one of the feed's streams.
func (f *feed) remove(s *stream) bool {
	for at := &f.oldest; *at != nil; at = &(*at).newer {
		if *at == s {
			*at, s.newer = s.newer, nil
			return true
		}
	}
	return false
}

func (f *feed) note(n liveNote) {
	for s := range f.streams {
		s.note(n)
	}
}

// send hands news to the user's streams.
func (f *feed) send(n news) {
	if n.frame == nil {
		return
	}
	for s := range f.streams {
		s.send(n)
	}
}
