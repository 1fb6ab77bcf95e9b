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

func (n *Notifier) getNotifications(c *gin.Context) (answer, error) {
	opts, asOf, err := listOptions(c)
	if err != nil {
		return answer{}, err
	}
	if asOf != (jobs.EventID{}) {
		// On a timeout the response is the inbox as it is.
		wait, cancel := context.WithTimeout(c.Request.Context(), maxInboxLag)
		_ = n.waitIngested(wait, user(c), asOf)
		cancel()
	}
	var page inbox.Page
	err = n.list(c, func(ctx context.Context) (err error) {
		page, err = n.inbox.List(ctx, user(c), opts)
		return err
	})
	return answer{http.StatusOK, page}, inboxDown(err)
}

// listOptions reads the query. asOf is the id that the inbox must have ingested before it is read; zero means none.
func listOptions(c *gin.Context) (opts inbox.ListOptions, asOf jobs.EventID, err error) {
	if opts.Limit, err = limitOf(c); err != nil {
		return opts, asOf, err
	}
	if before := c.Query("before"); before != "" {
		if opts.Before, err = jobs.ParseEventID(before); err != nil {
			return opts, asOf, newProblem(http.StatusBadRequest, "cursor_invalid", "before must be the id of a notification, or the next of an earlier response.").in("before")
		}
	}
	if id := c.Query("as_of"); id != "" {
		if asOf, err = jobs.ParseEventID(id); err != nil {
			return opts, asOf, newProblem(http.StatusBadRequest, "field_invalid", "as_of must be the id of a notification, or of the hello event of a stream.").in("as_of")
		}
	}
	opts.Status = c.Query("status")
	if opts.Status != "" && opts.Status != jobs.Unread {
		return opts, asOf, newProblem(http.StatusBadRequest, "status_unknown", "status must be unread or absent.").in("status")
	}
	return opts, asOf, nil
}

// maxInboxLag is how long a request waits for the inbox to ingest what the stream has.
const maxInboxLag = 2 * time.Second

func (n *Notifier) readNotification(c *gin.Context) (answer, error) {
	return n.changeOne(c, n.inbox.MarkRead)
}

func (n *Notifier) deleteNotification(c *gin.Context) (answer, error) {
	return n.changeOne(c, n.inbox.Delete)
}

func (n *Notifier) changeOne(c *gin.Context, change func(context.Context, string, jobs.EventID) (inbox.Change, error)) (answer, error) {
	id, err := jobs.ParseEventID(param(c, "id"))
	if err != nil {
		return answer{}, inbox.ErrNotFound
	}
	return n.change(c, id, func(ctx context.Context) (inbox.Change, error) { return change(ctx, user(c), id) })
}

func (n *Notifier) readNotifications(c *gin.Context) (answer, error) {
	var body struct {
		UpTo string `json:"up_to"`
	}
	if err := decode(c, &body); err != nil {
		return answer{}, err
	}
	if body.UpTo == "" {
		newest, err := n.newest(c.Request.Context(), user(c))
		if err != nil {
			return answer{}, err
		}
		// The zero id means all: the inbox may have notifications that are older than the stream.
		return n.change(c, newest, func(ctx context.Context) (inbox.Change, error) {
			return n.inbox.MarkReadUpTo(ctx, user(c), jobs.EventID{})
		})
	}
	upTo, err := jobs.ParseEventID(body.UpTo)
	if err != nil {
		return answer{}, newProblem(http.StatusBadRequest, "field_invalid", "up_to must be the id of a notification.").in("up_to")
	}
	return n.change(c, upTo, func(ctx context.Context) (inbox.Change, error) { return n.inbox.MarkReadUpTo(ctx, user(c), upTo) })
}

// newest returns the id of the newest notification for the user, broadcasts included.
func (n *Notifier) newest(ctx context.Context, user string) (jobs.EventID, error) {
	seq, err := n.store.LastNotification(ctx, user)
	return jobs.EventID{Epoch: n.store.Epoch(), Seq: seq}, err
}

// waitIngested blocks until the inbox has ingested every notification of the user up to and including id, or ctx ends.
// It returns [inbox.ErrNotFound] for an id that is greater than those of all stored messages.
//
// Only notifications advance the position of the inbox, while an id may be that of a job's state. So waitIngested waits
// for the user's newest notification at most.
func (n *Notifier) waitIngested(ctx context.Context, user string, id jobs.EventID) error {
	at, err := n.inbox.Position(ctx)
	if err != nil {
		return err
	}
	if id.Epoch == at.Epoch && id.Seq <= at.Seq {
		return nil
	}
	if err := n.checkStored(ctx, id); err != nil {
		return err
	}
	if newest, err := n.newest(ctx, user); err == nil && newest.Epoch == id.Epoch && newest.Seq < id.Seq {
		id = newest
	}
	return n.inbox.WaitFor(ctx, id)
}

// change waits until the inbox has ingested id, makes the change, and publishes it to the user's streams.
func (n *Notifier) change(c *gin.Context, id jobs.EventID, make func(context.Context) (inbox.Change, error)) (answer, error) {
	wait, cancel := context.WithTimeout(c.Request.Context(), maxInboxLag)
	defer cancel()
	err := n.waitIngested(wait, user(c), id)
	if err != nil && wait.Err() != nil {
		err = nil // the inbox lags behind, or NATS is unreachable: change what the inbox has
	}
	if err != nil {
		return answer{}, inboxDown(err)
	}
	change, err := make(c.Request.Context())
	if err != nil {
		return answer{}, inboxDown(err)
	}
	data, err := json.Marshal(change)
	if err == nil {
		err = n.store.PublishLive(n.store.Namespace().LiveInboxSubject(user(c)), data)
	}
	if err != nil {
		n.log.Warn("publishing a change of the inbox failed; other tabs show it after their next reconnect", "request_id", requestID(c), "err", err)
	}
	return answer{http.StatusOK, change}, nil
}

// checkStored returns [inbox.ErrNotFound] for an id that is greater than those of all stored messages. The user's tabs
// would mark future notifications as read otherwise.
func (n *Notifier) checkStored(ctx context.Context, id jobs.EventID) error {
	_, last, err := n.store.Bounds(ctx)
	if err == nil && (id.Epoch > n.store.Epoch() || id.Epoch == n.store.Epoch() && id.Seq > last) {
		return inbox.ErrNotFound
	}
	return nil
}
