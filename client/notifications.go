package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/hark-jobs/hark/jobs"
)

// NotificationsQuery selects the notifications to list.
type NotificationsQuery struct {
	Unread bool   // Only unread notifications.
	Limit  int    // The size of a page, 1 to 100. Defaults to that of the server.
	Before string // Next of the previous page. Defaults to the newest notification.
	AsOf   string // ID of an event, or of a notification: the server responds when the inbox has ingested everything up to it. Defaults to not waiting.
}

// NotificationPage is one page of the inbox.
type NotificationPage struct {
	Notifications []jobs.Notification `json:"notifications"`
	Unread        int                 `json:"unread"` // in the whole inbox
	Next          string              `json:"next"`   // empty on the last page
}

// NotificationPage returns one page of the inbox, newest first.
func (c *Client) NotificationPage(ctx context.Context, q NotificationsQuery) (NotificationPage, error) {
	query := url.Values{}
	if q.Unread {
		query.Set("status", jobs.Unread)
	}
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Before != "" {
		query.Set("before", q.Before)
	}
	if q.AsOf != "" {
		query.Set("as_of", q.AsOf)
	}
	var page NotificationPage
	err := c.call(ctx, call{method: http.MethodGet, path: "/v1/notifications", query: query}, &page)
	return page, err
}

// Notifications yields the inbox from q.Before on, newest first. It reads pages of q.Limit notifications. After an error it ends.
func (c *Client) Notifications(ctx context.Context, q NotificationsQuery) iter.Seq2[jobs.Notification, error] {
	return func(yield func(jobs.Notification, error) bool) {
		for {
			page, err := c.NotificationPage(ctx, q)
			if err != nil {
				yield(jobs.Notification{}, err)
				return
			}
			for _, n := range page.Notifications {
				if !yield(n, nil) {
					return
				}
			}
			q.Before = page.Next
			if q.Before == "" {
				return
			}
		}
	}
}

// MarkRead marks one notification as read and returns the number of unread ones after that. The server counts up to 1,000.
func (c *Client) MarkRead(ctx context.Context, id string) (unread int, err error) {
	return c.mark(ctx, call{method: http.MethodPost, path: notificationPath(id) + "/read"})
}

// MarkAllRead marks all notifications up to and including the one with the id upTo as read, or all if upTo is empty. It returns the
// number of unread ones after that.
func (c *Client) MarkAllRead(ctx context.Context, upTo string) (unread int, err error) {
	body := struct {
		UpTo string `json:"up_to,omitempty"`
	}{upTo}
	return c.mark(ctx, call{method: http.MethodPost, path: "/v1/notifications/read", body: body})
}

// DeleteNotification deletes one notification and returns the number of unread ones after that.
func (c *Client) DeleteNotification(ctx context.Context, id string) (unread int, err error) {
	return c.mark(ctx, call{method: http.MethodDelete, path: notificationPath(id)})
}

func (c *Client) mark(ctx context.Context, in call) (int, error) {
	var out struct {
		Unread int `json:"unread"`
	}
	err := c.call(ctx, in, &out)
	return out.Unread, err
}

func notificationPath(id string) string { return "/v1/notifications/" + segment(id) }
