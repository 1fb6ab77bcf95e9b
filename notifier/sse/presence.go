package sse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/sharedcall"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

const (
	// presenceTimeout is how long a hub waits for the others.
	presenceTimeout = time.Second
	// settled is the number of beats after which a hub knows all others: each publishes one a second.
	settled = 3
	// namesPerMessage is the number of users in one message between hubs. An escaped name has 3,600 bytes at most
	// ([jobs.MaxUserBytes]), and a message of NATS 1 MB.
	namesPerMessage = 200
)

// presenceAnswer is what one hub knows about a topic: how many streams listen there, and some of their users.
type presenceAnswer struct {
	Hub     string   `json:"hub"`
	Streams int      `json:"streams"`
	Users   []string `json:"users"` // escaped
	More    bool     `json:"more,omitempty"`
}

// Presence returns how many streams listen to a topic, and their users, at all hubs. The topic is named as in
// [Subscriber].Topics. It blocks for a round trip to the other hubs, and for a second if one does not answer; then the result is
// not Complete. Listeners has all users, sorted. It returns an error if the hub is closed, ctx ends, or the connection does.
func (h *Hub) Presence(ctx context.Context, topic, user string) (jobs.Presence, error) {
	p, err := h.presences.Do(ctx, topicKey(topic, user))
	if errors.Is(err, sharedcall.ErrClosed) {
		err = ErrClosed
	}
	p.Topic = topic
	p.Listeners = slices.Clone(p.Listeners)
	return p, err
}

// gather asks all hubs about a topic, also this one, until ctx ends.
func (h *Hub) gather(ctx context.Context, key string) (p jobs.Presence, err error) {
	inbox := h.nc.NewInbox()
	answers, err := h.nc.SubscribeSync(inbox)
	if err != nil {
		return p, fmt.Errorf("sse: presence: %w", err)
	}
	defer answers.Unsubscribe()
	known := h.known.Load()
	if err := h.nc.PublishRequest(h.ns.PresenceSubject(), inbox, []byte(key)); err != nil {
		return p, fmt.Errorf("sse: presence: %w", err)
	}
	users, missing := make(map[string]bool), map[string]bool{h.name: true}
	for _, name := range known.hubs {
		missing[name] = true
	}
	for len(missing) > 0 || !known.all {
		m, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			break // the time is over, or the connection is closed
		}
		var a presenceAnswer
		if json.Unmarshal(m.Data, &a) != nil || !hubName.MatchString(a.Hub) {
			continue // not sent by a hub
		}
		p.Streams += a.Streams
		for _, u := range a.Users {
			users[u] = true
		}
		if !a.More {
			delete(missing, a.Hub)
		}
	}
	if missing[h.name] {
		return p, fmt.Errorf("sse: presence: %w", nats.ErrTimeout) // not even this hub has got the question
	}
	p.Users, p.Complete = len(users), len(missing) == 0
	p.Listeners = make([]string, 0, len(users))
	for token := range users {
		if user, err := joblog.UnescapeUser(token); err == nil {
			p.Listeners = append(p.Listeners, user)
		}
	}
	slices.Sort(p.Listeners)
	return p, nil
}

// knownHubs are the other hubs that are not silent.
type knownHubs struct {
	hubs []string
	all  bool // there are no more
}

// noteKnownHubs stores the other hubs for gather. It is called by Run each second.
func (h *Hub) noteKnownHubs() {
	known := &knownHubs{all: h.o.Exclusive || h.beats.number >= settled}
	for name, other := range h.beats.others {
		if !other.silent {
			known.hubs = append(known.hubs, name)
		}
	}
	h.known.Store(known)
}

// servePresence subscribes to the questions of all hubs, and answers them until the subscription ends.
func (h *Hub) servePresence() (*nats.Subscription, error) {
	return h.nc.Subscribe(h.ns.PresenceSubject(), func(m *nats.Msg) {
		streams, users := h.presentHere(string(m.Data))
		for a := (presenceAnswer{Hub: h.name, Streams: streams}); ; a.Streams = 0 {
			n := min(len(users), namesPerMessage)
			a.Users, users = users[:n], users[n:]
			a.More = len(users) > 0
			data, err := json.Marshal(a)
			if err == nil {
				err = m.Respond(data)
			}
			if err != nil {
				h.log.Warn("question about a topic not answered", "err", err)
				return
			}
			if !a.More {
				return
			}
		}
	})
}

// presentHere returns the number of streams of this hub that listen to a topic, and their users, escaped. In an announced topic a
// user who has left is there until that is announced.
func (h *Hub) presentHere(key string) (streams int, users []string) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	present := make(map[string]bool)
	if a := h.audiences[key]; a != nil {
		for user := range a.own {
			present[user] = true
		}
	}
	if t := h.topics[key]; t != nil {
		streams = len(t.listeners)
		for _, s := range t.listeners {
			present[s.user.token] = true
		}
	}
	users = make([]string, 0, len(present))
	for user := range present {
		users = append(users, user)
	}
	return streams, users
}
