package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/files"
	"github.com/hark-jobs/hark/jobs"
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
	options, err := c.processFlags.options(s, "", &c.natsFlags, &c.settingFlags)
	if err != nil {
		return err
	}
	options.NATSListen, options.SyncAlways = c.NATSListen, c.Sync == "always"
	c.httpFlags.apply(&options)
	if err := c.workerFlags.apply(&options); err != nil {
		return err
	}
	return serve(ctx, s, options)
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
	options, err := c.processFlags.options(s, hark.Notifier, &c.natsFlags, &c.settingFlags)
	if err != nil {
		return err
	}
	c.httpFlags.apply(&options)
	return serve(ctx, s, options)
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
	options, err := c.processFlags.options(s, hark.Worker, &c.natsFlags, &c.settingFlags)
	if err != nil {
		return err
	}
	if err := c.workerFlags.apply(&options); err != nil {
		return err
	}
	options.Listen = c.Listen
	return serve(ctx, s, options)
}

// options begins the options of a process. Parts that run alone on one machine do not share a folder.
func (f *processFlags) options(s Streams, only hark.Part, nats *natsFlags, settings *settingFlags) (_ hark.Options, err error) {
	o := hark.Options{
		Only: only, Data: f.Data, Drain: f.Drain, DrainDelay: f.DrainDelay, Admin: f.Admin, NATSServers: nats.servers(),
		Namespace: nats.Namespace, JSDomain: nats.JSDomain, JSAPIPrefix: nats.JSAPIPrefix, Settings: settings.settings(),
		Version: release(), Logger: newLog(s, f),
	}
	if o.Data == "" {
		if o.Data, err = DefaultDataDir(); err != nil {
			return o, err
		}
		o.Data = filepath.Join(o.Data, string(only))
	}
	if f.Files != "" {
		if o.Files, err = files.OpenFolder(f.Files, files.FolderOptions{UserSpace: int64(settings.UserSpace)}); err != nil {
			return o, badUsage("--files: %v", err)
		}
	}
	return o, nil
}

func (f *httpFlags) apply(o *hark.Options) {
	o.Listen, o.InboxAge = f.Listen, f.InboxAge
	o.InboxSchema, o.InboxTablePrefix = f.InboxSchema, f.InboxPrefix
	o.TLSCert, o.TLSKey = f.TLSCert, f.TLSKey
	o.Database = hark.Secret{Value: f.Database, File: f.DatabaseFile}
	o.JWTSecret = hark.Secret{Value: f.JWTSecret, File: f.JWTSecretFile}
	o.MaxConnections, o.MaxConnectionsPerAddress = f.MaxConns, f.MaxConnsEach
	o.JWKS, o.AllowOrigins, o.RateLimit = f.JWKS, f.AllowOrigin, f.RateLimit
	o.JWTIssuer, o.JWTAudience, o.UserClaim, o.ScopeMap = f.JWTIssuer, f.JWTAudience, f.UserClaim, f.ScopeMap
	o.MaxTokenAge, o.SignInURL = f.MaxTokenAge, f.SignInURL
	for _, rule := range f.Topic {
		o.Topics = append(o.Topics, jobs.TopicRule(rule))
	}
}

// serve runs a server until ctx ends, and prints its addresses when it is ready.
func serve(ctx context.Context, s Streams, options hark.Options) error {
	begin := time.Now()
	srv, err := hark.New(ctx, options)
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped while it waited for NATS
		}
		return nameFlags(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	go releaseIdleMemory(ctx)
	select {
	case <-srv.Ready():
		fmt.Fprint(s.Out, welcome(srv, &options, time.Since(begin)))
	case err := <-ended:
		return nameFlags(err)
	}
	select {
	case err := <-ended:
		return nameFlags(err)
	case <-ctx.Done():
		fmt.Fprintln(s.Err, "Stopping; interrupt again to exit at once.")
		return nameFlags(<-ended)
	}
}

func newLog(s Streams, f *processFlags) *slog.Logger {
	options := &slog.HandlerOptions{Level: f.LogLevel}
	if f.LogJSON {
		return slog.New(slog.NewJSONHandler(s.Err, options))
	}
	return slog.New(slog.NewTextHandler(s.Err, options))
}

// welcome returns the addresses of the process as text.
func welcome(srv *hark.Server, o *hark.Options, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "hark is ready, after %v.\n", took.Round(time.Millisecond))
	if o.Only != hark.Worker {
		fmt.Fprintf(&b, "\n  Open        %s\n", srv.URL())
		fmt.Fprintf(&b, "  or run      hark export orders --param from=2026-01-01 -o orders.xlsx\n")
	} else {
		fmt.Fprintf(&b, "\n  Health      %s/readyz\n", srv.URL())
	}
	if url := srv.NATSURL(); url != "" {
		fmt.Fprintf(&b, "  NATS        %s\n", url)
	}
	if o.NATSServers.URL == "" {
		fmt.Fprintf(&b, "  Data        %s\n", o.Data)
	}
	if srv.NoKey() {
		b.WriteString("\n  NO KEY IS CONFIGURED: anybody who can reach this address signs in under any name.\n" +
			"  That is why only this machine can. Set --jwt-secret-file, --jwks or --jwt-issuer for everything else.\n")
	}
	b.WriteString("\n")
	return b.String()
}
