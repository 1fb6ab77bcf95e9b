package sse

import (
	"maps"
	"slices"
	"time"
)

// chores are what is done for every feed each second. They are done for some feeds at a time, like broadcasts, so that
// nobody's news waits until thousands of sockets have been written to. For Run alone.
type chores struct {
	all   []*feed // those of this second; its room is used again in the next
	round []*feed // those of them still to be served
	turn  uint64  // counts the seconds
	now   time.Time
}

// due is ready while there is something to be done.
func (c *chores) due() <-chan struct{} {
	if len(c.round) == 0 {
		return nil
	}
	return always
}

// tick begins the chores of a second.
func (h *Hub) tick(now time.Time) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for len(h.chores.round) > 0 { // of the second before, if there was no time
		h.doChores()
	}
	h.mendCommon()
	h.chores.turn++
	// Every feed was looked at since the horizon's next place was heard, so nothing lost lies behind it.
	if h.chores.turn%h.keepalivePeriod() == 0 {
		h.age()
	}
	c := &h.chores
	clear(c.all) // what has left since is not to be kept
	c.all = slices.AppendSeq(c.all[:0], maps.Values(h.feeds))
	c.now, c.round = now, c.all
}

// keepalivePeriod is how many seconds a stream stays silent at most.
func (h *Hub) keepalivePeriod() uint64 { return max(uint64(h.o.Keepalive/time.Second), 1) }

// doChores does them for some feeds: it looks whether messages were lost, keeps alive a share of the streams, and ends
// those whose tokens have expired. The hub's lock is held for reading.
func (h *Hub) doChores() {
	c, period := &h.chores, h.keepalivePeriod()
	n := min(broadcastChunk, len(c.round))
	for _, f := range c.round[:n] {
		h.mendFeed(f)
		for s := range f.streams {
			if uint64(s.phase)%period == c.turn%period {
				s.keepalive()
			}
			s.checkExpiry(c.now)
		}
	}
	c.round = c.round[n:]
}
