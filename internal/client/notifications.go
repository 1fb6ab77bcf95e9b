package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/hark-jobs/hark/jobs"
)

// Notice asks for a notification for others.
type Notice struct {
	User     string          `json:"user,omitempty"` // or Everyone
	Everyone bool            `json:"everyone,omitempty"`
	Type     string          `json:"type"`
	Title    string          `json:"title"`
	Body     string          `json:"body,omitempty"`
	Link     string          `json:"link,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
	Key      string          `json:"key,omitempty"`
}

// NotificationsQuery says which notifications to list.
type NotificationsQuery struct {
	Unread bool   // only those unread
	Limit  int    // of a page, 1 to 100; the server's default if 0
	Before string // the Next of the page before
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
	var page NotificationPage
	err := c.call(ctx, call{method: http.MethodGet, path: "/v1/notifications", query: query}, &page)
	return page, err
}

// Notifications goes through the inbox from q.Before on, newest first, a page of q.Limit at a time. An
// error is the last thing it yields.
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
			if q.Before = page.Next; q.Before == "" {
				return
			}
		}
	}
}

// MarkRead marks one notification read and returns how many are unread then.
func (c *Client) MarkRead(ctx context.Context, id string) (unread int, err error) {
	return c.mark(ctx, call{method: http.MethodPost, path: notificationPath(id) + "/read"})
}

// MarkAllRead marks all notifications up to one read, or, if upTo is empty, all, and returns how many
// are unread then.
func (c *Client) MarkAllRead(ctx context.Context, upTo string) (unread int, err error) {
	body := struct {
		UpTo string `json:"up_to,omitempty"`
	}{upTo}
	return c.mark(ctx, call{method: http.MethodPost, path: "/v1/notifications/read", body: body})
}

// DeleteNotification deletes one notification and returns how many are unread then.
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

// Notify tells one user or everyone something, and returns once it is stored. With a Key it can be sent
// again without being told twice.
func (c *Client) Notify(ctx context.Context, n Notice) (jobs.Notification, error) {
	var stored jobs.Notification
	err := c.call(ctx, call{method: http.MethodPost, path: "/v1/notifications", body: n}, &stored)
	return stored, err
}

func notificationPath(id string) string { return "/v1/notifications/" + segment(id) }
