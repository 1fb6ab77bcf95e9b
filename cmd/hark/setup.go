package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natsconn"
	"github.com/hark-jobs/hark/internal/trouble"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// SetupCmd is hark setup.
type SetupCmd struct {
	natsFlags
	settingFlags
	DryRun bool          `help:"Only print what would be changed."`
	Wait   time.Duration `help:"How long to wait for NATS servers that are not up yet, or not a cluster yet." default:"2m"`
}

// Run creates what is missing in JetStream, and changes the settings that are given.
func (c *SetupCmd) Run(ctx context.Context, s Streams) error {
	settings := joblog.Settings(c.settings())
	if err := settings.Check(); err != nil {
		return badUsage("%s", strings.TrimPrefix(err.Error(), "joblog: "))
	}
	nc, err := c.natsFlags.dial(s, "hark setup")
	if err != nil {
		return err
	}
	defer nc.Close()
	var changes []joblog.Change
	err = c.retry(ctx, nc, c.Wait, newLog(s, &processFlags{}), func(ctx context.Context) (err error) {
		done, err := joblog.Setup(ctx, nc.Conn, c.location(), settings, c.DryRun)
		changes = append(changes, done...)
		return err
	})
	for _, change := range changes {
		fmt.Fprintln(s.Out, change)
	}
	switch {
	case err != nil:
		return err
	case len(changes) == 0:
		fmt.Fprintln(s.Out, "Nothing to change.")
	case c.DryRun:
		fmt.Fprintln(s.Out, "Nothing was changed: this was a dry run.")
	}
	return nil
}

// dial returns a connection for a command that does one thing and ends.
func (f *natsFlags) dial(s Streams, name string) (*natsconn.Conn, error) {
	if f.NATS == "" {
		return nil, badUsage("%s needs --nats, the URL of the NATS servers", name)
	}
	o := natsconn.Options(f.servers())
	if err := o.Check(); err != nil {
		return nil, badUsage("%v", err)
	}
	if err := f.location().Check(); err != nil {
		return nil, badUsage("%s", strings.TrimPrefix(err.Error(), "joblog: "))
	}
	log := newLog(s, &processFlags{})
	return natsconn.Connect(o, name, log, func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS", "err", err) })
}

// retry retries do while its error is temporary, for at most wait.
func (f *natsFlags) retry(ctx context.Context, nc *natsconn.Conn, wait time.Duration, log *slog.Logger, do func(context.Context) error) error {
	t := trouble.New(log, "waiting for NATS", "waiting is over", nil)
	for end := time.Now().Add(wait); ; {
		err := nc.Err()
		if err != nil { // the connection has logged it
			err = fmt.Errorf("NATS at %s: %w", natsconn.Redacted(f.NATS), err)
		} else {
			try, cancel := context.WithTimeout(ctx, 10*time.Second)
			err = do(try)
			cancel()
			if err == nil {
				t.Over()
				return nil
			}
			if passes(err) {
				t.Begin(err)
			}
		}
		if !passes(err) || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// Temporary errors of JetStream: too few servers have joined the cluster for the replicas (JSClusterNoPeersErrF), there is no
// cluster yet (JSStreamReplicasNotSupportedErr), or a stream is being created and not all servers have it yet
// (JSStreamNotFoundErr).
const (
	errCodeNoPeers   = 10005
	errCodeNoCluster = 10074
	errCodeNoStream  = 10059
)

// passes reports whether err is temporary. Other errors of JetStream are permanent.
func passes(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return true
	}
	return api.ErrorCode == errCodeNoPeers || api.ErrorCode == errCodeNoStream || api.Code >= http.StatusInternalServerError && api.ErrorCode != errCodeNoCluster
}
