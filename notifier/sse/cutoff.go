package sse

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
)

// A connection can be silent without being closed: the packets between this process and a NATS server are lost, or the server stands
// still. nats.go notices that by its pings, after three seconds as hark configures them, but not for a connection that a program has
// made with other settings. The own beats notice it, too: a hub gets each beat that it publishes.
//
// A connection can also be good and its server cut off from the others, for as long as that lasts. Then the log does not answer,
// and only hubs on the same server are received. Another server may be reachable. While a log elects a leader it does not answer
// either, for four to nine seconds (nats-server 2.15).

// cutOff has what is known about the connection to NATS. It belongs to Run.
type cutOff struct {
	returned uint64       // the last own beat that came back
	seconds  atomic.Int64 // for which there has been no connection; tests read it

	unanswered time.Time // when reads of the log began to fail, or the last move since; zero if the last one was answered
	moves      int       // to other servers, since the last read that was answered
	isCertain  bool      // the log's leader has said so: it is on this side, and has no contact with most of the servers
}

const (
	// maxBeatsOut is the number of own beats that may be on their way. With more the connection counts as silent. They are counted,
	// since the time also passes while this process stands still.
	maxBeatsOut = 3
	// defaultByeAfter is the number of seconds without a connection after which readers are sent to another notifier. It is no less,
	// since all notifiers may have lost NATS: then a stream that stays has what it missed as soon as NATS is back.
	defaultByeAfter = 30
	// maxUnanswered is the time after which a connection is replaced if reads of the log fail. It is longer than an election.
	maxUnanswered = 10 * time.Second
	// maxUnansweredAlone is maxUnanswered while all other hubs are silent, for the first move.
	maxUnansweredAlone = 3 * time.Second
	// maxMoves is the number of moves after which maxUnanswered is not doubled any more.
	maxMoves = 3
)

// onOwnBeat notes that a beat of this hub has come back.
func (c *cutOff) onOwnBeat(number uint64) { c.returned = max(c.returned, number) }

// onAnswer notes that the log has answered, or that a message came which it has stored since.
func (c *cutOff) onAnswer() { c.unanswered, c.moves, c.isCertain = time.Time{}, 0, false }

// onRead notes why the log has not answered a read, which began at most compareTimeout ago, or with nil that it has.
func (c *cutOff) onRead(err error, now time.Time) {
	if err == nil {
		c.onAnswer()
		return
	}
	if c.unanswered.IsZero() {
		c.unanswered = now
	}
	c.isCertain = errors.Is(err, joblog.ErrCutOff)
}

// onMove notes that the connection is replaced. The next server gets twice the time: while no server reaches the log, each is as good
// as another.
func (c *cutOff) onMove(now time.Time) {
	c.unanswered, c.moves, c.isCertain = now, min(c.moves+1, maxMoves), false
}

// isOutOfReach reports whether the log has not answered for so long that another server may be better.
func (c *cutOff) isOutOfReach(others map[string]*otherHub, now time.Time) bool {
	if c.unanswered.IsZero() {
		return false
	}
	limit := maxUnanswered << c.moves
	switch {
	case c.moves > 0: // the server that it came to is no better
	case c.isCertain:
		return true
	case len(others) > 0 && allSilent(others):
		limit = maxUnansweredAlone
	}
	return now.Sub(c.unanswered) >= limit
}

func allSilent(hubs map[string]*otherHub) bool {
	for _, hub := range hubs {
		if !hub.silent {
			return false
		}
	}
	return true
}

// checkConnection is called each second after the beat was published. It replaces a connection that is silent, or whose server is cut
// off from the others. If there is no connection for some seconds, and there were other hubs, it ends all streams: a proxy may send
// their readers to a hub with a connection.
func (h *Hub) checkConnection(now time.Time) {
	c := &h.cutOff
	if h.nc.IsConnected() {
		c.seconds.Store(0)
		switch {
		case h.beats.number-c.returned > maxBeatsOut && !h.o.Exclusive:
			h.reconnect("NATS connection silent: messages to this notifier itself do not arrive; reconnecting")
		case c.isOutOfReach(h.beats.others, now):
			c.onMove(now)
			h.reconnect("NATS server probably cut off from the others: the log does not answer; reconnecting")
		default:
			return
		}
	} else if c.seconds.Add(1) == h.byeAfter && len(h.beats.others) > 0 {
		h.log.Warn("no connection to NATS; streams end, so that their readers reach another notifier", "streams", h.Open())
		h.endAll("nats_lost", "This server has lost its connection; reconnect.")
	}
	c.returned = h.beats.number // the beats from before a reconnect may be lost
}

// reconnect replaces the connection with one to the next server, and logs why. It does not block.
func (h *Hub) reconnect(why string) {
	h.log.Warn(why, "server", h.nc.ConnectedUrlRedacted())
	if err := h.nc.ForceReconnect(); err != nil {
		h.log.Warn("reconnect failed", "err", err)
	}
}
