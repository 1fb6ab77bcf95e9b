package sse

import (
	"context"
	"errors"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/nats-io/nats.go"
)

// unverified holds live messages until the log is known to hold them. Any program that may publish on the live
// subjects can write a message with any sequence. A stream that took a sequence beyond the end of the log would
// then drop all that is stored up to there, and a page would drop all later states of a job. So the hub asks for
// the end of the source, once for all messages that have come meanwhile, and delivers what that holds. It belongs
// to Run.
type unverified struct {
	knownEnd uint64 // the end of the log in the last answer
	msgs     []unverifiedMsg
	asking   bool
}

type unverifiedMsg struct {
	*nats.Msg
	seq uint64
	at  time.Time
}

// logEnd is an answer of the log.
type logEnd struct {
	src   *source
	seq   uint64
	asked int // the number of messages that came before the question
	err   error
}

const (
	// verifyTimeout is the time after which a message is skipped. A new leader may learn the end of the log late.
	verifyTimeout = 3 * time.Second
	// verifyPause is the pause between two questions about the same messages.
	verifyPause = 20 * time.Millisecond
	// maxUnverified is the number of messages that may wait for an answer. With more, the streams read the log
	// instead.
	maxUnverified = 4096
)

var errNotInLog = errors.New("sse: the log does not hold a message with this sequence")

// admit reports whether a live message can be delivered at once. If not, and if it concerns a stream here, it is
// delivered once the log is known to hold it.
func (h *Hub) admit(ctx context.Context, src *source, m *nats.Msg, token string, class joblog.Class, seq uint64) bool {
	u := &src.unverified
	if h.o.Exclusive || class == joblog.ClassInbox || seq > 0 && seq <= u.knownEnd {
		return true
	}
	switch {
	case !h.reaches(token, class):
	case seq == 0:
		h.queue.Skip(joblog.SkippedLive, m.Subject, 0, errNotInLog)
	case len(u.msgs) >= maxUnverified:
		h.dropUnverified(src)
	default:
		u.msgs = append(u.msgs, unverifiedMsg{m, seq, time.Now()})
		h.fetchLogEnd(ctx, src, 0)
	}
	return false
}

// fetchLogEnd asks for the end of a source after a pause, unless a question is under way. It does not block.
func (h *Hub) fetchLogEnd(ctx context.Context, src *source, pause time.Duration) {
	u := &src.unverified
	if u.asking {
		return
	}
	u.asking = true
	asked := len(u.msgs)
	go func() {
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
		_, last, err := src.bounds.get(ctx)
		select {
		case h.ends <- logEnd{src, last, asked, err}:
		case <-ctx.Done():
		}
	}()
}

// onLogEnd delivers the messages that the log holds. It skips those that the log still does not hold after
// verifyTimeout, and requests the others again.
func (h *Hub) onLogEnd(ctx context.Context, p logEnd) {
	u := &p.src.unverified
	u.asking = false
	msgs := u.msgs
	u.msgs = nil
	if p.err == nil {
		u.knownEnd = p.seq
	}
	pause := time.Duration(0)
	for i, m := range msgs {
		switch {
		case m.seq <= u.knownEnd:
			h.deliverLive(p.src, m.Msg, m.seq)
			continue
		case p.err == nil && i < p.asked && time.Since(m.at) > verifyTimeout:
			h.queue.Skip(joblog.SkippedLive, m.Subject, 0, errNotInLog)
			continue
		case i < p.asked:
			pause = verifyPause
		}
		u.msgs = append(u.msgs, m)
	}
	if len(u.msgs) > 0 {
		h.fetchLogEnd(ctx, p.src, pause)
	}
}

// dropUnverified discards the messages of a source that wait for an answer, and makes every stream read the log.
func (h *Hub) dropUnverified(src *source) {
	h.log.Warn("too many unverified live messages dropped; all streams catch up from the log", "messages", len(src.unverified.msgs))
	src.unverified.msgs = nil
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.requestReplayLocked()
}
