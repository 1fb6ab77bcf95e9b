package sse

import "sync/atomic"

// A connection can be silent without being closed: the packets between this process and a NATS server are lost, or the server stands
// still. nats.go notices that by its pings, after three seconds as hark configures them, but not for a connection that a program has
// made with other settings. The own beats notice it, too: a hub gets each beat that it publishes.

// cutOff has what is known about the connection to NATS. It belongs to Run.
type cutOff struct {
	returned uint64       // the last own beat that came back
	seconds  atomic.Int64 // for which there has been no connection; tests read it
}

const (
	// maxBeatsOut is the number of own beats that may be on their way. With more the connection counts as silent. They are counted,
	// since the time also passes while this process stands still.
	maxBeatsOut = 3
	// defaultByeAfter is the number of seconds without a connection after which readers are sent to another notifier. It is no less,
	// since all notifiers may have lost NATS: then a stream that stays has what it missed as soon as NATS is back.
	defaultByeAfter = 30
)

// onOwnBeat notes that a beat of this hub has come back.
func (c *cutOff) onOwnBeat(number uint64) { c.returned = max(c.returned, number) }

// checkConnection is called each second after the beat was published. It replaces a silent connection. If there is no connection for
// some seconds, and there were other hubs, it ends all streams: a proxy may send their readers to a hub with a connection.
func (h *Hub) checkConnection() {
	c := &h.cutOff
	if h.nc.IsConnected() {
		c.seconds.Store(0)
		if h.beats.number-c.returned <= maxBeatsOut || h.o.Exclusive {
			return
		}
		h.log.Warn("NATS connection silent: messages to this notifier itself do not arrive; reconnecting", "server", h.nc.ConnectedUrlRedacted())
		if err := h.nc.ForceReconnect(); err != nil {
			h.log.Warn("reconnect failed", "err", err)
		}
	} else if c.seconds.Add(1) == h.byeAfter && len(h.beats.others) > 0 {
		h.log.Warn("no connection to NATS; streams end, so that their readers reach another notifier", "streams", h.Open())
		h.endAll("nats_lost", "This server has lost its connection; reconnect.")
	}
	c.returned = h.beats.number // the beats from before a reconnect may be lost
}
