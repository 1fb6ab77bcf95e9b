package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/hark-jobs/hark/internal/natsconn"
	"github.com/hark-jobs/hark/internal/trouble"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// SetupCmd is hark setup.
type SetupCmd struct {
	natsFlags
	settingFlags
	DryRun bool          `help:"Only print what would be changed."`
	Wait   time.Duration `help:"How long to wait for NATS servers that are not there yet, or not a cluster yet." default:"2m"`
}

// Run creates what is missing in JetStream, and changes the settings that are given.
func (c *SetupCmd) Run(ctx context.Context, s Streams) error {
	nc, err := c.natsFlags.dial(s, "hark setup")
	if err != nil {
		return err
	}
	defer nc.Close()
	var changes []jobs.Change
	err = retry(ctx, nc, c.Wait, newLog(s, &processFlags{}), func(ctx context.Context) (err error) {
		done, err := jobs.Setup(ctx, nc.Conn, c.settings(), c.DryRun)
		changes = append(changes, done...)
		return err
	})
	printChanges(s.Out, changes, c.DryRun)
	return err
}

func printChanges(w io.Writer, changes []jobs.Change, dryRun bool) {
	for _, change := range changes {
		fmt.Fprintln(w, change)
	}
	switch {
	case len(changes) == 0:
		fmt.Fprintln(w, "Nothing to change.")
	case dryRun:
		fmt.Fprintln(w, "Nothing was changed: this was a dry run.")
	}
}

// dial returns a connection for a command that does one thing and ends.
func (f *natsFlags) dial(s Streams, name string) (*natsconn.Conn, error) {
	if f.NATS == "" {
		return nil, badUsage("%s needs --nats, the URL of the NATS servers", name)
	}
	o := f.options()
	if err := o.Check(); err != nil {
		return nil, badUsage("%v", err)
	}
	log := newLog(s, &processFlags{})
	return natsconn.Connect(o, name, log, func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS", "err", err) })
}

// retry tries do for as long as its error is one that waiting may cure, and wait is not over.
func retry(ctx context.Context, nc *natsconn.Conn, wait time.Duration, log *slog.Logger, do func(context.Context) error) error {
	t := trouble.New(log, "waiting for NATS", "waiting is over", nil)
	for end := time.Now().Add(wait); ; {
		try, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := do(try)
		cancel()
		if err == nil {
			t.Over()
			return nil
		}
		if cause := nc.Err(); cause != nil {
			err = fmt.Errorf("NATS at %s: %w", natsconn.Redacted(nc.Opts.Url), cause)
		}
		if !passes(err) || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		t.Begin(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// errCodeNoPeers is the server's JSClusterNoPeersErrF: fewer servers than replicas have joined the cluster so far.
const errCodeNoPeers = 10005

// passes reports whether waiting may cure err. What JetStream refuses as wrong stays wrong.
func passes(err error) bool {
	var api *jetstream.APIError
	return !errors.As(err, &api) || api.Code >= http.StatusInternalServerError || api.ErrorCode == errCodeNoPeers
}
