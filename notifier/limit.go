package notifier

import (
	"math"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter bounds how often each user may do something. It is safe for concurrent use.
type limiter struct {
	perSecond rate.Limit
	burst     int

	mu    sync.Mutex
	users map[string]*rate.Limiter
	swept time.Time
}

// newLimiter allows so many a second, and ten times as many at once after a rest; 0 allows everything.
func newLimiter(perSecond float64) *limiter {
	return &limiter{perSecond: rate.Limit(perSecond), burst: int(math.Ceil(10 * perSecond)), users: make(map[string]*rate.Limiter)}
}

// take takes one from user's allowance, or returns the problem that says when there is one again.
func (l *limiter) take(user string) error {
	if l.perSecond == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.sweep(now)
	bucket := l.users[user]
	if bucket == nil {
		bucket = rate.NewLimiter(l.perSecond, l.burst)
		l.users[user] = bucket
	}
	if bucket.AllowN(now, 1) {
		return nil
	}
	wait := (1 - bucket.TokensAt(now)) / float64(l.perSecond)
	return newProblem(http.StatusTooManyRequests, "rate_limited", "That was too much at once; slow down.").retry(int(math.Ceil(wait)))
}

// sweep forgets the users who have rested long enough to have their whole allowance again.
func (l *limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Minute {
		return
	}
	l.swept = now
	for user, bucket := range l.users {
		if bucket.TokensAt(now) >= float64(l.burst) {
			delete(l.users, user)
		}
	}
}
