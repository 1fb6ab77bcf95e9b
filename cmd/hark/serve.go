package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/hark-jobs/hark/internal/app"
	"github.com/hark-jobs/hark/internal/secret"
)

// ServeCmd runs everything in one process.
type ServeCmd struct {
	processFlags
	natsFlags
	embeddedFlags
	settingFlags
	httpFlags
	workerFlags
}

// Run runs until ctx ends.
func (c *ServeCmd) Run(ctx context.Context, s Streams) error {
	config, err := c.processFlags.config("")
	if err != nil {
		return err
	}
	config.NATSListen, config.SyncAlways = c.NATSListen, c.Sync == "always"
	c.workerFlags.apply(&config)
	c.httpFlags.apply(&config)
	return runApp(ctx, s, &c.processFlags, &c.natsFlags, &c.settingFlags, config)
}

// NotifierCmd runs the HTTP service alone.
type NotifierCmd struct {
	processFlags
	natsFlags
	settingFlags
	httpFlags
}

// Run runs until ctx ends.
func (c *NotifierCmd) Run(ctx context.Context, s Streams) error {
	if c.NATS == "" {
		return badUsage("hark notifier needs --nats; hark serve is everything in one process")
	}
	config, err := c.processFlags.config("notifier")
	if err != nil {
		return err
	}
	c.httpFlags.apply(&config)
	return runApp(ctx, s, &c.processFlags, &c.natsFlags, &c.settingFlags, config)
}

// WorkerCmd runs the worker alone.
type WorkerCmd struct {
	processFlags
	natsFlags
	settingFlags
	workerFlags
	healthFlags
}

// Run runs until ctx ends.
func (c *WorkerCmd) Run(ctx context.Context, s Streams) error {
	if c.NATS == "" {
		return badUsage("hark worker needs --nats; hark serve is everything in one process")
	}
	config, err := c.processFlags.config("worker")
	if err != nil {
		return err
	}
	c.workerFlags.apply(&config)
	config.Listen = c.Listen
	return runApp(ctx, s, &c.processFlags, &c.natsFlags, &c.settingFlags, config)
}

// config begins the configuration of a process. Parts that run alone on one machine do not share a folder.
func (f *processFlags) config(part string) (app.Config, error) {
	c := app.Config{Data: f.Data, Drain: f.Drain, Admin: f.Admin, Version: release()}
	if c.Data != "" {
		return c, nil
	}
	dir, err := DefaultDataDir()
	c.Data = filepath.Join(dir, part)
	return c, err
}

func (f *httpFlags) apply(c *app.Config) {
	c.Notifier, c.Listen, c.InboxAge = true, f.Listen, f.InboxAge
	c.Database = secret.Secret{Value: f.Database, File: f.DatabaseFile}
	c.JWTSecret = secret.Secret{Value: f.JWTSecret, File: f.JWTSecretFile}
	c.MaxConnections, c.MaxConnectionsPerAddress = f.MaxConns, f.MaxConnsEach
	c.JWKS, c.AllowOrigins, c.RateLimit = f.JWKS, f.AllowOrigin, f.RateLimit
	c.JWTIssuer, c.JWTAudience, c.UserClaim, c.ScopeMap = f.JWTIssuer, f.JWTAudience, f.UserClaim, f.ScopeMap
	c.MaxTokenAge = f.MaxTokenAge
}

// runApp starts the parts, says where to go, and stops them when ctx ends.
func runApp(ctx context.Context, s Streams, process *processFlags, nats *natsFlags, settings *settingFlags, config app.Config) error {
	begin := time.Now()
	config.NATS, config.Settings, config.Log = nats.options(), settings.settings(), newLog(s, process)
	a, err := app.Start(ctx, config)
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped while it waited for what it needs
		}
		return err
	}
	defer a.Stop()
	fmt.Fprint(s.Out, welcome(a, &config, time.Since(begin)))
	select {
	case err := <-a.Failed():
		return err
	case <-ctx.Done():
		fmt.Fprintln(s.Err, "Stopping; once more to end at once.")
		return nil
	}
}

func newLog(s Streams, f *processFlags) *slog.Logger {
	options := &slog.HandlerOptions{Level: f.LogLevel}
	if f.LogJSON {
		return slog.New(slog.NewJSONHandler(s.Err, options))
	}
	return slog.New(slog.NewTextHandler(s.Err, options))
}

// welcome says where to go.
func welcome(a *app.App, c *app.Config, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "hark is ready, after %v.\n", took.Round(time.Millisecond))
	if c.Notifier {
		fmt.Fprintf(&b, "\n  Open        %s\n", a.URL())
		fmt.Fprintf(&b, "  or run      hark export orders --param from=2026-01-01 -o orders.xlsx\n")
	} else {
		fmt.Fprintf(&b, "\n  Health      %s/readyz\n", a.URL())
	}
	if url := a.NATSURL(); url != "" {
		fmt.Fprintf(&b, "  NATS        %s\n", url)
	}
	if c.NATS.URL == "" {
		fmt.Fprintf(&b, "  Data        %s\n", c.Data)
	}
	if c.NoKey() {
		b.WriteString("\n  NO KEY IS CONFIGURED: anybody who can reach this address signs in under any name.\n" +
			"  That is why only this machine can. Set --jwt-secret-file, --jwks or --jwt-issuer for everything else.\n")
	}
	b.WriteString("\n")
	return b.String()
}
