package sse

import (
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// Poll is one request of a reader that polls. Its LastEventID is the ID of the last [Answer].
type Poll struct {
	Subscriber
	// Stream is the Stream of the last [Answer]. It is empty in the first poll.
	Stream string
	// Wait is the time for which the answer may wait for an event. Defaults to none.
	Wait time.Duration
}

// Answer holds the events of a stream since the last poll.
type Answer struct {
	// Stream names the stream and the last answer. The next poll repeats it.
	Stream string `json:"stream"`
	// ID is the position after the events. The next poll has it as its LastEventID, and an event stream can resume from it, too.
	ID     string  `json:"id"`
	Events []Event `json:"events"`

	superseded bool // a newer poll on the same stream has ended this one
}

// unknownStreamWait is the longest wait of the first answer to a poll whose stream is not known any more. Without
// it, a reader whose polls reach another notifier each time would poll without a pause.
const unknownStreamWait = 5 * time.Second

// settleWait is the time for which an answer with an event waits for more while its stream reads the log.
const settleWait = time.Second

// Poll returns the events of the subscriber's stream since the last poll. It blocks until there is one, or for
// [Poll.Wait], and until [Hub.Run] is running. It returns the errors of [Hub.Serve]. A poll ends an older poll on
// the same stream that is still waiting.
//
// A poll whose stream another hub has is forwarded to it. If the stream is not known, or has another position,
// Poll opens a new one that resumes from LastEventID. Its first answer begins with hello. It comes at once, unless
// the poll names another stream and has missed nothing: then it may take five seconds.
func (h *Hub) Poll(ctx context.Context, p Poll) (Answer, error) {
	if err := jobs.CheckUser(p.User); err != nil {
		return Answer{}, err
	}
	select {
	case <-h.ready:
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
	if other := h.otherOwner(p.Stream); other != "" {
		if a, found, err := h.forwardPoll(ctx, other, &p); found || err != nil {
			return a, err
		}
	} else if a, found, err := h.pollKnown(ctx, p); found || err != nil {
		return a, err
	}
	s, ring, err := h.openPollSession(ctx, p.Subscriber)
	if err != nil {
		return Answer{}, err
	}
	known, within := 0, p.Wait // events that need no answer at once
	if p.Stream != "" {
		known, within = 1, min(within, unknownStreamWait) // the hello
	}
	return h.answerPoll(ctx, s, ring, p, known, within)
}

// pollKnown polls a stream of this hub. found reports whether there is one.
func (h *Hub) pollKnown(ctx context.Context, p Poll) (a Answer, found bool, err error) {
	s, ring := h.polls.find(p)
	if s == nil {
		return Answer{}, false, nil
	}
	if err := h.updateToken(&s.stream, p.Subscriber); err != nil {
		s.endPoll(ring, p, true)
		return Answer{}, true, err
	}
	s.stream.resumeReplay()
	a, err = h.answerPoll(ctx, s, ring, p, 0, p.Wait)
	return a, true, err
}

// answerPoll waits for more than known events, and answers a poll.
func (h *Hub) answerPoll(ctx context.Context, s *pollSession, ring chan struct{}, p Poll, known int, within time.Duration) (Answer, error) {
	err := s.waitEvents(ctx, ring, known, within)
	a, over := s.endPoll(ring, p, err != nil)
	if over {
		h.polls.endSession(s)
	}
	return a, err
}

// openPollSession opens a stream for a reader that polls.
func (h *Hub) openPollSession(ctx context.Context, sub Subscriber) (*pollSession, chan struct{}, error) {
	ring := make(chan struct{}, 1)
	s := &pollSession{key: h.name + keySeparator + rand.Text(), topics: sub.Topics, wake: ring, position: sub.LastEventID}
	s.stream.init(h, s, sub)
	if err := h.begin(ctx, &s.stream, sub); err != nil {
		s.discard()
		return nil, nil, err
	}
	h.polls.put(s)
	return s, ring, nil
}

// updateToken gives a stream the token of its reader's current request, which may be a new one.
func (h *Hub) updateToken(s *stream, sub Subscriber) error {
	var now stream
	now.setToken(h, sub)
	h.mu.RLock()
	same := s.expires == now.expires && s.issued == now.issued && s.token == now.token
	h.mu.RUnlock()
	if same {
		return nil
	}
	h.mu.Lock() // for writing: readers of the token hold it for reading
	s.expires, s.issued, s.token, s.expiryWarned = now.expires, now.issued, now.token, false
	h.mu.Unlock()
	if sub.Check == nil {
		return nil
	}
	return sub.Check()
}

// pollSessions holds the streams whose readers poll. Its methods are safe for concurrent use.
type pollSessions struct {
	mu    sync.Mutex
	byKey map[string]*pollSession
}

// put adds a session.
func (p *pollSessions) put(s *pollSession) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKey == nil {
		p.byKey = make(map[string]*pollSession)
	}
	p.byKey[s.key] = s
}

// endSession removes a session and ends its stream at once.
func (p *pollSessions) endSession(s *pollSession) {
	p.mu.Lock()
	delete(p.byKey, s.key)
	p.mu.Unlock()
	s.stream.connLost()
	s.discard()
}

// find returns the session that a poll continues and the channel that wakes the poll, or nil if a new session is
// needed. A session of the user that cannot tell what its reader has got, or has other topics, is ended.
func (p *pollSessions) find(poll Poll) (*pollSession, chan struct{}) {
	key, number, _ := strings.Cut(poll.Stream, ".")
	p.mu.Lock()
	s := p.byKey[key]
	p.mu.Unlock()
	if s == nil || s.stream.user.token != joblog.EscapeUser(poll.User) {
		return nil, nil
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err == nil && slices.Equal(s.topics, poll.Topics) {
		if ring := s.beginPoll(n, poll.LastEventID); ring != nil {
			return s, ring
		}
	}
	p.endSession(s)
	return nil, nil
}

// sweep ends the sessions whose readers have not polled for a while. A reader that polled once is waited for less:
// it is hardly a browser, and its stream counts towards the user's limit.
func (p *pollSessions) sweep(now time.Time, idle time.Duration) {
	var gone []*pollSession
	p.mu.Lock()
	for _, s := range p.byKey {
		if s.expired(now, idle) {
			gone = append(gone, s)
		}
	}
	p.mu.Unlock()
	for _, s := range gone {
		p.endSession(s)
	}
}
