package notifier

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

func (n *Notifier) getNotifications(c *gin.Context) {
	opts, asOf, err := listOptions(c)
	if err != nil {
		n.fail(c, err)
		return
	}
	if asOf != (jobs.EventID{}) {
		// A page that comes without the latest is better than none.
		wait, cancel := context.WithTimeout(c.Request.Context(), inboxLag)
		_ = n.inbox.WaitFor(wait, asOf)
		cancel()
	}
	var page inbox.Page
	leave, err := n.list(c, func(ctx context.Context) (err error) {
		page, err = n.inbox.List(ctx, user(c), opts)
		return err
	})
	defer leave()
	if err != nil {
		n.fail(c, inboxDown(err))
		return
	}
	c.JSON(http.StatusOK, page)
}

// listOptions reads what is asked for, and how far the inbox must have come before it is looked at.
func listOptions(c *gin.Context) (opts inbox.ListOptions, asOf jobs.EventID, err error) {
	if opts.Limit, err = limitOf(c); err != nil {
		return opts, asOf, err
	}
	if before := c.Query("before"); before != "" {
		if opts.Before, err = jobs.ParseEventID(before); err != nil {
			return opts, asOf, newProblem(http.StatusBadRequest, "cursor_invalid", "before must be the id of a notification, or the next of an earlier answer.").in("before")
		}
	}
	if id := c.Query("as_of"); id != "" {
		if asOf, err = jobs.ParseEventID(id); err != nil {
			return opts, asOf, newProblem(http.StatusBadRequest, "field_invalid", "as_of must be the id of a notification, or of the stream's hello.").in("as_of")
		}
	}
	if opts.Status = c.Query("status"); opts.Status != "" && opts.Status != jobs.Unread {
		return opts, asOf, newProblem(http.StatusBadRequest, "status_unknown", "status must be unread, or not given.").in("status")
	}
	return opts, asOf, nil
}

// inboxLag is how long a change waits for the inbox to have what the stream has.
const inboxLag = 2 * time.Second

func (n *Notifier) readNotification(c *gin.Context) {
	n.changeOne(c, n.inbox.MarkRead)
}

func (n *Notifier) deleteNotification(c *gin.Context) {
	n.changeOne(c, n.inbox.Delete)
}

func (n *Notifier) changeOne(c *gin.Context, change func(context.Context, string, jobs.EventID) (inbox.Change, error)) {
	id, err := jobs.ParseEventID(c.Param("id"))
	if err != nil {
		n.fail(c, inbox.ErrNotFound)
		return
	}
	n.change(c, id, func(ctx context.Context) (inbox.Change, error) { return change(ctx, user(c), id) })
}

func (n *Notifier) readNotifications(c *gin.Context) {
	var body struct {
		UpTo string `json:"up_to"`
	}
	if err := decode(c, &body); err != nil {
		n.fail(c, err)
		return
	}
	if body.UpTo == "" {
		newest, err := n.newest(c)
		if err != nil {
			n.fail(c, err)
			return
		}
		// All that the inbox has: what is in there may be older than anything that the stream still holds.
		n.change(c, newest, func(ctx context.Context) (inbox.Change, error) {
			return n.inbox.MarkReadUpTo(ctx, user(c), jobs.EventID{})
		})
		return
	}
	upTo, err := jobs.ParseEventID(body.UpTo)
	if err != nil {
		n.fail(c, newProblem(http.StatusBadRequest, "field_invalid", "up_to must be the id of a notification.").in("up_to"))
		return
	}
	n.change(c, upTo, func(ctx context.Context) (inbox.Change, error) { return n.inbox.MarkReadUpTo(ctx, user(c), upTo) })
}

// newest returns the id of the newest notification that the user can have seen.
func (n *Notifier) newest(c *gin.Context) (jobs.EventID, error) {
	own, everyone, err := n.queue.LastNotes(c.Request.Context(), user(c))
	return jobs.EventID{Epoch: n.queue.Epoch(), Seq: max(own, everyone)}, err
}

// change waits until the inbox has come as far as id, makes a change, and tells all of the user's streams.
func (n *Notifier) change(c *gin.Context, id jobs.EventID, make func(context.Context) (inbox.Change, error)) {
	wait, cancel := context.WithTimeout(c.Request.Context(), inboxLag)
	defer cancel()
	err := n.inbox.WaitFor(wait, id)
	if err != nil && wait.Err() != nil {
		err = n.checkStored(c, id)
	}
	if err != nil {
		n.fail(c, inboxDown(err))
		return
	}
	change, err := make(c.Request.Context())
	if err != nil {
		n.fail(c, inboxDown(err))
		return
	}
	data, err := json.Marshal(change)
	if err == nil {
		err = n.queue.PublishLive(jobs.LiveInboxSubject(user(c)), data)
	}
	if err != nil {
		n.log.Warn("other tabs not told of a change", "request_id", requestID(c), "err", err)
	}
	c.JSON(http.StatusOK, change)
}

// checkStored returns [inbox.ErrNotFound] for an id that nothing was stored under so far: to mark up to there
// would mark, in the user's tabs, what is yet to come.
func (n *Notifier) checkStored(c *gin.Context, id jobs.EventID) error {
	_, last, err := n.queue.Bounds(c.Request.Context())
	if err == nil && (id.Epoch > n.queue.Epoch() || id.Epoch == n.queue.Epoch() && id.Seq > last) {
		return inbox.ErrNotFound
	}
	return nil // the inbox is late, or the stream cannot be asked; the inbox says what it knows
}
