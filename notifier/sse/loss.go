package sse

import (
	"context"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// NotifySlowConsumer tells the hub that a subscription has dropped messages. The error handler of its connection
// calls it for [nats.ErrSlowConsumer]. It does not block. Without the call, and with [Options.SubscribeAll] in any
// case, the hub detects dropped messages within a second.
func (h *Hub) NotifySlowConsumer(*nats.Subscription) {
	select {
	case h.slowConsumer <- struct{}{}:
	default:
	}
}

// checkDrops makes the streams whose subscriptions have dropped messages read the log. With one subscription for
// all users that is left to the housekeeping of the second: a replay of all streams after each drop would overload
// a hub that is already too busy.
func (h *Hub) checkDrops() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.checkAllTopicDropsLocked()
	if h.o.SubscribeAll {
		return
	}
	for _, src := range h.sources() {
		h.checkCommonDropsLocked(src)
	}
	for _, us := range h.users {
		h.checkUserDropsLocked(us)
	}
}

// checkCommonDropsLocked checks the subscription for the broadcasts of a source for dropped messages. If there are any, it
// makes the streams of all users of the source read the log and returns true.
func (h *Hub) checkCommonDropsLocked(src *source) bool {
	if h.o.SubscribeAll {
		return false // checkUserDropsLocked checks it for each user
	}
	n, err := src.sub.Dropped()
	if err != nil || n == src.subDropped {
		return false
	}
	src.subDropped = n
	for us := range h.eachOfLocked(src) {
		us.requestReplayLocked(src.replayFloor[1])
	}
	return true
}

// checkUserDropsLocked checks a user's subscription for dropped messages. If there are any, it makes the user's
// streams read the log. NATS counts a dropped message before it delivers a later one, so a check before each
// notification keeps the order. It may run for several users at a time.
func (h *Hub) checkUserDropsLocked(us *userStreams) {
	n, err := h.subscriptionFor(us).Dropped()
	if err != nil || n == us.droppedSeen {
		return
	}
	us.droppedSeen = n
	us.requestReplayLocked(h.sourceOf(us.token).replayFloor[1])
}

// subscriptionFor returns the subscription that delivers the user's messages.
func (h *Hub) subscriptionFor(us *userStreams) *nats.Subscription {
	if us.sub == nil {
		return h.commonSub
	}
	return us.sub
}

// requestReplayLocked makes all of the user's streams read the log, with the states of jobs stored after a
// sequence.
func (us *userStreams) requestReplayLocked(floor uint64) {
	for s := range us.eachLocked {
		s.requestReplay(floor)
	}
}

// requestReplayLocked makes every stream read the log.
func (h *Hub) requestReplayLocked() {
	for _, us := range h.users {
		us.requestReplayLocked(h.sourceOf(us.token).replayFloor[1])
	}
}

// advanceReplayFloor moves the floors on. All that was stored before them has been received, or was found to be lost.
func (h *Hub) advanceReplayFloor() {
	for _, src := range h.sources() {
		src.replayFloor[1], src.replayFloor[0] = src.replayFloor[0], src.lastHeard
	}
}

// logKnown is what the hub has of the log when it asks where the log ends.
type logKnown struct {
	epoch jobs.Epoch
	heard []uint64 // the greatest sequence of each source that was received live, in that epoch
}

// logPosition is where the log ends, as it answered: a position for each source.
type logPosition struct {
	epoch jobs.Epoch
	ends  []uint64
	known logKnown // before the question
}

// truncated reports whether a source ends before what was received from it.
func (at *logPosition) truncated() bool {
	for i, end := range at.ends {
		if end < at.known.heard[i] {
			return true
		}
	}
	return false
}

// logKnown returns what the hub has of the log. Only the goroutine that changes it may call this: an epoch and sequences of
// different moments would pass for a log that went back.
func (h *Hub) logKnown() logKnown {
	known := logKnown{epoch: h.currentEpoch()}
	for _, src := range h.sources() {
		known.heard = append(known.heard, src.lastHeard)
	}
	return known
}

// onConnStatus handles a change of the connection to NATS. After a reconnect messages may have been missed, so all
// streams read the log. The log may also be another one, so the hub asks for its end. It returns an error if the
// connection is closed for good.
func (h *Hub) onConnStatus(ctx context.Context, status nats.Status) error {
	if status == nats.CLOSED {
		return fmt.Errorf("sse: %w", nats.ErrConnectionClosed)
	}
	h.mu.RLock()
	h.requestReplayLocked()
	h.missAllLocked()
	h.askAudiencesLocked()
	h.publishAudiencesLocked()
	h.mu.RUnlock()
	h.askLogPosition(ctx)
	return nil
}

// askLogPosition asks for the end of the log. It does not block.
func (h *Hub) askLogPosition(ctx context.Context) {
	h.cancelFetch()
	ctx, h.cancelFetch = context.WithCancel(ctx)
	go h.fetchLogPosition(ctx, h.logKnown())
}

