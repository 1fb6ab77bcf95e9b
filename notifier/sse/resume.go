package sse

import (
	"context"

	"github.com/hark-jobs/hark/jobs"
)

// resumption is where a stream begins.
type resumption struct {
	at     jobs.Position
	reason string // why this is not the position that the reader named; empty if it is, or if it named none
	last   uint64 // the end of the log

	// The first sequences after the marks that the log holds; 0 if there is none.
	ownMissed, allMissed uint64
	unasked              bool // the log may hold others after the marks: nobody was asked
}

// resumePoint returns the position after which a reader resumes. If that is not the one of its last event id, reason says
// why. Each mark is compared with the log's bounds, first and last.
func resumePoint(lastEventID string, epoch jobs.Epoch, first, last uint64) (at jobs.Position, reason string) {
	end := jobs.Position{Epoch: epoch, Own: last, All: last}
	if lastEventID == "" {
		return end, ""
	}
	at, err := jobs.ParsePosition(lastEventID)
	switch {
	case err != nil:
		return end, "unknown_id"
	case at.Epoch != epoch || max(at.Own, at.All) > last:
		return end, "other_epoch"
	case min(at.Own, at.All)+1 < first:
		return end, "expired"
	}
	return at, ""
}

// resume returns where a stream begins. It asks the leader of the log what the reader has missed: a replica that lags may not have
// it yet, and the stream would be live without it. It blocks for a round trip for each of the two logs. Where no replica can lag, the
// stream reads the log after its hello, without this question, unless a mark is to be moved.
func (h *Hub) resume(ctx context.Context, src *source, sub Subscriber, first, last uint64) (from resumption, err error) {
	from.last = last
	from.at, from.reason = resumePoint(sub.LastEventID, h.currentEpoch(), first, last)
	settled := min(src.settled.Load(), last)
	for _, log := range []struct {
		everyone     bool
		mark, missed *uint64
	}{{false, &from.at.Own, &from.ownMissed}, {true, &from.at.All, &from.allMissed}} {
		if *log.mark == last {
			continue
		}
		if !h.queue.CanLag() && !isOld(*log.mark, first, last) {
			from.unasked = true
			continue
		}
		if *log.missed, err = h.queue.NextNotification(ctx, sub.User, log.everyone, *log.mark); err != nil {
			return from, err
		}
		if *log.missed == 0 {
			*log.mark = max(*log.mark, settled)
		}
	}
	return from, nil
}

// isOld reports whether a mark is in the older half of a log that has lost its first messages.
func isOld(mark, first, last uint64) bool { return first > 1 && mark < first+(last-first+1)/2 }
