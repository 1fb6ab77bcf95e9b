package sse

import (
	"context"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// comparison finds messages that the log has stored and that were not received live. They are lost between two
// NATS servers, when a leader dies between storing and publishing, or while a new subscription is not known to all
// servers yet. Each second the hub reads which messages the log has stored, without their bodies, and compares
// them with what was received. It belongs to Run.
type comparison struct {
	follower *joblog.Follower // nil until the end of the log is known
	reading  bool             // readStored is under way

	heard    map[string]uint64  // the greatest sequence received on each subject, unless the follower has passed it
	suspects map[string]suspect // stored and not received, by subject
}

// suspect is a stored message that counts as lost unless it is received soon.
type suspect struct {
	seq      uint64
	since    time.Time
	dueAfter uint64 // a count of Hub.received: what waited for the hub when the message was found is handled then
}

// storedMessages is what the log has stored for the streams of this hub since the last answer.
type storedMessages struct {
	src       *source
	follower  *joblog.Follower
	last      map[string]uint64 // the greatest sequence on each subject
	upTo      uint64
	answerErr error // nil if the leader of the log has answered
	err       error
}

const (
	// compareTimeout is the timeout of one read of the log. A lost request is repeated after it.
	compareTimeout = 2 * time.Second
	// suspectCheckInterval is the interval of resolveSuspects.
	suspectCheckInterval = 250 * time.Millisecond
	// suspectGrace is the time for a message to arrive live after it was found in the log.
	suspectGrace = 500 * time.Millisecond
	// maxHeard limits comparison.heard while the log cannot be read.
	maxHeard = 1 << 17
)

// startComparing starts to read what the log has stored, unless that is under way. It does not block.
func (h *Hub) startComparing(ctx context.Context) {
	if h.o.SubscribeAll { // the server is in this process: nothing is lost on the way
		return
	}
	for _, src := range h.sources() {
		h.startComparingSource(ctx, src)
	}
}

func (h *Hub) startComparingSource(ctx context.Context, src *source) {
	c := &src.comparison
	if len(c.heard) > maxHeard {
		h.log.Warn("live messages not compared with the log for too long; all streams catch up from the log", "subjects", len(c.heard))
		h.restartComparison(src, src.lastHeard)
		h.mu.RLock()
		h.requestReplayLocked()
		h.mu.RUnlock()
	}
	if c.reading {
		return
	}
	c.reading = true
	of := c.follower
	h.comparing.Go(func() {
		found := h.readStored(ctx, src, of)
		select {
		case h.stored <- found:
		case <-ctx.Done():
		}
	})
}

// readStored reads what the log has stored, and returns what concerns the streams of this hub. It blocks for up to
// compareTimeout.
func (h *Hub) readStored(ctx context.Context, src *source, of *joblog.Follower) (found storedMessages) {
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	if of == nil {
		_, last, err := src.bounds.get(ctx)
		return storedMessages{src: src, upTo: last, answerErr: err, err: err}
	}
	found = storedMessages{src: src, follower: of, last: make(map[string]uint64)}
	found.err = of.Read(ctx, func(subject string, seq uint64) {
		token, class, ok := h.queue.ParseSubject(subject)
		if !ok { // nothing else reads all of the log
			h.queue.SkipSubject(subject, seq)
			return
		}
		if h.reaches(token, class) {
			found.last[subject] = seq
		}
	})
	found.upTo, found.answerErr = of.At(), of.AnswerErr()
	return found
}

// onStored compares the answer of readStored with what was received. What was not becomes suspect.
func (h *Hub) onStored(found storedMessages, now time.Time) {
	c := &found.src.comparison
	c.reading = false
	h.cutOff.onRead(found.answerErr, now)
	if found.follower != c.follower {
		return // of a log that is gone
	}
	if found.err != nil {
		h.log.Debug("live messages not compared with the log; retrying", "err", found.err)
	}
	if c.follower == nil {
		if found.err == nil {
			h.restartComparison(found.src, found.upTo)
		}
		return
	}
	for subject, seq := range found.last {
		if c.heard[subject] < seq {
			c.suspects[subject] = suspect{seq, now, h.received + uint64(len(h.live))}
		}
	}
	for subject, seq := range c.heard {
		if seq <= found.upTo {
			delete(c.heard, subject)
		}
	}
}

// recordHeard records that a stored message was received live.
func (h *Hub) recordHeard(src *source, subject string, seq uint64) {
	c := &src.comparison
	if h.o.SubscribeAll {
		return // nothing to compare
	}
	c.heard[subject] = max(c.heard[subject], seq)
	if len(c.suspects) == 0 {
		return
	}
	if s, ok := c.suspects[subject]; ok && s.seq <= seq {
		delete(c.suspects, subject)
	}
}

// resolveSuspects makes the streams read the messages that are lost by now.
func (h *Hub) resolveSuspects(now time.Time) {
	for _, src := range h.sources() {
		h.resolveSuspectsOf(src, now)
	}
}

func (h *Hub) resolveSuspectsOf(src *source, now time.Time) {
	c := &src.comparison
	if len(c.suspects) == 0 {
		return
	}
	streams := 0
	h.mu.RLock()
	defer h.mu.RUnlock()
	for subject, s := range c.suspects {
		if now.Sub(s.since) < suspectGrace || h.received < s.dueAfter {
			continue
		}
		delete(c.suspects, subject)
		token, class, _ := h.queue.ParseSubject(subject)
		if token == jobs.Everyone {
			for us := range h.eachOfLocked(src) {
				streams += us.requestLostLocked(true, s.seq)
			}
		} else if us := h.users[token]; us != nil && class == joblog.ClassNotification {
			streams += us.requestLostLocked(false, s.seq)
		} else if us != nil {
			us.requestReplayLocked(s.seq - 1) // a reader drops the states that it has
		}
	}
	if streams > 0 {
		h.log.Info("live notifications lost between NATS servers; streams catch up from the log", "streams", streams)
	}
}

// restartComparison starts the comparison of a source again, from a sequence.
func (h *Hub) restartComparison(src *source, after uint64) {
	c := &src.comparison
	c.follower = h.queue.Follow(src.number, after)
	c.heard, c.suspects = make(map[string]uint64), make(map[string]suspect)
}

// endComparison waits until no goroutine reads the log for the comparison.
func (h *Hub) endComparison() {
	h.comparing.Wait()
	for _, src := range h.sources() {
		if src.comparison.follower != nil {
			src.comparison.follower.Close()
		}
	}
}

// requestLostLocked makes the user's streams read a lost notification. It returns the number of streams that have
// missed it.
func (us *userStreams) requestLostLocked(everyone bool, seq uint64) (n int) {
	for s := range us.eachLocked {
		if s.requestLost(everyone, seq) {
			n++
		}
	}
	return n
}

// requestLost makes the stream read a lost notification from the log. It returns false if the stream has written
// it.
func (s *stream) requestLost(everyone bool, seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || seq <= *s.markLocked(everyone) {
		return false
	}
	if s.catchUp == nil {
		s.beginCatchUpLocked()
	}
	s.catchUp.heard(everyone, seq)
	return true
}
