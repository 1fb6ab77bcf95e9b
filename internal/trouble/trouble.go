// Package trouble keeps what is wrong at the moment: for a health check, and for a log that says so once a minute.
package trouble

import (
	"log/slog"
	"sync"
	"time"
)

// Period is how often trouble that lasts is logged.
const Period = time.Minute

// Trouble is something that is wrong now and then. Its methods do not block and are safe for concurrent use.
type Trouble struct {
	log         *slog.Logger
	begin, over string

	mu     sync.Mutex
	err    error
	logged time.Time // zero while nothing was logged of it
}

// New returns a Trouble whose beginning is logged with the message begin, and whose end with the message over. Until the
// first [Trouble.Begin] or [Trouble.Over] its error is first, which may be nil and is not logged.
func New(log *slog.Logger, begin, over string, first error) *Trouble {
	return &Trouble{log: log, begin: begin, over: over, err: first}
}

// Err returns what is wrong, nil if nothing is.
func (t *Trouble) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Begin notes that something is wrong. It logs that at once, and while it lasts once in a [Period].
func (t *Trouble) Begin(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	if t.logged.IsZero() || time.Since(t.logged) >= Period {
		t.logged = time.Now()
		t.log.Warn(t.begin, "err", err)
	}
}

// Over notes that all is well. It logs that if the trouble was logged.
func (t *Trouble) Over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.logged.IsZero() {
		t.log.Info(t.over)
	}
	t.err, t.logged = nil, time.Time{}
}
