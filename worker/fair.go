package worker

import (
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// A job of a user who has as many running as they may is put off: the server delivers it again a little later, and
// meanwhile those that wait behind it. What is put off comes again in its order, one job after the other, so that one is
// there soon after a job of the user has ended, and so that thousands of them do not keep the worker busy.
const (
	// putOffLeast is the shortest time for which a job is put off.
	putOffLeast = 100 * time.Millisecond
	// putOffEvery is the time between two that come again, multiplied by the users who have some.
	putOffEvery = 5 * time.Millisecond
)

// shares counts the jobs that run, by user, and says which others must wait. It is for one goroutine.
type shares struct {
	most    int // jobs of one user
	running map[string]int
	next    map[string]time.Time // when the last job of a user that was put off comes again
}

func newShares(h *Handler) *shares {
	most := h.perUser
	if most == 0 {
		most = max(h.slots/2, 1)
	}
	return &shares{most: most, running: make(map[string]int), next: make(map[string]time.Time)}
}

// begin counts a job of the user, unless it must wait for so long.
func (s *shares) begin(user string, now time.Time) (wait time.Duration) {
	if s.running[user] < s.most {
		s.running[user]++
		return 0
	}
	for other, last := range s.next {
		if last.Before(now) {
			delete(s.next, other)
		}
	}
	due := now.Add(putOffLeast)
	if last, ok := s.next[user]; ok {
		due = later(due, last.Add(putOffEvery*time.Duration(len(s.next))))
	}
	s.next[user] = due
	return due.Sub(now)
}

// end counts a job of the user as ended.
func (s *shares) end(user string) {
	if s.running[user]--; s.running[user] == 0 {
		delete(s.running, user)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// userOf returns the user's token in the subject of a job's message.
func userOf(m *nats.Msg) string {
	token, _, _ := jobs.ParseSubject(m.Subject)
	return token
}
