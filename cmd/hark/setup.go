package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hark-jobs/hark"
)

// SetupCmd is hark setup.
type SetupCmd struct {
	natsFlags
	settingFlags
	Streams  int           `help:"The number of streams of the log: 1, 2, 4, 8, 16, 32 or 64. It can be changed before the first message is stored. A new log defaults to 1." placeholder:"N"`
	NewEpoch bool          `help:"Begin a new epoch of the log, when the log of a notifier asks for it: after a loss of messages."`
	DryRun   bool          `help:"Only print what would be changed."`
	Wait     time.Duration `help:"How long to wait for NATS servers that are not up yet, or not a cluster yet." default:"2m"`
}

// Run creates what is missing in JetStream, and changes the settings that are given.
func (c *SetupCmd) Run(ctx context.Context, s Streams) error {
	if c.NATS == "" {
		return badUsage("hark setup needs --nats, the URL of the NATS servers")
	}
	settings := c.settings()
	settings.Streams = c.Streams
	changes, err := hark.Setup(ctx, hark.SetupOptions{
		Location: c.location("", c.Wait), Settings: settings, NewEpoch: c.NewEpoch, DryRun: c.DryRun, Logger: newLog(s, &processFlags{}),
	})
	for _, change := range changes {
		fmt.Fprintln(s.Out, change)
	}
	switch {
	case err != nil:
		return asUsage(err)
	case len(changes) == 0:
		fmt.Fprintln(s.Out, "Nothing to change.")
	case c.DryRun:
		fmt.Fprintln(s.Out, "Nothing was changed: this was a dry run.")
	}
	return nil
}
