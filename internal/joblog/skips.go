package joblog

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Skippable is the sort of a skipped message: a label of the metric, and a value in the log.
type Skippable string

// The sorts of skipped messages.
const (
	SkippedJob          Skippable = "job"
	SkippedState        Skippable = "state"
	SkippedNotification Skippable = "notification"
	SkippedKind         Skippable = "kind"
	// SkippedLive is a live message that the log does not hold.
	SkippedLive Skippable = "live"
	// SkippedEvent is a live event that is malformed.
	SkippedEvent Skippable = "event"
	// SkippedSubject is a message of the log on a subject that hark never writes to, so nothing reads it.
	SkippedSubject Skippable = "subject"
)

// Limits of memory and log lines. Any program with access to the log can write any number of malformed messages.
const (
	maxSkipsSeen = 10_000
	skipLogs     = 10 // lines in skipLogTime
	skipLogTime  = time.Minute
	// maxSkipsListed is how many skipped messages [Store.ListSkipped] returns, and maxReasonBytes limits the reason of each.
	maxSkipsListed = 100
	maxReasonBytes = 500
)

// SkippedMessage is a message that this process has skipped.
type SkippedMessage struct {
	What    Skippable `json:"what"`
	Subject string    `json:"subject"`
	// Seq is the sequence in the stream of the subject, or 0 for a message that was never stored.
	Seq    uint64    `json:"seq"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"` // when it was skipped
}

// skips counts, lists and logs skipped messages, each message once.
type skips struct {
	log *slog.Logger

	mu     sync.Mutex
	counts map[Skippable]uint64
	seen   map[skipped]struct{}
	recent []SkippedMessage // the last ones, the oldest first
	since  time.Time        // when the current minute began
	logged int              // lines in that minute
	silent int              // messages of that minute that were not logged
}

// skipped is a skipped message. A shard is in one stream, so with it the sequence is that of one message.
type skipped struct {
	what  Skippable
	shard string
	seq   uint64
}

func newSkips(log *slog.Logger) *skips {
	s := &skips{log: log, counts: make(map[Skippable]uint64), seen: make(map[skipped]struct{})}
	for _, what := range []Skippable{SkippedJob, SkippedState, SkippedNotification, SkippedKind, SkippedLive, SkippedEvent, SkippedSubject} {
		s.counts[what] = 0
	}
	return s
}

// Skip counts a message that was skipped because hark cannot have written it. The subject of a stored message may be the live one; it
// is listed and logged with the one in the log. A message with the same sequence counts
// once; sequence 0 is a message that was never stored. Skip lists the message for [Store.ListSkipped], and logs up to 10
// messages a minute. It does not block and is safe for concurrent use.
func (q *Store) Skip(what Skippable, subject string, seq uint64, err error) {
	s := q.skips
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq > 0 {
		subject = logOf(subject)
		shard, _, _ := splitSubject(subject)
		key := skipped{what, strings.Clone(shard), seq}
		if _, known := s.seen[key]; known {
			return
		}
		if len(s.seen) >= maxSkipsSeen {
			clear(s.seen)
		}
		s.seen[key] = struct{}{}
	}
	s.counts[what]++
	if len(s.recent) == maxSkipsListed {
		s.recent = slices.Delete(s.recent, 0, 1)
	}
	s.recent = append(s.recent, SkippedMessage{what, strings.Clone(subject), seq, reasonOf(err), time.Now().UTC().Truncate(time.Millisecond)})
	if time.Since(s.since) >= skipLogTime {
		if s.silent > 0 {
			s.log.Warn("further messages skipped and not logged", "more", s.silent)
		}
		s.since, s.logged, s.silent = time.Now(), 0, 0
	}
	if s.logged == skipLogs {
		s.silent++
		return
	}
	s.logged++
	s.log.Warn("malformed message skipped: not written by hark", "what", string(what), "subject", subject, "seq", seq, "err", err)
}

// Skipped returns how many messages this process has skipped.
func (q *Store) Skipped() map[Skippable]uint64 {
	q.skips.mu.Lock()
	defer q.skips.mu.Unlock()
	return maps.Clone(q.skips.counts)
}

// ListSkipped returns the last 100 messages that this process has skipped, the newest first. It does not block and is safe for
// concurrent use.
func (q *Store) ListSkipped() []SkippedMessage {
	q.skips.mu.Lock()
	defer q.skips.mu.Unlock()
	list := slices.Clone(q.skips.recent)
	slices.Reverse(list)
	return list
}

// reasonOf returns the text of an error, which may quote the message.
func reasonOf(err error) string {
	text := err.Error()
	if len(text) > maxReasonBytes {
		text = strings.ToValidUTF8(text[:maxReasonBytes], "") + "…"
	}
	return text
}

// SkipSubject is [Store.Skip] for a message of the log whose subject [ParseSubject] refuses.
func (q *Store) SkipSubject(subject string, seq uint64) {
	q.skip(&storedMsg{Subject: subject, Seq: seq}, errSubject)
}

// skip is [Store.Skip] for a stored message.
func (q *Store) skip(m *storedMsg, err error) {
	what := SkippedSubject
	switch _, _, class := splitSubject(m.Subject); class { // the shard may be what is wrong
	case ClassJob:
		what = SkippedJob
	case ClassState:
		what = SkippedState
	case ClassNotification:
		what = SkippedNotification
	}
	q.Skip(what, m.Subject, m.Seq, err)
}
