package sse

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// pollSession is a stream whose reader polls, and its conn: a buffer that holds at most the stream's backlog. It
// has neither a goroutine nor a timer between two polls.
type pollSession struct {
	stream stream
	key    string
	topics []string // as the reader named them

	mu           sync.Mutex
	frames       []polledFrame
	pendingBytes int // the size of frames
	closed       bool

	// An answer may be lost, so its frames are kept until the next poll confirms it. Answers with events are numbered for
	// that, since the position may be the same before and after one.
	number, confirmed           uint64        // of the last answer, and of the last confirmed one
	handedOut                   int           // frames of the last answer, until it is confirmed
	position, confirmedPosition string        // after the last answer, and after the confirmed one
	polledAgain                 bool          // there was a second poll
	wake                        chan struct{} // holds one token when something has changed for the waiting poll; nil if none waits
	answeredAt                  time.Time     // when the last poll was answered
}

// polledFrame is a frame that waits for a poll.
type polledFrame struct {
	id    jobs.Position // zero if the event has none
	frame []byte        // shared with other streams
}

// errWaitForPoll says that a poll session has no room until the next poll. Nothing waits for that.
var errWaitForPoll = errors.New("sse: the reader polls later")

// beginPoll starts a poll that follows the answer with this number and position; the position may be empty. It
// returns a channel that wakes the poll, or nil if that answer is not known or no event can follow. It ends a poll
// that already waits.
func (s *pollSession) beginPoll(number uint64, position string) (ring chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := func(known string) bool { return position == "" || position == known }
	switch {
	case number == s.number && at(s.position):
		s.discardConfirmedLocked()
	case number == s.confirmed && at(s.confirmedPosition): // the last answer was lost
		s.position = s.confirmedPosition
	default:
		return nil
	}
	if s.closed && len(s.frames) == 0 {
		return nil
	}
	s.confirmed, s.confirmedPosition, s.handedOut, s.polledAgain = number, s.position, 0, true
	s.wakePollLocked()
	s.wake = make(chan struct{}, 1)
	return s.wake
}

// discardConfirmedLocked discards the frames of the last answer.
func (s *pollSession) discardConfirmedLocked() {
	for _, frame := range s.frames[:s.handedOut] {
		s.pendingBytes -= len(frame.frame)
		s.hub().pendingBytes.Add(-int64(len(frame.frame)))
	}
	clear(s.frames[:s.handedOut])
	s.frames = s.frames[s.handedOut:]
	if len(s.frames) == 0 {
		s.frames = nil // an idle stream has no buffer
	}
}

// waitEvents blocks until there are more than known events and the replay is over, until the stream ends, until a
// newer poll begins, or until the time is over. It returns an error only if ctx ends.
func (s *pollSession) waitEvents(ctx context.Context, ring <-chan struct{}, known int, within time.Duration) error {
	if !s.stream.replayIdle() {
		within = max(within, settleWait)
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	for first := true; ; {
		some, over := s.progress(ring, known)
		if over || some && s.stream.replayIdle() {
			return nil
		}
		if some && first {
			timer.Reset(settleWait)
			first = false
		}
		select {
		case <-ring:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// progress reports whether there are more than known events, and whether the poll must not wait any more.
func (s *pollSession) progress(ring <-chan struct{}, known int) (some, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.frames) > known, s.closed || s.wake != ring
}

// endPoll ends a poll and returns its answer. If the poll has failed, the answer is empty. over reports that no
// poll can follow.
func (s *pollSession) endPoll(ring <-chan struct{}, poll Poll, failed bool) (a Answer, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.Events = []Event{}
	if s.wake != ring {
		a.Stream, a.ID, a.superseded = poll.Stream, cmp.Or(poll.LastEventID, s.confirmedPosition), true
		return a, false
	}
	s.wake, s.answeredAt = nil, time.Now()
	if failed {
		return a, !s.polledAgain // no reader knows the session
	}
	a.ID = s.position
	for _, frame := range s.frames {
		e := parseFrame(frame.frame)
		if frame.id != (jobs.Position{}) {
			e.ID = frame.id.String()
			a.ID = e.ID
		}
		a.Events = append(a.Events, e)
	}
	s.handedOut = len(s.frames)
	if s.handedOut > 0 {
		s.number++
	}
	s.position = a.ID
	a.Stream = s.key + "." + strconv.FormatUint(s.number, 10)
	return a, s.closed
}

// expired reports whether the last poll was answered longer ago than limit, or than a
// quarter of it after the first poll.
func (s *pollSession) expired(now time.Time, limit time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.polledAgain {
		limit /= 4
	}
	return s.wake == nil && now.Sub(s.answeredAt) > limit
}

func (s *pollSession) hub() *Hub { return s.stream.hub }

// send implements conn.
func (s *pollSession) send(id jobs.Position, frame []byte) error {
	if &frame[0] == &heartbeat[0] {
		return nil // each answer serves as a heartbeat
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errGone
	}
	if !s.fitsLocked(len(frame)) {
		return errSlowConsumer
	}
	s.frames = append(s.frames, polledFrame{id, frame})
	s.pendingBytes += len(frame)
	s.hub().pendingBytes.Add(int64(len(frame)))
	s.wakePollLocked()
	return nil
}

// fitsLocked reports whether n more bytes fit. With a waiting poll and nothing pending only the total counts.
func (s *pollSession) fitsLocked(n int) bool {
	if s.pendingBytes == 0 && s.wake != nil {
		return !s.hub().exceedsTotal(n)
	}
	return (s.pendingBytes == 0 || s.pendingBytes+n <= s.hub().o.Backlog) && !s.hub().exceedsShared(n)
}

// wakePollLocked wakes the waiting poll.
func (s *pollSession) wakePollLocked() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// waitWritable implements conn. It does not block.
func (s *pollSession) waitWritable(_ context.Context, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errGone
	case s.pendingBytes > s.hub().o.Backlog/2 || !s.fitsLocked(n):
		return errWaitForPoll
	}
	return nil
}

// replayEnded implements conn.
func (s *pollSession) replayEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakePollLocked()
}

// close implements conn. Frames are kept for the next poll.
func (s *pollSession) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.wakePollLocked()
}

// discard closes the session and discards its frames.
func (s *pollSession) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handedOut = len(s.frames)
	s.discardConfirmedLocked()
	s.closed, s.handedOut = true, 0
	s.wakePollLocked()
}
