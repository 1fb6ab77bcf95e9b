// Package trouble tracks a failure that comes and goes, for a health check and for the log, which has a line about it once a minute.
package trouble

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Period is the interval at which a lasting failure is logged, for each of its reasons.
const Period = time.Minute

// maxReasons is the largest number of different reasons in memory. A reason may contain a number that is always different.
const maxReasons = 8

// Trouble is a failure that comes and goes. Its methods do not block and are safe for concurrent use.
type Trouble struct {
	log         *slog.Logger
	begin, over string

	mu     sync.Mutex
	err    error
	logged map[string]time.Time // when each reason was logged last; empty if nothing was logged since Over
}

// New returns a Trouble that logs begin when the failure begins, and over when it ends. Until the first [Trouble.Begin] or
// [Trouble.Over], Err returns first, which may be nil and is not logged.
func New(log *slog.Logger, begin, over string, first error) *Trouble {
	return &Trouble{log: log, begin: begin, over: over, err: first, logged: make(map[string]time.Time)}
}

// Err returns the current failure, nil if there is none.
func (t *Trouble) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Begin records a failure. It logs each new reason at once, and repeats a reason once in a [Period].
func (t *Trouble) Begin(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	reason := strings.ToLower(err.Error())
	last, known := t.logged[reason]
	if known && time.Since(last) < Period {
		return
	}
	if !known && len(t.logged) >= maxReasons {
		reason = "" // all other reasons share one entry
		if last, known = t.logged[reason]; known && time.Since(last) < Period {
			return
		}
	}
	t.logged[reason] = time.Now()
	t.log.Warn(t.begin, "err", err)
}

// Over records that the failure is over. It logs that if the failure was logged.
func (t *Trouble) Over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.logged) > 0 {
		t.log.Info(t.over)
		clear(t.logged)
	}
	t.err = nil
}
