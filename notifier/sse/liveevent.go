package sse

import (
	"context"
	"slices"
	"strings"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// liveEvents delivers live events to the listeners of their topics, in the order of their arrival. An event for many is
// delivered to a chunk of them at a time, so that notifications do not wait until thousands of sockets have been written
// to. It belongs to Run.
type liveEvents struct {
	received chan *nats.Msg // from the subscriptions of all topics
	prefix   string         // of their subjects
	queue    []delivery     // events that some listeners have not got yet

	taken uint64 // counts the events that were received
	lost  lost
}

// lost says what was lost while older events waited for the hub. See noteLost.
type lost struct {
	topics map[string]bool // by their keys
	all    bool
	before uint64 // up to this value of taken the events may be older
}

// delivery is a live event on its way.
type delivery struct {
	topic    string
	frame    []byte
	unserved []*stream // in no order
}

const (
	// eventBuffer is the number of live events that may wait for the hub. NATS drops further ones, and the listeners of
	// their topics get a missed event.
	eventBuffer = 1 << 13
	// listenerChunk is the number of listeners that are served at a time.
	listenerChunk = 64
	// maxDeliveries is the number of queued live events. With more, the hub serves them before it takes another one.
	maxDeliveries = 256
)

// missedKey is the key of the update that names the topics of which a stream has missed events.
const missedKey = "missed"

// missedData is the data of a missed event.
type missedData struct {
	Topics []string `json:"topics"`
}

// ready returns a channel that is ready while there are events to deliver.
func (l *liveEvents) ready() <-chan struct{} {
	if len(l.queue) == 0 {
		return nil
	}
	return alwaysReady
}

// receiveEvent handles one live event. A pending change of the connection is handled first: after a reconnect events may be
// missing, and those before it were.
func (h *Hub) receiveEvent(ctx context.Context, events <-chan nats.Status, m *nats.Msg) (err error) {
	select {
	case status := <-events:
		err = h.onConnStatus(ctx, status)
	default:
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.liveEvents.taken++
	defer h.repeatMissedLocked()
	t := h.topics[strings.TrimPrefix(m.Subject, h.liveEvents.prefix)]
	if t == nil {
		return err // the last listener has left
	}
	h.checkTopicDropsLocked(t)
	e, malformed := joblog.DecodeEvent(t.key, m.Data)
	if malformed != nil {
		h.skip(joblog.SkippedEvent, m.Subject, 0, malformed)
		return err
	}
	e.Topic = t.name
	h.deliverEventLocked(delivery{t.name, jsonFrame("live", e), t.listeners})
	return err
}

// deliverEventLocked delivers an event at once if there are few listeners and none waits, and queues it otherwise.
func (h *Hub) deliverEventLocked(d delivery) {
	for len(h.liveEvents.queue) >= maxDeliveries {
		h.serveListenersLocked()
	}
	if len(h.liveEvents.queue) > 0 || len(d.unserved) > listenerChunk {
		d.unserved = slices.Clone(d.unserved) // listeners come and go between two chunks
		h.liveEvents.queue = append(h.liveEvents.queue, d)
		return
	}
	d.serve(d.unserved)
}

// serveListenersLocked delivers the first queued event to a chunk of its listeners.
func (h *Hub) serveListenersLocked() {
	d := &h.liveEvents.queue[0]
	n := min(listenerChunk, len(d.unserved))
	forEachParallel(d.unserved[:n], func(s *stream) { s.sendLive(d.topic, d.frame) })
	d.unserved = d.unserved[n:]
	if len(d.unserved) == 0 {
		h.liveEvents.queue = slices.Delete(h.liveEvents.queue, 0, 1)
		h.repeatMissedLocked()
	}
}

// serve writes the event to streams.
func (d *delivery) serve(streams []*stream) {
	for _, s := range streams {
		s.sendLive(d.topic, d.frame)
	}
}

// sendLive writes a live event. Without room, and before the stream has begun, the event is missed.
func (s *stream) sendLive(topic string, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := s.catchUp != nil && s.catchUp.full
	if s.begun && !full && s.writeLocked(jobs.Position{}, frame) {
		return
	}
	if s.begun && !s.ended {
		// There may be room for a small missed event, and for one more after the next live event. So they are merged until half
		// of the backlog is free, and no live event takes that room before.
		if s.catchUp == nil {
			s.beginCatchUpLocked()
		}
		if !full {
			s.catchUp.full, s.catchUp.hadRoom = true, false
		}
	}
	s.missLocked(topic)
}

// miss makes the stream write a missed event that names topics.
func (s *stream) miss(topics ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missLocked(topics...)
}

// missLocked writes a missed event, or defers it while the stream catches up.
func (s *stream) missLocked(topics ...string) {
	if s.ended || len(topics) == 0 {
		return
	}
	if s.catchUp == nil && s.writeLocked(jobs.Position{}, missedFrame(topics)) {
		return
	}
	if s.catchUp == nil {
		s.beginCatchUpLocked()
	}
	if c := s.catchUp; c.addMissed(topics) {
		s.deferLocked(update{key: missedKey, frame: missedFrame(c.missed)})
	}
}

// missBeforeLocked writes a missed event for the time since the reader's last stream. A reader that still has that stream may
// ignore this event. So it is not merged with the deferred one for events that came while this stream opened.
func (s *stream) missBeforeLocked(topics []string) {
	topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	if len(topics) > 0 && !s.writeLocked(jobs.Position{}, missedFrame(topics)) {
		s.missLocked(topics...)
	}
}

func missedFrame(topics []string) []byte { return jsonFrame("missed", missedData{topics}) }

// addMissed adds topics to those of the deferred missed event, and reports whether there is a new one.
func (c *catchUp) addMissed(topics []string) (added bool) {
	if !slices.ContainsFunc(c.deferred, func(u update) bool { return u.key == missedKey }) {
		c.missed = nil // written by now
	}
	for _, t := range topics {
		if !slices.Contains(c.missed, t) {
			c.missed, added = append(c.missed, t), true
		}
	}
	return added
}

// noteLost notes that events of a topic, or of all topics for nil, were lost. The reader of a missed event fetches its state.
// An event from before the loss that it gets after that would show an older state. So the missed event is repeated after the
// events that wait now. While more is lost all the time, it is repeated after the end of that.
func (l *liveEvents) noteLost(t *topic) {
	if len(l.received)+len(l.queue) == 0 {
		return
	}
	l.lost.before = l.taken + uint64(len(l.received))
	if t == nil {
		l.lost.all = true
		return
	}
	if l.lost.topics == nil {
		l.lost.topics = make(map[string]bool)
	}
	l.lost.topics[t.key] = true
}

// repeatMissedLocked repeats missed events once no older events wait.
func (h *Hub) repeatMissedLocked() {
	l := &h.liveEvents
	if !l.lost.all && l.lost.topics == nil || l.taken < l.lost.before || len(l.queue) > 0 {
		return
	}
	lost := l.lost
	l.lost.all, l.lost.topics = false, nil
	if lost.all {
		h.writeMissedToAllLocked()
		return
	}
	for key := range lost.topics {
		if t := h.topics[key]; t != nil {
			t.miss()
		}
	}
}

// missAllLocked handles a loss of events that may concern all topics.
func (h *Hub) missAllLocked() {
	if len(h.topics) == 0 {
		return
	}
	h.liveEvents.noteLost(nil)
	h.writeMissedToAllLocked()
}

// writeMissedToAllLocked makes every stream with topics write a missed event that names all of them.
func (h *Hub) writeMissedToAllLocked() {
	for _, us := range h.users {
		for s := range us.eachLocked {
			if s.listening != nil {
				s.miss(s.listening.names...)
			}
		}
	}
}

// checkTopicDropsLocked checks the subscription of a topic for dropped events. If there are any, its listeners get a missed
// event.
func (h *Hub) checkTopicDropsLocked(t *topic) {
	n, err := t.sub.Dropped()
	if err != nil || n == t.droppedSeen {
		return
	}
	t.droppedSeen = n
	h.liveEvents.noteLost(t)
	t.miss()
}

// miss makes the listeners of the topic write a missed event.
func (t *topic) miss() {
	for _, s := range t.listeners {
		s.miss(t.name)
	}
}

// checkAllTopicDropsLocked checks the subscriptions of all topics for dropped events.
func (h *Hub) checkAllTopicDropsLocked() {
	for _, t := range h.topics {
		h.checkTopicDropsLocked(t)
	}
}
