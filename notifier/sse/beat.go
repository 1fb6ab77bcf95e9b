package sse

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
)

// Hubs publish a beat each second, since a lost route between two NATS servers is silent: live events of a service on the
// other side do not arrive, and no connection of this process breaks. Beats are lost on the same way. A gap in those of a
// hub, or their end without a goodbye, means that live events may be missing.

// beat is what a hub publishes each second, and once more when it closes.
type beat struct {
	Hub    string `json:"hub"`
	Number uint64 `json:"number"` // 1 more than in the beat before
	Bye    bool   `json:"bye,omitempty"`
}

// beats has what is known about the other hubs. It belongs to Run.
type beats struct {
	received chan *nats.Msg
	number   uint64
	others   map[string]*otherHub
	lost     []string             // hubs with beats that were lost since the last check
	departed map[string]time.Time // hubs that have closed or become silent, and since when: see dropDeparted
}

type otherHub struct {
	number uint64
	at     time.Time
	silent bool
}

const (
	// beatTimeout is the time without a beat after which a hub counts as silent. With the interval of a second it is less than
	// three seconds.
	beatTimeout = 1900 * time.Millisecond
	// lateBeat is the number of beats after which a hub is known to all others.
	lateBeat = 3
	// forgetHub is the time after which a silent hub is forgotten.
	forgetHub = time.Minute
	// beatBuffer is the number of beats that may wait. More are dropped, which then looks like a gap.
	beatBuffer = 1 << 10
	// maxHubs is the number of other hubs that are watched. Any program with access to NATS can publish beats.
	maxHubs = 1 << 10
)

// publishBeat publishes a beat. It does not block. An error is that of a closed connection, which Run notices.
func (h *Hub) publishBeat(bye bool) {
	h.beats.number++
	data, err := json.Marshal(beat{h.name, h.beats.number, bye})
	if err == nil {
		_ = h.nc.Publish(h.ns.HubsSubject(), data)
	}
}

// onBeat handles the beat of a hub.
func (h *Hub) onBeat(m *nats.Msg, now time.Time) {
	var b beat
	if json.Unmarshal(m.Data, &b) != nil || !hubName.MatchString(b.Hub) {
		return // not sent by a hub
	}
	if b.Hub == h.name {
		h.cutOff.onOwnBeat(b.Number)
		return
	}
	if b.Bye {
		h.departLater(b.Hub, now)
		delete(h.beats.others, b.Hub)
		return
	}
	delete(h.beats.departed, b.Hub)
	other := h.beats.others[b.Hub]
	if other == nil && len(h.beats.others) >= maxHubs {
		return
	}
	if other == nil {
		other = &otherHub{number: b.Number - 1}
		h.beats.others[b.Hub] = other
	}
	// A hub whose first beat here has a high number was there before, behind a lost route. One that was silent may have all its beats
	// delivered late; but who listens there was unknown, so what pages have fetched since may lack that.
	gap := other.silent || b.Number != other.number+1 || other.at.IsZero() && min(b.Number, h.beats.number) > lateBeat
	*other = otherHub{number: b.Number, at: now}
	if gap && len(h.beats.lost) < maxHubs {
		h.beats.lost = append(h.beats.lost, b.Hub)
	}
}

// checkBeats looks for hubs that have become silent, or whose beats were lost. A lost route concerns many hubs at the same
// time, so there is one missed event for all of them.
func (h *Hub) checkBeats(now time.Time) {
	var silent []string
	for name, other := range h.beats.others {
		switch silence := now.Sub(other.at); {
		case silence > forgetHub:
			delete(h.beats.others, name)
		case silence > beatTimeout && !other.silent:
			other.silent = true
			h.departLater(name, now)
			silent = append(silent, name)
		}
	}
	lost := h.beats.lost
	h.beats.lost = nil
	if len(silent)+len(lost) == 0 {
		return
	}
	h.log.Warn("another notifier is silent, or some of its beats were lost: it has ended, or a route between NATS servers is lost; streams with topics get a missed event",
		"silent", firstNames(silent), "lost_beats_of", firstNames(lost))
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.missAllLocked()
	if len(lost) > 0 {
		h.askAudiencesLocked()
	}
}

// departLater notes that a hub has closed or become silent. Only hubs that were known are noted.
func (h *Hub) departLater(hub string, now time.Time) {
	if h.beats.others[hub] != nil {
		h.beats.departed[hub] = now
	}
}

// firstNames returns the first ten names, for the log.
func firstNames(names []string) []string { return names[:min(len(names), 10)] }
