package sse

import (
	"context"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// logPage is how many notifications are read from the log at a time.
const logPage = 256

// cursor reads the notifications on one subject, a page at a time.
type cursor struct {
	hub      *Hub
	user     string
	patience time.Duration
	after    uint64
	page     []jobs.Note
	more     bool
}

// nearer returns the cursor whose next notification is the earlier one; nil when both are at their end.
func nearer(ctx context.Context, x, y *cursor) (*cursor, error) {
	for _, c := range []*cursor{x, y} {
		if err := c.fill(ctx); err != nil {
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

// fill reads the next page when the last one is used up.
func (c *cursor) fill(ctx context.Context) (err error) {
	if len(c.page) > 0 || !c.more {
		return nil
	}
	ctx, done, err := c.hub.reading(ctx, c.patience)
	if err != nil {
		return err
	}
	defer done()
	c.page, c.more, err = c.hub.queue.NotesPage(ctx, c.user, c.after, logPage)
	return err
}

// reading waits for a place among those who read the log, and gives the reader some time; done gives the
// place back.
func (h *Hub) reading(ctx context.Context, patience time.Duration) (limited context.Context, done func(), err error) {
	select {
	case h.readers <- struct{}{}:
		limited, cancel := context.WithTimeout(ctx, patience)
		return limited, func() { cancel(); <-h.readers }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// drop lets go of what was read and not passed. It is read again when it is needed.
func (c *cursor) drop() {
	if len(c.page) > 0 {
		c.page, c.more = nil, true
	}
}

func (c *cursor) pass() {
	c.after = c.page[0].Seq
	c.page = c.page[1:]
}
