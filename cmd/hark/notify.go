package main

import (
	"context"
	"fmt"

	"github.com/hark-jobs/hark/internal/client"
	"github.com/hark-jobs/hark/notifier/auth"
)

// NotifyCmd is hark notify.
type NotifyCmd struct {
	User     string `xor:"audience" required:"" env:"-" help:"Who is told." placeholder:"NAME"`
	Everyone bool   `xor:"audience" required:"" env:"-" help:"Tell everyone."`
	Title    string `required:"" env:"-" help:"What they are told, in a line." placeholder:"TEXT"`
	Body     string `env:"-" help:"What more there is to say." placeholder:"TEXT"`
	Link     string `env:"-" help:"Where it leads: a path or an http(s) URL." placeholder:"URL"`
	Type     string `default:"message" help:"The sort of notification, for programs." placeholder:"TYPE"`
	Key      string `env:"-" help:"What makes it the same notification if it is sent again." placeholder:"KEY"`
	Connection
}

// Run sends the notification and prints its id once it is stored.
func (c *NotifyCmd) Run(ctx context.Context, s Streams) error {
	server, err := c.connect("", auth.ScopeNotify)
	if err != nil {
		return err
	}
	n, err := server.Notify(ctx, client.Notice{
		User: c.User, Everyone: c.Everyone, Type: c.Type, Title: c.Title, Body: c.Body, Link: c.Link, Key: c.Key,
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(s.Out, n.ID)
	return nil
}
