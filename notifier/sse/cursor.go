package sse

import (
	"context"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
)

// logPage is the number of notifications in one read of the log.
const logPage = 256

// cursor reads the notifications on one subject, a page at a time.
type cursor struct {
	hub         *Hub
	user        string
	everyone    bool // the broadcasts in the stream of the user
	readTimeout time.Duration
	after       uint64
	page        []joblog.StoredNotification
	more        bool
}

// earlierCursor returns the cursor whose next notification is the earlier one, or nil if both have reached their
// ends.
func earlierCursor(ctx context.Context, x, y *cursor) (*cursor, error) {
	for _, c := range []*cursor{x, y} {
		if err := c.fetchPage(ctx); err != nil {
			return nil, err
		}
	}
	switch {
	case len(x.page) == 0 && len(y.page) == 0:
		return nil, nil
	case len(x.page) == 0 || len(y.page) > 0 && y.page[0].Seq < x.page[0].Seq:
		return y, nil
	}
	return x, nil
}

// fetchPage reads the next page if the current one is used up.
func (c *cursor) fetchPage(ctx context.Context) (err error) {
	if len(c.page) > 0 || !c.more {
		return nil
	}
	ctx, done, err := c.hub.acquireLogReader(ctx, c.readTimeout)
	if err != nil {
		return err
	}
	defer done()
	read := c.hub.queue.NotificationsPage
	if c.everyone {
		read = c.hub.queue.BroadcastsPage
	}
	c.page, c.more, err = read(ctx, c.user, c.after, logPage)
	return err
}

// acquireLogReader blocks until this stream may read the log, or ctx ends. It returns a context with a timeout for
// the read. The caller must call done afterwards.
func (h *Hub) acquireLogReader(ctx context.Context, patience time.Duration) (limited context.Context, done func(), err error) {
	select {
	case h.logReaders <- struct{}{}:
		limited, cancel := context.WithTimeout(ctx, patience)
		return limited, func() { cancel(); <-h.logReaders }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// discardPage releases the page. It is read again when it is needed.
func (c *cursor) discardPage() {
	if len(c.page) > 0 {
		c.page, c.more = nil, true
	}
}

// advance moves to the next notification of the page.
func (c *cursor) advance() {
	c.after = c.page[0].Seq
	c.page = c.page[1:]
}
