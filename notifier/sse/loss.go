package sse

import (
	"context"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// Missed tells the hub that live messages on a subscription were dropped. A connection's error handler calls
// it for [nats.ErrSlowConsumer]; it does not block. Without that call, and with [Options.HearAll] in any case, the hub
// finds out within a second.
func (h *Hub) Missed(*nats.Subscription) {
	select {
	case h.lossy <- struct{}{}:
	default:
	}
}

// mend makes the streams whose subscriptions have dropped messages since the last look read the log. Where one brings
// all, that is left to the chores of the second, which come to one feed after the other: all streams at once, after each
// drop, would be too much for a hub that has too much to do already.
func (h *Hub) mend() {
	if h.o.HearAll {
		return
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.mendCommon() {
		return
	}
	for _, f := range h.feeds {
		h.mendFeed(f)
	}
}

// mendCommon does so for the subscription to what concerns everyone, and reports whether it has dropped any. The hub's
// lock is held for reading.
func (h *Hub) mendCommon() bool {
	if h.o.HearAll {
		return false // mendFeed looks at it for each feed
	}
	n, err := h.common.Dropped()
	if err != nil || n == h.dropped {
		return false
	}
	h.dropped = n
	h.catchUp()
	return true
}

// mendFeed does so for the subscription that brings one user's news. A message that was dropped is counted before a
// later one gets through, so a look at the count before each notification keeps them in order. It may be called for
// several feeds at a time.
func (h *Hub) mendFeed(f *feed) {
	n, err := h.bringing(f).Dropped()
	if err != nil || n == f.dropped {
		return
	}
	f.dropped = n
	f.catchUp(h.horizon[1])
}

// bringing returns the subscription that brings a user's own news.
func (h *Hub) bringing(f *feed) *nats.Subscription {
	if f.sub == nil {
		return h.common
	}
	return f.sub
}

func (f *feed) catchUp(horizon uint64) {
	for s := range f.streams {
		s.catchUp(horizon)
	}
}

// catchUp makes every stream read the log. The lock is held for reading.
func (h *Hub) catchUp() {
	for _, f := range h.feeds {
		f.catchUp(h.horizon[1])
	}
}

// age moves the horizon: what was stored before it has been heard, or found missing, long ago.
func (h *Hub) age() { h.horizon[1], h.horizon[0] = h.horizon[0], h.heard }

// standing is where the log stood after a reconnect.
type standing struct {
	epoch jobs.Epoch
	last  uint64
	heard uint64 // what had been heard over the connections before
}

// connection follows a change of the connection to NATS. After a new one anything may have been missed, and
// the log may be another.
func (h *Hub) connection(ctx context.Context, status nats.Status) error {
	if status == nats.CLOSED {
		return fmt.Errorf("sse: %w", nats.ErrConnectionClosed)
	}
	h.mu.RLock()
	h.catchUp()
	h.mu.RUnlock()
	h.stopAsk()
	ctx, h.stopAsk = context.WithCancel(ctx)
	go h.askStanding(ctx, h.heard)
	return nil
}

// askStanding asks until it is answered: JetStream may come back later than the connection.
func (h *Hub) askStanding(ctx context.Context, heard uint64) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		at, err := h.askOnce(ctx)
		if err == nil {
			at.heard = heard
			select {
			case h.standing <- at:
			case <-ctx.Done():
			}
			return
		}
		if ctx.Err() == nil {
			h.log.Warn("log not asked where it stands after a reconnect; trying again", "err", err, "in", pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (h *Hub) askOnce(ctx context.Context) (at standing, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if at.epoch, err = h.queue.CurrentEpoch(ctx); err == nil {
		_, at.last, err = h.bounds.get(ctx)
	}
	return at, err
}

// stands compares where the log stands after a reconnect with what was heard of it before. When it was made
// anew, or has lost its end, what the streams know of it is void.
func (h *Hub) stands(at standing) {
	same := jobs.Epoch(h.epoch.Swap(int64(at.epoch))) == at.epoch
	if same && at.last >= at.heard {
		return
	}
	h.log.Warn("the log is not what it was; all readers start afresh", "epoch", at.epoch, "same", same, "last", at.last, "heard", at.heard)
	h.pending.forget()
	h.forgetLive()
	h.heard = at.last
	h.horizon = [2]uint64{at.last, at.last}
	h.end("stream_reset", "The log was made anew.")
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.catchUp() // streams that were opened meanwhile; some of what was forgotten may be theirs
}

// forgetLive drops what has been heard and not handed out: of a log that is no more, it would be taken for what is
// still to come of the new one.
func (h *Hub) forgetLive() {
	for {
		select {
		case <-h.live:
		default:
			return
		}
	}
}
