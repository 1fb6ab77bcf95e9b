package sse

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// stream is one open event stream. There are many, so it is kept small.
type stream struct {
	hub           *Hub
	user          *userStreams // nil until the stream is added to the hub
	newer         *stream      // the next in the user's list; guarded by Hub.mu
	expires       int64        // Unix nanoseconds; 0 means never
	issued        int64        // Unix seconds, of the token; negative if unknown
	token         uint64       // the hash of the token's id; 0 if it has none
	listening     *listening   // nil without topics; guarded by Hub.mu
	heartbeatSlot uint16       // the second of a heartbeat period in which this stream gets its heartbeat
	expiryWarned  bool         // the reader knows that its token expires; used by Run alone

	begun   bool // the hello event was written; guarded by mu, as are the fields below
	ended   bool
	mu      sync.Mutex
	conn    conn
	at      jobs.Position // each mark is moved by what is written from its own log
	catchUp *catchUp      // nil while the stream is live
}

func (s *stream) init(h *Hub, c conn, sub Subscriber) {
	s.hub, s.conn, s.catchUp = h, c, &catchUp{}
	s.setToken(h, sub)
}

func (s *stream) setToken(h *Hub, sub Subscriber) {
	if !sub.Expires.IsZero() {
		s.expires = sub.Expires.UnixNano()
	}
	s.token, s.issued = h.tokenHash(sub.TokenID), sub.IssuedAt.Unix()
}

// start writes the hello event, and starts to catch up from a position. Reason says why that is not the one that the reader
// named, or is empty.
func (s *stream) start(sub Subscriber, from resumption) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = from.at
	id := s.at
	if from.reason != "" {
		id = jobs.Position{} // a reader that has got hello alone must get the reset when it comes back
	}
	hello := jsonFrame("hello", helloData{sub.User, s.at.String(), time.Now().UTC()})
	s.writeLocked(id, withRetry(time.Second+rand.N(2*time.Second), hello))
	if from.reason != "" {
		s.writeLocked(s.at, jsonFrame("reset", resetData{from.reason, s.at.String()}))
	}
	s.begun = true
	if sub.LastEventID != "" {
		s.missBeforeLocked(sub.Topics)
	}
	c := s.catchUp
	c.ownHeard, c.broadcastHeard = max(c.ownHeard, from.ownMissed), max(c.broadcastHeard, from.allMissed)
	if from.ownMissed > 0 || from.allMissed > 0 || from.unasked {
		c.upTo = from.last
	}
	if !s.goLiveLocked(c) {
		s.startReplayLocked()
	}
}

// markLocked returns the mark of one of the two logs: the broadcasts or the user's own notifications.
func (s *stream) markLocked(everyone bool) *uint64 {
	if everyone {
		return &s.at.All
	}
	return &s.at.Own
}

// writeNotificationLocked writes a notification and moves the mark of its log. It reports false if there is no room for it. A
// frame that is nil is skipped.
func (s *stream) writeNotificationLocked(everyone bool, seq uint64, frame []byte) bool {
	before := s.at
	*s.markLocked(everyone) = seq
	if !s.writeLocked(s.at, frame) {
		s.at = before
		return false
	}
	return true
}

// deliver handles a notification that was received live. It is written if the stream is live and has its predecessor;
// otherwise the stream catches up to it from the log.
func (s *stream) deliver(n liveNotification) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mark := *s.markLocked(n.broadcast)
	if s.ended || n.seq <= mark {
		return // already written
	}
	if s.catchUp == nil && n.prev <= mark && s.writeNotificationLocked(n.broadcast, n.seq, n.frame) {
		return
	}
	if s.catchUp == nil {
		s.beginCatchUpLocked()
	}
	s.catchUp.heard(n.broadcast, n.seq)
}

// sendUpdate sends an event that is no notification. It is written at once if the stream is live, and otherwise
// deferred until the stream has caught up. A stream that defers too much is cut.
func (s *stream) sendUpdate(u update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || u.frame == nil || s.catchUp == nil && s.writeLocked(jobs.Position{}, u.frame) {
		return
	}
	if s.catchUp == nil {
		s.beginCatchUpLocked()
	}
	s.deferLocked(u)
}

