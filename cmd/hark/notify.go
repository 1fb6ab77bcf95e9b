package main

import (
	"context"
	"fmt"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

// NotifyCmd is hark notify.
type NotifyCmd struct {
	User     string `xor:"audience" required:"" env:"-" help:"Who is told." placeholder:"NAME"`
	Everyone bool   `xor:"audience" required:"" env:"-" help:"Tell everyone."`
	Title    string `required:"" env:"-" help:"The title, in one line." placeholder:"TEXT"`
	Body     string `env:"-" help:"The text." placeholder:"TEXT"`
	Link     string `env:"-" help:"The link: a path or an http(s) URL." placeholder:"URL"`
	Type     string `default:"message" help:"The sort of notification, for programs." placeholder:"TYPE"`
	Key      string `env:"-" help:"Idempotency key: a notification with the same key is stored once." placeholder:"KEY"`
	Connection
}

// Run sends the notification and prints its id once it is stored.
func (c *NotifyCmd) Run(ctx context.Context, s Streams) error {
	to := jobs.Everyone
	if !c.Everyone {
		to = c.User
		if err := jobs.CheckUser(to); err != nil { // It must not be jobs.Everyone.
			return badUsage("--%v", err)
		}
	}
	server, err := c.connect("", auth.ScopeNotify)
	if err != nil {
		return err
	}
	n, err := server.Notify(ctx, to, jobs.Notification{Type: c.Type, Title: c.Title, Body: c.Body, Link: c.Link, Key: c.Key})
	if err != nil {
		return err
	}
	fmt.Fprintln(s.Out, n.ID)
	return nil
}
