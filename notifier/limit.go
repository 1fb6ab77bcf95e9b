package notifier

import (
	"math"
	"net/http"
	"sync"
	"time"
)

// limiter bounds how often each user may do something, by the generic cell rate algorithm (ITU-T I.371): all it knows
// of a user is when they will have their whole allowance again. It is safe for concurrent use.
type limiter struct {
	every time.Duration // one is allowed; 0 allows everything
	burst time.Duration // ahead of that a user may be

	mu     sync.Mutex
	rested map[string]int64 // when a user will have been idle for long enough, Unix nanoseconds
	most   int              // so many are remembered before those who are rested are forgotten
}

// fewUsers are not worth a look through them.
const fewUsers = 1000

// newLimiter allows so many a second, and ten times as many at once after a rest; 0 allows everything.
func newLimiter(perSecond float64) *limiter {
	l := &limiter{rested: make(map[string]int64), most: fewUsers}
	if perSecond > 0 {
		l.every = max(time.Duration(float64(time.Second)/perSecond), 1)
		l.burst = time.Duration(math.Ceil(10*perSecond)) * l.every
	}
	return l
}

// take takes one from user's allowance, or returns the problem that says when there is one again.
func (l *limiter) take(user string) error {
	if l.every == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.rested) >= l.most {
		l.sweep(now)
	}
	rested := max(l.rested[user], now.UnixNano()) + int64(l.every)
	if wait := time.Duration(rested-now.UnixNano()) - l.burst; wait > 0 {
		return newProblem(http.StatusTooManyRequests, "rate_limited", "That was too much at once; slow down.").retry(int(math.Ceil(wait.Seconds())))
	}
	l.rested[user] = rested
	return nil
}

// sweep forgets the users who have their whole allowance again, and puts the next time off until there may be as many
// of them as of the others.
func (l *limiter) sweep(now time.Time) {
	for user, rested := range l.rested {
		if rested <= now.UnixNano() {
			delete(l.rested, user)
		}
	}
	l.most = max(fewUsers, 2*len(l.rested))
}