// deferLocked defers an update until the stream has caught up.
func (s *stream) deferLocked(u update) {
	before := s.catchUp.deferredBytes
	s.catchUp.deferUpdate(u)
	more := s.catchUp.deferredBytes - before
	s.hub.pendingBytes.Add(int64(more))
	if more > 0 && s.hub.exceedsTotal(0) || before > 0 && more > 0 && (s.catchUp.deferredBytes > s.hub.o.Backlog || s.hub.exceedsShared(0)) {
		s.cutLocked(errSlowConsumer)
	}
}

// requestReplay makes the stream read from the log what it may have missed: all notifications up to the end of the
// log, and the states of jobs stored after the sequence floor.
func (s *stream) requestReplay(floor uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if s.catchUp == nil {
		s.beginCatchUpLocked()
	}
	s.catchUp.request(floor + 1)
}

// beginCatchUpLocked makes a live stream read the log.
func (s *stream) beginCatchUpLocked() {
	s.catchUp = &catchUp{}
	s.startReplayLocked()
}

// startReplayLocked starts the goroutine that reads the log until the stream is live again, or ends.
func (s *stream) startReplayLocked() {
	ctx, cancel := context.WithCancel(context.Background())
	s.catchUp.cancel = cancel
	go s.replay(ctx, s.catchUp)
}

// writeLocked sends a frame to the connection, with a position as its id unless that is zero. It reports false if there is no
// room for it. The stream is cut if the connection is closed.
func (s *stream) writeLocked(id jobs.Position, frame []byte) bool {
	if s.ended || frame == nil {
		return true
	}
	err := s.conn.send(id, frame)
	if err != nil && !errors.Is(err, errSlowConsumer) {
		s.cutLocked(err)
	}
	return !errors.Is(err, errSlowConsumer)
}

// cutLocked ends the stream without a bye event. A reader that comes back resumes from the log.
func (s *stream) cutLocked(err error) {
	if s.ended {
		return
	}
	s.ended = true
	if errors.Is(err, errSlowConsumer) {
		s.hub.log.Info("slow consumer: stream cut; its reader resumes from the log after a reconnect", "user", s.user.name())
	}
	s.conn.close()
	if s.catchUp != nil {
		s.hub.pendingBytes.Add(-int64(s.catchUp.deferredBytes))
		s.catchUp.deferred, s.catchUp.deferredBytes = nil, 0
		if s.catchUp.cancel != nil {
			s.catchUp.cancel()
		}
	}
	go s.hub.removeStream(s) // not here: Hub.mu comes before stream.mu, and the caller may hold it
}

func (s *stream) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// connLost ends the stream because its connection is closed.
func (s *stream) connLost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutLocked(errGone)
}

// end ends the stream with a bye event, if there is room for it. The reader is asked to reconnect after some time.
func (s *stream) end(code, message string, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeLocked(jobs.Position{}, byeFrame(code, message, after))
	s.cutLocked(nil)
}

// heartbeat sends a heartbeat event.
func (s *stream) heartbeat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeLocked(jobs.Position{}, heartbeat) // also during catch-up: a heartbeat has no place in the order
}

// checkExpiryHubLocked sends an auth event a minute before the reader's token expires, and ends the stream when it
// does. The caller holds Hub.mu, which guards the token.
func (s *stream) checkExpiryHubLocked(now time.Time) {
	left := time.Duration(s.expires - now.UnixNano())
	if s.expires == 0 || left > time.Minute {
		return
	}
	if !s.expiryWarned {
		s.expiryWarned = true
		s.sendUpdate(update{frame: jsonFrame("auth", authData{time.Unix(0, s.expires).UTC()})})
	}
	if left <= 0 {
		s.end("token_expired", "Your session has expired; sign in again.", time.Second)
	}
}
