package notifier

import (
	"math"
	"net/http"
	"sync"
	"time"
)

// limiter limits the rate of each user, by the generic cell rate algorithm (ITU-T I.371). For each user it stores one
// number, the theoretical arrival time (TAT) of the next request. It is safe for concurrent use.
type limiter struct {
	interval time.Duration // between requests at the limit; 0 means no limit
	burst    time.Duration // how far the TAT may be ahead of the clock

	mu      sync.Mutex
	tat     map[string]int64 // by user, Unix nanoseconds
	sweepAt int              // the size of tat at which expired entries are deleted
}

// minSweep is the smallest size of limiter.tat that is worth a sweep.
const minSweep = 1000

// newLimiter returns a limiter of a rate per second, with bursts of ten times the rate. 0 means no limit.
func newLimiter(perSecond float64) *limiter {
	l := &limiter{tat: make(map[string]int64), sweepAt: minSweep}
	if perSecond > 0 {
		l.interval = max(time.Duration(float64(time.Second)/perSecond), 1)
		l.burst = time.Duration(math.Ceil(10*perSecond)) * l.interval
	}
	return l
}

// take counts a request of the user. At the limit it returns a problem with the time until the next request is allowed.
func (l *limiter) take(user string) error {
	if l.interval == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.tat) >= l.sweepAt {
		l.sweepLocked(now)
	}
	tat := max(l.tat[user], now.UnixNano()) + int64(l.interval)
	if wait := time.Duration(tat-now.UnixNano()) - l.burst; wait > 0 {
		return newProblem(http.StatusTooManyRequests, "rate_limited", "You have made too many requests; slow down.").retry(int(math.Ceil(wait.Seconds())))
	}
	l.tat[user] = tat
	return nil
}

// sweepLocked deletes the entries of users with a full allowance. The next sweep comes when the map has doubled, so that
// a sweep costs each request a constant. l.mu must be held.
func (l *limiter) sweepLocked(now time.Time) {
	for user, tat := range l.tat {
		if tat <= now.UnixNano() {
			delete(l.tat, user)
		}
	}
	l.sweepAt = max(minSweep, 2*len(l.tat))
}
