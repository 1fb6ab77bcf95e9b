package sse

import (
	"maps"
	"math"
	"slices"
)

// broadcasts are the notifications to everyone that are on their way to the feeds. They go to some feeds at a
// time, so that nobody else's news waits until a crowd has been written to. For Run, and whom it has serve the feeds.
type broadcasts struct {
	notes []liveNote // which not every feed has been handed yet, in order
	first uint64     // the number of notes[0]: how many there were before it
	round []*feed    // those still to be served
	upTo  uint64     // when the round is over, all have been handed what has a number below this
	chunk int        // how many feeds are served at a time
}

const (
	// broadcastChunk feeds are written to in less than a millisecond, by one core.
	broadcastChunk = 64
	// liveShare is how many live messages go before the next chunk, most of them to one feed each: at least
	// half of the hub's time is for them, if they need it.
	liveShare = 2 * broadcastChunk
	// maxBroadcasts may be on their way. One more waits for the end of a round, and so does what comes after it.
	maxBroadcasts = 256
)

// always is ready.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// due is ready while there is something to be handed out.
func (b *broadcasts) due() <-chan struct{} {
	if len(b.notes) == 0 {
		return nil
	}
	return always
}

func (b *broadcasts) end() uint64 { return b.first + uint64(len(b.notes)) }

// add takes in a broadcast that was heard. The hub's lock is held for reading.
func (b *broadcasts) add(h *Hub, n liveNote) {
	for len(b.notes) >= maxBroadcasts {
		b.serve(h)
	}
	b.notes = append(b.notes, n)
}

// serve hands some feeds what they have not been handed. The hub's lock is held for reading. A feed that is
// made after the round began need not be in it: its streams ask where the log stands after the broadcasts of
// this round were stored.
func (b *broadcasts) serve(h *Hub) {
	if len(b.round) == 0 {
		b.round, b.upTo = slices.Collect(maps.Values(h.feeds)), b.end()
	}
	n := min(b.chunk, len(b.round))
	together(b.round[:n], func(f *feed) {
		h.mendFeed(f)
		b.hand(f, math.MaxUint64)
	})
	if b.round = b.round[n:]; len(b.round) == 0 {
		b.notes = slices.Delete(b.notes, 0, int(b.upTo-b.first))
		b.first, b.round = b.upTo, nil
	}
}

// hand hands a feed the broadcasts with sequences below one that it has not been handed. It may be called for several
// feeds at a time.
func (b *broadcasts) hand(f *feed, below uint64) {
	for f.broadcasts = max(f.broadcasts, b.first); f.broadcasts < b.end(); f.broadcasts++ {
		n := b.notes[f.broadcasts-b.first]
		if n.seq >= below {
			return
		}
		f.note(n)
	}
}

// forget drops them all, when they are of a log that is no more.
func (b *broadcasts) forget() {
	b.first, b.notes, b.round = b.end(), nil, nil
}
