package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/jobs"
)

// WatchCmd is hark watch.
type WatchCmd struct {
	JSON        bool   `name:"json" help:"Print each event as a line of JSON."`
	LastEventID string `name:"last-event-id" env:"-" help:"Begin after the event with this id, which --json showed." placeholder:"ID"`
	Connection
	As
}

// Run prints events until it is interrupted.
func (c *WatchCmd) Run(ctx context.Context, s Streams) error {
	server, err := c.connect(c.User)
	if err != nil {
		return err
	}
	o := client.StreamOptions{LastEventID: c.LastEventID, OnRetry: func(err error, in time.Duration) {
		fmt.Fprintf(s.Err, "hark: %s; reconnecting in %s\n", printable(err.Error()), formatDuration(max(in, time.Second)))
	}}
	for event, err := range server.Stream(ctx, o) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		line := eventLine(&event)
		if c.JSON {
			if line, err = jsonLine(&event); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(s.Out, line); err != nil {
			return fmt.Errorf("print an event: %w", err)
		}
	}
	return nil
}

// jsonLine formats the event as JSON. Data that is not JSON becomes a string.
func jsonLine(e *client.Event) (string, error) {
	out := struct {
		ID    string `json:"id,omitempty"`
		Event string `json:"event"`
		Data  any    `json:"data"`
	}{e.ID, e.Type, string(e.Data)}
	if json.Valid(e.Data) {
		out.Data = e.Data
	}
	line, err := json.Marshal(out)
	return string(line), err
}

// eventLine formats the event as text.
func eventLine(e *client.Event) string {
	text := string(e.Data)
	switch e.Type {
	case client.EventJob:
		if job, err := e.Job(); err == nil {
			text = fmt.Sprintf("%s  %s  %s  %s", job.ID, job.State, job.Title, progressText(&job))
		}
	case client.EventNotification:
		if n, err := e.Notification(); err == nil {
			text = n.Title
			for _, more := range []string{n.Body, n.Link, fileOf(&n)} {
				if more != "" {
					text += "  " + more
				}
			}
		}
	case client.EventHello:
		var hello struct {
			User string `json:"user"`
		}
		if json.Unmarshal(e.Data, &hello) == nil {
			text = "listening as " + hello.User
		}
	case client.EventInbox:
		var inbox struct {
			Unread int `json:"unread"`
		}
		if json.Unmarshal(e.Data, &inbox) == nil {
			text = fmt.Sprintf("%d unread", inbox.Unread)
		}
	}
	return fmt.Sprintf("%s  %-12s  %s", time.Now().Format(time.TimeOnly), printable(e.Type), printable(text))
}

// fileOf returns the name of the file of a notification, or "".
func fileOf(n *jobs.Notification) string {
	if n.File == nil {
		return ""
	}
	return n.File.Name
}
