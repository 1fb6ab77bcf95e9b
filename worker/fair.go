package worker

import (
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/nats-io/nats.go"
)

// A job of a user at their limit of running jobs is deferred: a nak with a delay has the server deliver it again later, and
// other users' jobs meanwhile. Deferred jobs are spaced, so that they come back in order, that one comes soon after a job of
// the user has ended, and that thousands of them do not keep the worker busy.
const (
	// deferMin is the shortest delay of a deferred job.
	deferMin = 100 * time.Millisecond
	// deferSpacing is the time between two deferred jobs of a user, multiplied by the number of users with deferred jobs.
	deferSpacing = 5 * time.Millisecond
)

// shares counts the running jobs of each user, and defers jobs above the limit. It is for one goroutine.
type shares struct {
	max     int // jobs of one user
	running map[string]int
	next    map[string]time.Time // when a user's last deferred job is delivered again
}

func newShares(h *Handler) *shares {
	limit := h.perUser
	if limit == 0 {
		limit = max(h.concurrency/2, 1)
	}
	return &shares{max: limit, running: make(map[string]int), next: make(map[string]time.Time)}
}

// begin counts a job of the user as running and returns 0, or returns for how long to defer it.
func (s *shares) begin(user string, now time.Time) (wait time.Duration) {
	if s.running[user] < s.max {
		s.running[user]++
		return 0
	}
	for other, last := range s.next {
		if last.Before(now) {
			delete(s.next, other)
		}
	}
	due := now.Add(deferMin)
	if last, ok := s.next[user]; ok {
		due = later(due, last.Add(deferSpacing*time.Duration(len(s.next))))
	}
	s.next[user] = due
	return due.Sub(now)
}

// end counts a job of the user as ended.
func (s *shares) end(user string) {
	s.running[user]--
	if s.running[user] == 0 {
		delete(s.running, user)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// userOf returns the user's token in the subject of a job message.
func userOf(m *nats.Msg) string {
	token, _, _ := joblog.ParseSubject(m.Subject)
	return token
}
