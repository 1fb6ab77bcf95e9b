package sse

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// A poll may reach another notifier than the one that has its stream: behind a proxy without sticky sessions many polls do.
// Only that notifier has all events of the stream, since inbox changes are not in the log. So the poll is forwarded to it
// over NATS. If it is gone or does not answer, a new stream begins here.

// keySeparator separates the name of the hub from the rest of a session key.
const keySeparator = "-"

// hubName matches what [crypto/rand.Text] returns. Anything else is refused, since a client could name any
// subject.
var hubName = regexp.MustCompile(`^[A-Z2-7]{26}$`)

const (
	// forwardWait is the longest wait of one forwarded poll. A hub that is gone goes unnoticed for no longer.
	forwardWait = 5 * time.Second
	// forwardMargin is added to the wait for the timeout of the request: the other hub may wait for the log.
	forwardMargin = settleWait + 2*time.Second
)

// forwardedPoll is a poll as it is sent to another hub.
type forwardedPoll struct {
	User        string        `json:"user"`
	LastEventID string        `json:"last_event_id"`
	Topics      []string      `json:"topics"`
	Stream      string        `json:"stream"`
	Wait        time.Duration `json:"wait"` // in nanoseconds
	Expires     time.Time     `json:"expires"`
	TokenID     string        `json:"token_id"`
	IssuedAt    time.Time     `json:"issued_at"`
}

// forwardedAnswer is the answer of the other hub.
type forwardedAnswer struct {
	Answer
	Found      bool `json:"found"` // that hub knows the stream
	Superseded bool `json:"superseded"`
}

// otherOwner returns the name of the other hub that has a stream, or "" if it is not another one.
func (h *Hub) otherOwner(stream string) string {
	name, _, found := strings.Cut(stream, keySeparator)
	if !found || name == h.name || !hubName.MatchString(name) {
		return ""
	}
	return name
}

// forwardPoll polls a stream of another hub. It blocks for up to the wait of the poll and forwardMargin. If that
// hub does not know the stream or does not answer, found is false, and p has the position that the reader has
// reached.
func (h *Hub) forwardPoll(ctx context.Context, hub string, p *Poll) (a Answer, found bool, err error) {
	for until := time.Now().Add(p.Wait); ; {
		back, err := h.requestPoll(ctx, hub, *p, min(max(time.Until(until), 0), forwardWait))
		if ctx.Err() != nil {
			return Answer{}, false, ctx.Err()
		}
		if err != nil || !back.Found {
			return Answer{}, false, nil
		}
		if p.Check != nil { // the token may have been revoked after the other hub opened its stream
			if err := p.Check(); err != nil {
				return Answer{}, false, err
			}
		}
		if len(back.Events) > 0 || back.Superseded || !time.Now().Before(until) {
			return back.Answer, true, nil
		}
		p.Stream, p.LastEventID = back.Stream, back.ID
	}
}

// requestPoll sends one forwarded poll and waits for its answer.
func (h *Hub) requestPoll(ctx context.Context, hub string, p Poll, wait time.Duration) (back forwardedAnswer, err error) {
	body, err := json.Marshal(forwardedPoll{p.User, p.LastEventID, p.Topics, p.Stream, wait, p.Expires, p.TokenID, p.IssuedAt})
	if err != nil {
		return back, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait+forwardMargin)
	defer cancel()
	m, err := h.nc.RequestWithContext(ctx, h.ns.PollSubject(hub), body)
	if err == nil {
		err = json.Unmarshal(m.Data, &back)
	}
	return back, err
}

// serveForwardedPolls subscribes to the polls that other hubs forward. It answers them until the subscription ends
// or the hub is closed. Polls that wait then end with their streams.
func (h *Hub) serveForwardedPolls() (*nats.Subscription, error) {
	return h.nc.Subscribe(h.ns.PollSubject(h.name), func(m *nats.Msg) {
		h.mu.RLock()
		defer h.mu.RUnlock()
		if !h.closed {
			h.forwarded.Go(func() { h.answerForwardedPoll(m) })
		}
	})
}

// answerForwardedPoll answers one forwarded poll. It sends no answer if the poll fails.
func (h *Hub) answerForwardedPoll(m *nats.Msg) {
	var on forwardedPoll
	if err := json.Unmarshal(m.Data, &on); err != nil {
		return // not sent by a hub
	}
	wait := min(on.Wait, forwardWait)
	ctx, cancel := context.WithTimeout(context.Background(), wait+forwardMargin)
	defer cancel()
	a, found, err := h.pollKnown(ctx, Poll{Wait: wait, Stream: on.Stream, Subscriber: Subscriber{
		User: on.User, LastEventID: on.LastEventID, Topics: on.Topics, Expires: on.Expires, TokenID: on.TokenID, IssuedAt: on.IssuedAt,
	}})
	if err != nil {
		return
	}
	body, err := json.Marshal(forwardedAnswer{Answer: a, Found: found, Superseded: a.superseded})
	if err == nil {
		err = m.Respond(body)
	}
	if err != nil {
		h.log.Warn("forwarded poll not answered", "err", err)
	}
}
