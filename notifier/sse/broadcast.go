package sse

import (
	"math"
	"slices"
)

// broadcasts is a queue of the notifications to everyone of a source. They are delivered to a chunk of users at a time, so that
// live messages do not wait until thousands of sockets have been written to. It belongs to Run and the goroutines
// that Run starts with forEachParallel.
type broadcasts struct {
	queue       []liveNotification // those that some user has not got yet, in order
	firstNumber uint64             // the number of queue[0]: how many broadcasts came before it
	unserved    []*userStreams     // the users of the source still to be served in this round
	roundEnd    uint64             // after the round, every user has the broadcasts with lower numbers
	chunkSize   int                // users served at a time
}

const (
	// broadcastChunk is the number of users in a chunk. One core writes to them in less than a millisecond.
	broadcastChunk = 64
	// livePerChunk is the number of live messages that may be received after each chunk. Most are for one user
	// each, so live messages get at least half of the hub's time if they need it.
	livePerChunk = 2 * broadcastChunk
	// maxBroadcasts is the number of queued broadcasts. The hub waits for the end of a round before it takes
	// another one.
	maxBroadcasts = 256
)

// alwaysReady is a closed channel.
var alwaysReady = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// broadcastsReady returns a channel that is ready while there are broadcasts to deliver.
func (h *Hub) broadcastsReady() <-chan struct{} {
	for _, src := range h.sources() {
		if len(src.broadcasts.queue) > 0 {
			return alwaysReady
		}
	}
	return nil
}

// serveBroadcastsLocked delivers the queue of each source to a chunk of its users.
func (h *Hub) serveBroadcastsLocked() {
	for _, src := range h.sources() {
		if len(src.broadcasts.queue) > 0 {
			src.broadcasts.serveChunkLocked(h, src)
		}
	}
}

// endNumber returns the number of the next broadcast.
func (b *broadcasts) endNumber() uint64 { return b.firstNumber + uint64(len(b.queue)) }

// pushLocked queues a broadcast. It serves users while the queue is full.
func (b *broadcasts) pushLocked(h *Hub, src *source, n liveNotification) {
	for len(b.queue) >= maxBroadcasts {
		b.serveChunkLocked(h, src)
	}
	b.queue = append(b.queue, n)
}

// serveChunkLocked delivers the queue to a chunk of users. A user who comes after the round began need not be part
// of it: the streams ask for the end of the log after the broadcasts of this round were stored.
func (b *broadcasts) serveChunkLocked(h *Hub, src *source) {
	if len(b.unserved) == 0 {
		b.unserved, b.roundEnd = slices.Collect(h.eachOfLocked(src)), b.endNumber()
	}
	n := min(b.chunkSize, len(b.unserved))
	forEachParallel(b.unserved[:n], func(us *userStreams) {
		h.checkUserDropsLocked(us)
		b.deliverBelowLocked(us, math.MaxUint64)
	})
	b.unserved = b.unserved[n:]
	if len(b.unserved) == 0 {
		b.queue = slices.Delete(b.queue, 0, int(b.roundEnd-b.firstNumber))
		b.firstNumber, b.unserved = b.roundEnd, nil
	}
}

// deliverBelowLocked delivers to a user the queued broadcasts with sequences below one. It may run for several
// users at a time.
func (b *broadcasts) deliverBelowLocked(us *userStreams, below uint64) {
	for us.nextBroadcast = max(us.nextBroadcast, b.firstNumber); us.nextBroadcast < b.endNumber(); us.nextBroadcast++ {
		n := b.queue[us.nextBroadcast-b.firstNumber]
		if n.seq >= below {
			return
		}
		us.deliverLocked(n)
	}
}

// discard empties the queue.
func (b *broadcasts) discard() {
	b.firstNumber, b.queue, b.unserved = b.endNumber(), nil, nil
}