// fetchLogPosition asks for the end of the log until it is answered or ctx ends. JetStream may become available
// later than the connection.
func (h *Hub) fetchLogPosition(ctx context.Context, known logKnown) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		at, err := h.readLogPosition(ctx, known)
		if err == nil {
			select {
			case h.logPositions <- at:
			case <-ctx.Done():
			}
			return
		}
		if ctx.Err() == nil {
			h.log.Warn("end of the log unknown after a reconnect; retrying", "err", err, "in", pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// readLogPosition asks for the epoch and the end of the log. If a source ends before what was received from it, it
// was truncated, and its sequences will be used again. Then it begins a new epoch.
func (h *Hub) readLogPosition(ctx context.Context, known logKnown) (at logPosition, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	at, err = h.endsOfLog(ctx, known)
	if err == nil && at.truncated() && h.queue.CanLag() { // a new leader may not have applied all that it has
		select {
		case <-ctx.Done():
		case <-time.After(truncatedPause):
		}
		at, err = h.endsOfLog(ctx, known)
	}
	if err != nil || at.epoch != known.epoch || !at.truncated() {
		return at, err
	}
	begun, err := h.queue.BeginEpoch(ctx, known.epoch)
	if err != nil {
		h.log.Error("log truncated, and starting a new epoch failed; new messages may reuse the ids of lost ones", "ends", at.ends, "expected", known.heard, "err", err)
		return at, nil
	}
	at.epoch = begun
	return at, nil
}

// truncatedPause is the pause before a cluster is asked again whether its log was truncated.
const truncatedPause = time.Second

// endsOfLog asks for the epoch and the end of the log.
func (h *Hub) endsOfLog(ctx context.Context, known logKnown) (at logPosition, err error) {
	at.known = known
	if at.epoch, err = h.queue.CurrentEpoch(ctx); err != nil {
		return at, err
	}
	for _, src := range h.sources() {
		_, end, err := src.bounds.get(ctx)
		if err != nil {
			return at, err
		}
		at.ends = append(at.ends, end)
	}
	if len(at.ends) != len(known.heard) {
		return at, joblog.ErrSpread
	}
	return at, nil
}

// checkEpoch asks whether another process has begun a new epoch. It does not block.
func (h *Hub) checkEpoch(ctx context.Context) {
	if !h.checkingEpoch.CompareAndSwap(false, true) {
		return
	}
	known := h.logKnown()
	go func() {
		defer h.checkingEpoch.Store(false)
		asked := time.Now()
		at, err := h.readLogPosition(ctx, known)
		if err == nil && at.epoch == h.currentEpoch() {
			h.settle(h.logEnds.record(at, asked))
		}
		if err != nil || at.epoch == h.currentEpoch() {
			return // an error needs no retry here: the next reconnect or check reads again
		}
		select {
		case h.logPositions <- at:
		case <-ctx.Done():
		}
	}()
}

// settle sets the settled end of each source. Without ends there are none.
func (h *Hub) settle(ends []uint64) {
	for i, src := range h.sources() {
		if i < len(ends) {
			src.settled.Store(ends[i])
		} else {
			src.settled.Store(0)
		}
	}
}

// logEnds has ends of the sources that are settled: so old that every server which answers for the log has what is before it. A
// leader that was replaced answers for some seconds more, without what the new one has stored. Where the log has nothing for a
// reader after its mark, the mark is moved to the settled end, so that it does not become older than the log.
type logEnds struct {
	settleAfter time.Duration
	seen        logPosition
	seenAt      time.Time
	settled     []uint64
}

// defaultSettleAfter is longer than a NATS server leads a stream without the others: 10 s.
const defaultSettleAfter = 15 * time.Second

// record takes an answer about the end of the log and the time of the question, and returns the settled ends, or none.
func (l *logEnds) record(at logPosition, asked time.Time) []uint64 {
	switch {
	case at.epoch != l.seen.epoch || len(at.ends) != len(l.seen.ends):
		l.settled, l.seen, l.seenAt = nil, at, asked
	case asked.Sub(l.seenAt) >= l.settleAfter:
		l.settled, l.seen, l.seenAt = l.seen.ends, at, asked
	}
	return l.settled
}

// onLogPosition compares the log with what was received from it. If the log was created again or truncated, the
// hub discards its state and resets all readers.
func (h *Hub) onLogPosition(at logPosition) {
	sources := h.sources()
	if len(at.ends) != len(sources) {
		return // of a log with another number of streams
	}
	if at.known.epoch != h.currentEpoch() {
		return // asked before the last reset, whose readers it would reset again
	}
	same := at.epoch == at.known.epoch
	if same && !at.truncated() {
		return
	}
	h.epoch.Store(int64(at.epoch))
	h.log.Warn("log recreated or truncated; all streams are reset", "epoch", at.epoch, "same_epoch", same, "ends", at.ends, "expected", at.known.heard)
	h.settle(nil)
	h.discardLive()
	for i, src := range sources {
		end := at.ends[i]
		src.broadcasts.discard()
		h.restartComparison(src, end)
		src.lastHeard, src.unverified.knownEnd = end, end
		src.replayFloor = [2]uint64{end, end}
	}
	h.endAll("stream_reset", "The event log was reset; reconnect.")
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.requestReplayLocked() // for streams opened meanwhile: some of the discarded messages may be theirs
}

// discardLive discards the live messages not handled yet. They are of a log that is gone: their sequences would
// pass for later ones of the new log.
func (h *Hub) discardLive() {
	for _, src := range h.sources() {
		src.unverified.msgs = nil
	}
	for {
		select {
		case <-h.live:
		default:
			return
		}
	}
}
