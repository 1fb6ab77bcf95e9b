package sse

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// stream is one browser's open event stream. There are many, so it is kept small.
type stream struct {
	hub     *Hub
	feed    *feed   // of its user; nil until it is added to the hub
	newer   *stream // of the feed, under the hub's lock
	expires int64   // Unix nanoseconds; 0 means never
	issued  int64   // of the token, in Unix seconds; negative if it does not say
	token   uint64  // the hash of its id; 0 if it has none
	phase   uint16  // which second of a keepalive period is this stream's
	warned  bool    // that it expires; the hub's clock alone looks at it

	ended  bool // as all that follows, under mu
	mu     sync.Mutex
	wire   wire
	own    uint64  // the greatest sequence written of the user's notifications
	all    uint64  // and of everyone's
	behind *behind // nil while the stream is live
}

func (s *stream) init(h *Hub, w wire, sub Subscriber) {
	s.hub, s.wire, s.behind = h, w, &behind{}
	if !sub.Expires.IsZero() {
		s.expires = sub.Expires.UnixNano()
	}
	s.token, s.issued = h.tokenHash(sub.TokenID), sub.IssuedAt.Unix()
}

// start says hello, and reads from the log what the reader has missed since its last event id.
func (s *stream) start(sub Subscriber, epoch jobs.Epoch, first, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var reason string
	s.own, reason = resumePoint(sub.LastEventID, epoch, first, last)
	s.all = s.own
	at := jobs.EventID{Epoch: epoch, Seq: s.own}.String()
	s.write(append(retry(time.Second+rand.N(2*time.Second)), jsonFrame("hello", at, helloData{sub.User, at, time.Now().UTC()})...))
	if reason != "" {
		s.write(jsonFrame("reset", at, resetData{reason, at}))
	}
	s.behind.upTo = last
	if !s.rejoin(s.behind) {
		s.catchingUp()
	}
}

// resumePoint says from which sequence on a reader is served, and, if that is not what it asked for, why.
func resumePoint(lastEventID string, epoch jobs.Epoch, first, last uint64) (seq uint64, reason string) {
	if lastEventID == "" {
		return last, ""
	}
	id, err := jobs.ParseEventID(lastEventID)
	switch {
	case err != nil:
		return last, "unknown_id"
	case id.Epoch != epoch || id.Seq > last:
		return last, "other_epoch"
	case id.Seq+1 < first:
		return last, "expired"
	}
	return id.Seq, ""
}

// mark is the greatest sequence written of everyone's notifications, or of the user's.
func (s *stream) mark(everyone bool) *uint64 {
	if everyone {
		return &s.all
	}
	return &s.own
}

// note takes in a notification that arrived live.
func (s *stream) note(n liveNote) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mark := s.mark(n.everyone)
	if s.ended || n.seq <= *mark {
		return // written before
	}
	// It can be written when the one before it on its subject was, nothing after it was on the other one,
	// and the reader has room. If not, the log will tell.
	if s.behind == nil && (n.prev > *mark || n.seq < max(s.own, s.all) || !s.write(n.frame)) {
		s.fallBehind()
	}
	if s.behind == nil {
		*mark = n.seq
	} else if n.everyone {
		s.behind.all = max(s.behind.all, n.seq)
	} else {
		s.behind.own = max(s.behind.own, n.seq)
	}
}

// send writes what is no notification: at once, or after those that the stream has to read.
func (s *stream) send(n news) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || n.frame == nil || s.behind == nil && s.write(n.frame) {
		return
	}
	if s.behind == nil {
		s.fallBehind()
	}
	before := s.behind.size
	s.behind.hold(n)
	more := s.behind.size - before
	s.hub.owed.Add(int64(more))
	if before > 0 && more > 0 && (s.behind.size > s.hub.o.Backlog || s.hub.owesTooMuch(0)) {
		s.cut(errSlow)
	}
}

// catchUp makes the stream look into the log for what it may have missed: notifications, and the states of
// jobs written after a sequence.
func (s *stream) catchUp(horizon uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if s.behind == nil {
		s.fallBehind()
	}
	s.behind.look(horizon)
}

// fallBehind makes the stream read from the log what it cannot take live. The lock is held.
func (s *stream) fallBehind() {
	s.behind = &behind{}
	s.catchingUp()
}

// catchingUp has the log read until the stream is live, or ends. The lock is held.
func (s *stream) catchingUp() {
	ctx, cancel := context.WithCancel(context.Background())
	s.behind.cancel = cancel
	go s.readLog(ctx, s.behind)
}

// write hands a frame to the wire and reports whether there was room for it. The lock is held.
func (s *stream) write(frame []byte) bool {
	if s.ended || frame == nil {
		return true
	}
	err := s.wire.send(frame)
	if err != nil && !errors.Is(err, errSlow) {
		s.cut(err)
	}
	return !errors.Is(err, errSlow)
}

// cut ends the stream without a word: its reader is gone, or too slow, and will resume. The lock is held.
func (s *stream) cut(err error) {
	if s.ended {
		return
	}
	s.ended = true
	if errors.Is(err, errSlow) {
		s.hub.log.Info("slow reader cut; it resumes from the log", "user", s.feed.user())
	}
	s.wire.close()
	if s.behind != nil {
		s.hub.owed.Add(-int64(s.behind.size))
		s.behind.held, s.behind.size = nil, 0
		if s.behind.cancel != nil {
			s.behind.cancel()
		}
	}
	go s.hub.remove(s) // whoever cuts may hold the hub's lock
}

// lost ends the stream because its reader is gone, or its wire is.
func (s *stream) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut(errGone)
}

// end says bye, if there is room for it, and ends the stream.
func (s *stream) end(code, message string, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(bye(code, message, after))
	s.cut(nil)
}

func (s *stream) keepalive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(keepalive) // the order of comments does not matter
}

// checkExpiry warns a minute before the reader's token expires, and ends the stream when it does.
func (s *stream) checkExpiry(now time.Time) {
	left := time.Duration(s.expires - now.UnixNano())
	if s.expires == 0 || left > time.Minute {
		return
	}
	if !s.warned {
		s.warned = true
		s.send(news{frame: jsonFrame("auth", "", authData{time.Unix(0, s.expires).UTC()})})
	}
	if left <= 0 {
		s.end("token_expired", "Your session has expired; sign in again.", time.Second)
	}
}
