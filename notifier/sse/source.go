package sse

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// source is one stream of the log. A user's jobs and notifications are in one source, and each has the broadcasts. So for a
// user there is one order, and what is known about one source says nothing about another. Except for bounds and
// settled, which are safe for concurrent use, a source belongs to Run.
type source struct {
	number int // of the stream
	bounds boundsReader

	sub        *nats.Subscription // for broadcasts; nil with Options.SubscribeAll
	subDropped int                // messages that sub had dropped at the last check
	broadcasts broadcasts
	unverified unverified
	comparison comparison

	lastHeard   uint64    // the greatest sequence received live
	replayFloor [2]uint64 // lastHeard one and two heartbeats ago; job states up to replayFloor[1] need no replay

	settled atomic.Uint64 // see logEnds
}

// newSources returns the sources of a log of n streams.
func (h *Hub) newSources(n int) []*source {
	all := make([]*source, n)
	for i := range all {
		all[i] = &source{number: i, broadcasts: broadcasts{chunkSize: broadcastChunk}, comparison: comparison{heard: make(map[string]uint64)}}
		all[i].bounds.init(func(ctx context.Context) (first, last uint64, err error) { return h.queue.Bounds(ctx, i) })
	}
	return all
}

// sources returns the sources of the log.
func (h *Hub) sources() []*source { return *h.from.Load() }

// sourceOf returns the source of a user, by the token in the user's subjects.
func (h *Hub) sourceOf(token string) *source {
	all := h.sources()
	return all[joblog.StreamOfToken(token, len(all))]
}

// sourceOfSubject returns the source of a stored or live message.
func (h *Hub) sourceOfSubject(subject string) *source {
	all := h.sources()
	return all[joblog.StreamOfSubject(subject, len(all))]
}

// listenToBroadcasts subscribes to what each source stores for everyone.
func (h *Hub) listenToBroadcasts() (err error) {
	all := h.sources()
	for i, src := range all {
		if src.sub, err = h.nc.ChanSubscribe(h.ns.LiveBroadcastSubject(i, len(all)), h.live); err != nil {
			return fmt.Errorf("sse: %w", err)
		}
	}
	return nil
}

// endListening ends the subscriptions of listenToBroadcasts.
func (h *Hub) endListening() {
	for _, src := range h.sources() {
		if src.sub != nil {
			src.sub.Unsubscribe()
		}
	}
}

// checkSpread begins again with other sources if the number of the log's streams has changed. The log has no messages at such
// a moment, and begins a new epoch.
func (h *Hub) checkSpread(ctx context.Context) error {
	n := h.queue.Streams()
	if n == len(h.sources()) {
		return nil
	}
	h.log.Warn("the log has another number of streams; all streams are reset", "streams", n)
	h.endListening()
	h.endComparison()
	h.discardLive()
	all := h.newSources(n)
	h.from.Store(&all)
	if !h.o.SubscribeAll {
		if err := h.listenToBroadcasts(); err != nil {
			return err
		}
	}
	h.endAll("stream_reset", "The event log was reset; reconnect.")
	h.mu.RLock()
	for _, us := range h.users {
		us.nextBroadcast = 0
	}
	h.requestReplayLocked()
	h.mu.RUnlock()
	h.askLogPosition(ctx)
	return nil
}

// eachOfLocked yields the users whose messages are in a source.
func (h *Hub) eachOfLocked(src *source) func(yield func(*userStreams) bool) {
	return func(yield func(*userStreams) bool) {
		for _, us := range h.users {
			if h.sourceOf(us.token) == src && !yield(us) {
				return
			}
		}
	}
}

// reaches reports whether a stored message is for a stream of this hub.
func (h *Hub) reaches(token string, class joblog.Class) bool {
	if token == jobs.Everyone {
		return class == joblog.ClassNotification
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.users[token] != nil
}
