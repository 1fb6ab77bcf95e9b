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
	if asOf != (jobs.Position{}) {
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

// listOptions reads the query. asOf is what the inbox must have ingested before it is read; zero means nothing.
func listOptions(c *gin.Context) (opts inbox.ListOptions, asOf jobs.Position, err error) {
	if opts.Limit, err = limitOf(c); err != nil {
		return opts, asOf, err
	}
	if before := c.Query("before"); before != "" {
		if opts.Before, err = jobs.ParseNotificationID(before); err != nil {
			return opts, asOf, newProblem(http.StatusBadRequest, "cursor_invalid", "before must be the id of a notification, or the next of an earlier response.").in("before")
		}
	}
	if id := c.Query("as_of"); id != "" {
		if asOf, err = jobs.ParsePosition(id); err != nil {
			var stored jobs.NotificationID
			stored, err = jobs.ParseNotificationID(id)
			asOf = stored.Position()
		}
		if err != nil {
			return opts, asOf, newProblem(http.StatusBadRequest, "field_invalid", "as_of must be the id of an event of a stream, or of a notification.").in("as_of")
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

func (n *Notifier) changeOne(c *gin.Context, change func(context.Context, string, jobs.NotificationID) (inbox.Change, error)) (answer, error) {
	id, err := jobs.ParseNotificationID(param(c, "id"))
	if err != nil {
		return answer{}, inbox.ErrNotFound
	}
	return n.change(c, id.Position(), func(ctx context.Context) (inbox.Change, error) { return change(ctx, user(c), id) })
}

func (n *Notifier) readNotifications(c *gin.Context) (answer, error) {
	var body struct {
		UpTo string `json:"up_to"`
	}
	if err := decode(c, &body); err != nil {
		return answer{}, err
	}
	if body.UpTo == "" {
		own, all, err := n.store.LastNotifications(c.Request.Context(), user(c))
		if err != nil {
			return answer{}, err
		}
		newest := jobs.Position{Epoch: n.store.Epoch(), Own: own, All: all}
		// The zero id means all: the inbox may have notifications that are older than the stream.
		return n.change(c, newest, func(ctx context.Context) (inbox.Change, error) {
			return n.inbox.MarkReadUpTo(ctx, user(c), jobs.NotificationID{})
		})
	}
	last, err := jobs.ParseNotificationID(body.UpTo)
	if err != nil {
		return answer{}, newProblem(http.StatusBadRequest, "field_invalid", "up_to must be the id of a notification.").in("up_to")
	}
	return n.change(c, last.Position(), func(ctx context.Context) (inbox.Change, error) { return n.inbox.MarkReadUpTo(ctx, user(c), last) })
}

// waitIngested blocks until the inbox has ingested every notification of the user up to a position, or ctx ends.
// It returns [inbox.ErrNotFound] for a position beyond the end of the log.
//
// Only notifications advance the position of the inbox, while a mark may be the sequence of a job's state. So waitIngested
// waits for the newest notification of each log at most.
func (n *Notifier) waitIngested(ctx context.Context, user string, at jobs.Position) error {
	has, err := n.inbox.PositionOf(ctx, user)
	if err != nil {
		return err
	}
	if at.Epoch == has.Epoch && max(at.Own, at.All) <= has.Seq {
		return nil
	}
	if err := n.checkStored(ctx, user, at); err != nil {
		return err
	}
	if own, all, err := n.store.LastNotifications(ctx, user); err == nil && at.Epoch == n.store.Epoch() {
		at.Own, at.All = min(at.Own, own), min(at.All, all)
	}
	if at.Own == 0 && at.All == 0 {
		return nil
	}
	return n.inbox.WaitFor(ctx, user, jobs.NotificationID{Epoch: at.Epoch, Seq: max(at.Own, at.All)})
}

// change waits until the inbox has ingested everything up to a position, makes the change, and publishes it to the user's streams.
func (n *Notifier) change(c *gin.Context, at jobs.Position, make func(context.Context) (inbox.Change, error)) (answer, error) {
	wait, cancel := context.WithTimeout(c.Request.Context(), maxInboxLag)
	defer cancel()
	err := n.waitIngested(wait, user(c), at)
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

// checkStored returns [inbox.ErrNotFound] for a position beyond the end of the user's stream of the log. The user's tabs would
// mark future notifications as read otherwise.
func (n *Notifier) checkStored(ctx context.Context, user string, at jobs.Position) error {
	_, last, err := n.store.Bounds(ctx, n.store.StreamOf(user))
	if err == nil && (at.Epoch > n.store.Epoch() || at.Epoch == n.store.Epoch() && max(at.Own, at.All) > last) {
		return inbox.ErrNotFound
	}
	return nil
}
