package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// message is a notification in the body of POST /v1/notifications.
type message struct {
	User     string          `json:"user,omitempty"` // or Everyone
	Everyone bool            `json:"everyone,omitempty"`
	Type     string          `json:"type"`
	Title    string          `json:"title"`
	Body     string          `json:"body,omitempty"`
	Link     string          `json:"link,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
	Key      string          `json:"key,omitempty"`
}

func newMessage(user string, n *jobs.Notification) message {
	m := message{User: user, Type: n.Type, Title: n.Title, Body: n.Body, Link: n.Link, Data: n.Data, Key: n.Key}
	if user == jobs.Everyone {
		m.User, m.Everyone = "", true
	}
	return m
}

// Notify stores a notification for a user, or for [jobs.Everyone], and returns it with its id; the inbox and the streams of the
// user get it. Of n it sends Type, Title, Body, Link, Data and Key. With a key that was used for that user before, within ten
// minutes, nothing is stored and the first one is returned. It needs the scope notify.
//
// Errors: [jobs.ErrKeyReused] if the first one has other content, or another [*Problem].
func (c *Client) Notify(ctx context.Context, user string, n jobs.Notification) (jobs.Notification, error) {
	var stored jobs.Notification
	err := c.call(ctx, call{method: http.MethodPost, path: "/v1/notifications", body: newMessage(user, &n)}, &stored)
	return stored, err
}

// Publish publishes a live event to the streams that listen to its topic at this moment. It is not stored. It needs the scope
// notify.
//
// Errors: a [*Problem]; or without a response the event may have been published.
func (c *Client) Publish(ctx context.Context, e jobs.LiveEvent) error {
	body := struct {
		User     string          `json:"user,omitempty"`
		Everyone bool            `json:"everyone,omitempty"`
		Topic    string          `json:"topic,omitempty"`
		Type     string          `json:"type"`
		Data     json.RawMessage `json:"data,omitempty"`
	}{Topic: e.Topic, Type: e.Type, Data: e.Data}
	if token, ok := strings.CutPrefix(e.Topic, jobs.TopicUser+"."); ok {
		var err error
		if body.User, err = jobs.UnescapeToken(token); err != nil {
			return fmt.Errorf("client: publish: %w", err)
		}
		body.Topic = ""
	} else if e.Topic == jobs.TopicAll {
		body.Everyone, body.Topic = true, ""
	}
	return c.call(ctx, call{method: http.MethodPost, path: "/v1/events", body: body}, nil)
}

// NotifyAll stores several notifications in one call, 1,000 and 1 MiB of JSON at most, and returns them in their order. All are
// checked before any is stored. It needs the scope notify.
//
// If one of them is refused, the error is a [*jobs.BatchError] for the first, around its [*Problem]. Unless the status of the
// problem is 400 or 403, others may be stored, as after a call without a response: a second call with the same keys stores what is
// missing.
func (c *Client) NotifyAll(ctx context.Context, notifications []jobs.Addressed) ([]jobs.Notification, error) {
	if len(notifications) == 0 {
		return nil, nil
	}
	body := struct {
		Notifications []message `json:"notifications"`
	}{make([]message, len(notifications))}
	for i := range notifications {
		body.Notifications[i] = newMessage(notifications[i].User, &notifications[i].Notification)
	}
	var out struct {
		Notifications []jobs.Notification `json:"notifications"`
	}
	err := c.call(ctx, call{method: http.MethodPost, path: "/v1/notifications", body: body}, &out)
	var problem *Problem
	if errors.As(err, &problem) {
		var index int
		if n, _ := fmt.Sscanf(problem.Field, "notifications[%d]", &index); n == 1 {
			err = &jobs.BatchError{Index: index, Err: problem}
		}
	}
	return out.Notifications, err
}
