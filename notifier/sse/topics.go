package sse

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// topic is a topic of live events with its listeners in this process. There is one core subscription for all of them.
// Hub.mu guards it.
type topic struct {
	name      string // as the readers know it
	key       string // as in the subject: for the events to one user it also names the user
	sub       *nats.Subscription
	listeners []*stream
	audience  *audience // nil unless the topic is announced

	droppedSeen int // messages that sub had dropped at the last check; belongs to Run
}

// listening holds the topics of a stream. A stream without topics has none, so that it costs what it would without live
// events. Hub.mu guards it.
type listening struct {
	places []place
	names  []string
}

// place is the place of a stream among the listeners of a topic.
type place struct {
	topic *topic
	index int
}

// topicKey returns the end of the subject of a topic, as a reader names it.
func topicKey(name, user string) string {
	if name == jobs.TopicUser {
		return jobs.UserTopic(user)
	}
	return name
}

// listen adds a stream to the listeners of topics, unless it has ended. It subscribes to those that had none. The order of
// subscribing and asking for the end of the log makes the server know of the subscription before the stream begins.
func (h *Hub) listen(s *stream, user string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if s.hasEnded() {
		return nil // it may have left the hub already, and leaves no second time
	}
	s.listening = &listening{names: slices.Clip(slices.Compact(slices.Sorted(slices.Values(names))))}
	for _, name := range s.listening.names {
		t, err := h.topicLocked(name, topicKey(name, user))
		if err != nil {
			h.leaveTopicsLocked(s)
			return err
		}
		s.listening.places = append(s.listening.places, place{t, len(t.listeners)})
		t.listeners = append(t.listeners, s)
		if t.audience != nil {
			t.audience.joinLocked(s.user.token)
		}
	}
	return nil
}

// topicLocked returns a topic, and subscribes to it if nobody listens to it yet.
func (h *Hub) topicLocked(name, key string) (*topic, error) {
	t := h.topics[key]
	if t != nil {
		return t, nil
	}
	t = &topic{name: name, key: key}
	var err error
	if t.audience, err = h.audienceLocked(name, key); err != nil {
		return nil, err
	}
	if t.sub, err = h.nc.ChanSubscribe(h.ns.TopicSubject(key), h.liveEvents.received); err != nil {
		return nil, fmt.Errorf("sse: topic %s: %w", name, err)
	}
	h.topics[key] = t
	return t, nil
}

// leaveTopicsLocked removes a stream from the listeners of its topics. It unsubscribes from those that have none then.
func (h *Hub) leaveTopicsLocked(s *stream) {
	if s.listening == nil {
		return
	}
	for _, p := range s.listening.places {
		t, end := p.topic, len(p.topic.listeners)-1
		if last := t.listeners[end]; last != s {
			t.listeners[p.index] = last
			last.listening.move(t, p.index)
		}
		t.listeners[end] = nil
		t.listeners = t.listeners[:end]
		if t.audience != nil {
			t.audience.leaveLocked(s.user.token)
		}
		if end > 0 {
			continue
		}
		delete(h.topics, t.key)
		if err := t.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			h.log.Warn("unsubscribe failed", "topic", t.key, "err", err)
		}
	}
	s.listening = nil
}

// move sets the stream's place in a topic.
func (l *listening) move(t *topic, index int) {
	for i := range l.places {
		if l.places[i].topic == t {
			l.places[i].index = index
		}
	}
}

// Topics returns the number of topics that streams of this process listen to.
func (h *Hub) Topics() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.topics)
}
