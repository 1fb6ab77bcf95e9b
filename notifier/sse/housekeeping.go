package sse

import (
	"maps"
	"slices"
	"time"
)

// housekeeping is what the hub does for every stream each second. It is done for a chunk of users at a time, like
// broadcasts, so that live messages do not wait until thousands of sockets have been written to. It belongs to
// Run.
type housekeeping struct {
	all      []*userStreams // the users of this second; the slice is reused
	unserved []*userStreams // those of them that are still to be served
	second   uint64         // counts the seconds
	now      time.Time
}

// ready returns a channel that is ready while there are users to serve.
func (c *housekeeping) ready() <-chan struct{} {
	if len(c.unserved) == 0 {
		return nil
	}
	return alwaysReady
}

// startHousekeeping starts the housekeeping of one second. It first completes that of the second before.
func (h *Hub) startHousekeeping(now time.Time) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for len(h.housekeeping.unserved) > 0 {
		h.housekeepChunkLocked()
	}
	for _, src := range h.sources() {
		h.checkCommonDropsLocked(src)
	}
	h.checkAllTopicDropsLocked()
	h.housekeeping.second++
	// Since the next floor was received every user was checked for dropped messages, so nothing before it was lost.
	if h.housekeeping.second%h.heartbeatPeriod() == 0 {
		h.advanceReplayFloor()
	}
	h.polls.sweep(now, h.o.PollIdle)
	c := &h.housekeeping
	clear(c.all) // keeps no users that have left
	c.all = slices.AppendSeq(c.all[:0], maps.Values(h.users))
	c.now, c.unserved = now, c.all
}

// heartbeatPeriod returns Options.Heartbeat in seconds, at least 1.
func (h *Hub) heartbeatPeriod() uint64 { return max(uint64(h.o.Heartbeat/time.Second), 1) }

// housekeepChunkLocked serves a chunk of users: it checks for dropped messages, sends a heartbeat to the streams
// whose slot it is, and ends streams whose tokens have expired.
func (h *Hub) housekeepChunkLocked() {
	c, period := &h.housekeeping, h.heartbeatPeriod()
	n := min(broadcastChunk, len(c.unserved))
	for _, us := range c.unserved[:n] {
		h.checkUserDropsLocked(us)
		for s := range us.eachLocked {
			if uint64(s.heartbeatSlot)%period == c.second%period {
				s.heartbeat()
			}
			s.checkExpiryHubLocked(c.now)
		}
	}
	c.unserved = c.unserved[n:]
}
