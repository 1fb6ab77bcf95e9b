package sse

import (
	"errors"
	"fmt"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// maxEvent is the size limit of a frame, and the default of [Options.Backlog]. All that hark stores makes smaller
// frames. A larger message that another program has written to the log is skipped.
const maxEvent = 64 << 10

var (
	errTooLarge  = fmt.Errorf("event of more than %d KiB", maxEvent>>10)
	errMalformed = errors.New("malformed message")
)

// notificationFrame returns the frame of a stored notification, live or from the log. If the message is malformed
// or too large, it is skipped, and the frame is nil. subject is the stored or the live one.
func (h *Hub) notificationFrame(subject string, id jobs.NotificationID, stored []byte) []byte {
	if len(stored) > maxEvent { // not worth parsing
		h.skip(joblog.SkippedNotification, subject, id.Seq, errTooLarge)
		return nil
	}
	if _, err := joblog.DecodeNotification(stored); err != nil { // the inbox does not take it either
		h.skip(joblog.SkippedNotification, subject, id.Seq, err)
		return nil
	}
	return h.checkSize(joblog.SkippedNotification, subject, id.Seq, encodeNotification(id, stored), errMalformed)
}

// jobUpdate returns the update for a message about a job. It has no frame if the message was skipped.
func (h *Hub) jobUpdate(subject string, seq uint64, stored []byte) update {
	what := joblog.SkippedState
	if _, class, _ := joblog.ParseSubject(subject); class == joblog.ClassJob {
		what = joblog.SkippedJob
	}
	u, err := encodeJob(subject, seq, stored)
	u.frame = h.checkSize(what, subject, seq, u.frame, err)
	return u
}

// inboxUpdate returns the update for a change of an inbox. It has no frame if the message was skipped.
func (h *Hub) inboxUpdate(subject string, data []byte) update {
	u := encodeInboxChange(data)
	u.frame = h.checkSize(joblog.SkippedLive, subject, 0, u.frame, errMalformed)
	return u
}

// checkSize returns the frame, or skips the message and returns nil if there is no frame or it is too large.
func (h *Hub) checkSize(what joblog.Skippable, subject string, seq uint64, frame []byte, malformed error) []byte {
	switch {
	case frame == nil:
		h.skip(what, subject, seq, malformed)
	case len(frame) > maxEvent:
		h.skip(what, subject, seq, errTooLarge)
		return nil
	}
	return frame
}

// skip counts and logs a message that no stream gets. The log has one line per message, not one per reader.
func (h *Hub) skip(what joblog.Skippable, subject string, seq uint64, why error) {
	h.skipped.Add(1)
	h.queue.Skip(what, subject, seq, why)
}

// Skipped returns how often a message was not sent to a stream because it is too large or malformed.
func (h *Hub) Skipped() uint64 { return h.skipped.Load() }
