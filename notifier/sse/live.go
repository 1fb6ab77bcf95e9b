package sse

import (
	"context"
	"strconv"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// userStreams holds one user's open streams and the subscription to the user's live messages. Most users have one
// stream, so the streams form a linked list, which costs less than a slice. Hub.mu guards it.
type userStreams struct {
	token  string             // the user's subject token
	sub    *nats.Subscription // nil with [Options.SubscribeAll]
	oldest *stream

	// The fields below belong to Run and the goroutines that it runs with forEachParallel.
	droppedSeen   int    // messages that the subscription had dropped at the last check
	nextBroadcast uint64 // the number of the next broadcast to deliver
}

// onLive delivers a live message once the log is known to hold it.
func (h *Hub) onLive(ctx context.Context, m *nats.Msg) {
	token, class, ok := h.queue.ParseSubject(m.Subject)
	if !ok {
		h.queue.SkipSubject(m.Subject, headerSeq(m, jetstream.SequenceHeader))
		return
	}
	var seq uint64
	if class != joblog.ClassInbox { // inbox changes are not stored
		seq = headerSeq(m, jetstream.SequenceHeader)
	}
	src := h.sourceOfSubject(m.Subject)
	if h.admit(ctx, src, m, token, class, seq) {
		h.deliverLive(src, m, seq)
	}
}

// deliverLive encodes a live message as a frame and sends it to the streams of its user. A broadcast is queued for
// the streams of all users of its source.
func (h *Hub) deliverLive(src *source, m *nats.Msg, seq uint64) {
	token, class, _ := h.queue.ParseSubject(m.Subject)
	if seq > src.lastHeard {
		src.lastHeard = seq
		h.cutOff.onAnswer() // the leader of the log sends it once most of its servers have it
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	if token == jobs.Everyone {
		if class == joblog.ClassNotification {
			h.recordHeard(src, m.Subject, seq)
			n := h.newLiveNotification(m, seq)
			n.broadcast = true
			src.broadcasts.pushLocked(h, src, n)
		}
		return
	}
	us := h.users[token]
	if us == nil {
		return
	}
	if class != joblog.ClassInbox { // inbox changes are not stored
		h.recordHeard(src, m.Subject, seq)
	}
	switch class {
	case joblog.ClassNotification:
		// Notifications come in the order of the log as far as it is known here, so earlier broadcasts come first.
		h.checkCommonDropsLocked(src)
		h.checkUserDropsLocked(us)
		src.broadcasts.deliverBelowLocked(us, seq)
		us.deliverLocked(h.newLiveNotification(m, seq))
	case joblog.ClassInbox:
		us.sendUpdateLocked(h.inboxUpdate(m.Subject, m.Data))
	case joblog.ClassJob, joblog.ClassState:
		us.sendUpdateLocked(h.jobUpdate(m.Subject, seq, m.Data))
	}
}

// liveNotification is a notification that was received live.
type liveNotification struct {
	seq, prev uint64 // its sequence, and that of its predecessor on the same subject
	broadcast bool
	frame     []byte // nil if the message is malformed; its sequence counts all the same
}

// newLiveNotification decodes the sequences of a live notification and encodes its frame.
func (h *Hub) newLiveNotification(m *nats.Msg, seq uint64) liveNotification {
	return liveNotification{
		seq: seq, prev: headerSeq(m, jetstream.LastSequenceHeader),
		frame: h.notificationFrame(m.Subject, jobs.NotificationID{Epoch: h.currentEpoch(), Seq: seq}, m.Data),
	}
}

// headerSeq returns the sequence in a header, or 0 if there is none.
func headerSeq(m *nats.Msg, name string) uint64 {
	v := m.Header[name]
	if len(v) == 0 {
		return 0
	}
	// The server appends its value to any that a publisher has set.
	seq, _ := strconv.ParseUint(v[len(v)-1], 10, 64)
	return seq
}

// name returns the user.
func (us *userStreams) name() string {
	user, err := joblog.UnescapeUser(us.token)
	if err != nil {
		panic(err) // the token was escaped by this module
	}
	return user
}

// eachLocked yields the streams, the oldest first.
func (us *userStreams) eachLocked(yield func(*stream) bool) {
	for s := us.oldest; s != nil; s = s.newer {
		if !yield(s) {
			return
		}
	}
}

// addLocked adds s as the newest stream, and returns the number of streams.
func (us *userStreams) addLocked(s *stream) (n int) {
	end := &us.oldest
	for n = 1; *end != nil; n++ {
		end = &(*end).newer
	}
	*end, s.user = s, us
	return n
}

// removeLocked removes s, and reports whether it was there.
func (us *userStreams) removeLocked(s *stream) bool {
	for at := &us.oldest; *at != nil; at = &(*at).newer {
		if *at == s {
			*at, s.newer = s.newer, nil
			return true
		}
	}
	return false
}

// deliverLocked delivers a notification to every stream.
func (us *userStreams) deliverLocked(n liveNotification) {
	for s := range us.eachLocked {
		s.deliver(n)
	}
}

// sendUpdateLocked sends an update to every stream, unless it has no frame.
func (us *userStreams) sendUpdateLocked(u update) {
	if u.frame == nil {
		return
	}
	for s := range us.eachLocked {
		s.sendUpdate(u)
	}
}
