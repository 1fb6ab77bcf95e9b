// Package trouble keeps what is wrong at the moment: for a health check, and for a log that says so once a minute.
package trouble

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Period is how often trouble that lasts is logged, for each of its reasons.
const Period = time.Minute

// maxReasons is how many different reasons are remembered. A reason may hold a number that is never the same twice.
const maxReasons = 8

// Trouble is something that is wrong now and then. Its methods do not block and are safe for concurrent use.
type Trouble struct {
	log         *slog.Logger
	begin, over string

	mu     sync.Mutex
	err    error
	logged map[string]time.Time // when each reason was logged last; empty while nothing was
}

// New returns a Trouble whose beginning is logged with the message begin, and whose end with the message over. Until the
// first [Trouble.Begin] or [Trouble.Over] its error is first, which may be nil and is not logged.
func New(log *slog.Logger, begin, over string, first error) *Trouble {
	return &Trouble{log: log, begin: begin, over: over, err: first, logged: make(map[string]time.Time)}
}

// Err returns what is wrong, nil if nothing is.
func (t *Trouble) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Begin notes that something is wrong, and why. It logs that at once, and while it lasts once in a [Period]; so it does
// when the reason becomes another.
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
		reason = "" // all others together
		if last, known = t.logged[reason]; known && time.Since(last) < Period {
			return
		}
	}
	t.logged[reason] = time.Now()
	t.log.Warn(t.begin, "err", err)
}

// Over notes that all is well. It logs that if the trouble was logged.
func (t *Trouble) Over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.logged) > 0 {
		t.log.Info(t.over)
		clear(t.logged)
	}
	t.err = nil
}
