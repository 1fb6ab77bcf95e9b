package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hark-jobs/hark/internal/check"
)

// CheckCmd is hark check.
type CheckCmd struct {
	At    string        `arg:"" optional:"" name:"url" env:"-" help:"The URL under which users reach hark, in place of --url."`
	Watch time.Duration `help:"How long to watch a stream. Proxies that cut connections mostly do so within a minute." default:"70s"`
	Connection
	As
}

// Run prints a line for each check, and fails if users would notice a problem.
func (c *CheckCmd) Run(ctx context.Context, s Streams) error {
	if c.At != "" {
		c.URL = c.At
	}
	if c.Watch < time.Second {
		return badUsage("--watch must be 1s or more")
	}
	server, err := c.connect(c.User)
	if err != nil {
		return err
	}
	token, err := server.Token(ctx)
	if err != nil {
		return err
	}
	bad := 0
	fmt.Fprintf(s.Err, "This takes about %s.\n", formatDuration(c.Watch))
	err = check.Run(ctx, check.Options{URL: strings.TrimRight(c.URL, "/"), Token: token, Watch: c.Watch}, func(f check.Finding) {
		if f.Level == check.Bad {
			bad++
		}
		fmt.Fprintf(s.Out, "%-5s %s\n", [...]string{"ok", "note", "BAD"}[f.Level], printable(f.Text))
		if f.Fix != "" {
			fmt.Fprintf(s.Out, "      %s\n", f.Fix)
		}
	})
	switch {
	case err != nil:
		return err
	case bad > 0:
		return fmt.Errorf("%d problems found that users would notice; docs/proxies.md says how to configure a proxy", bad)
	}
	return nil
}
