package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/hark-jobs/hark/internal/app"
)

// storeFlags are the flags of every command that runs a part of hark.
type storeFlags struct {
	Data     string        `help:"Folder of what hark keeps; by default one of the user's own." placeholder:"DIR"`
	NATS     string        `name:"nats" help:"URL of a NATS server with JetStream, in place of the one inside hark." placeholder:"URL"`
	Replicas int           `help:"How many servers of a NATS cluster keep each message." default:"1"`
	MaxAge   time.Duration `help:"How long jobs and notifications stay in the stream." default:"168h"`
	FileAge  time.Duration `help:"How long a file can be fetched after its job ended." default:"168h"`
	Drain    time.Duration `help:"How long each step of a stop may take." default:"10s"`
	Admin    string        `help:"host:port that serves Go's profiles (pprof), to whoever can reach it." placeholder:"ADDR"`
	LogLevel slog.Level    `help:"Least level of what is logged: debug, info, warn or error." default:"info"`
	LogJSON  bool          `name:"log-json" help:"Log in JSON."`
}

// natsFlags are for the server inside hark.
type natsFlags struct {
	NATSListen string `name:"nats-listen" help:"host:port where the NATS server inside hark takes connections of others." placeholder:"ADDR"`
	Sync       string `help:"When the NATS server inside hark syncs to disk: always, before each answer, or interval, every two minutes." enum:"interval,always" default:"interval"`
}

// httpFlags are the notifier's.
type httpFlags struct {
	Listen      string        `help:"host:port to answer HTTP on." default:"localhost:4280"`
	Database    string        `help:"postgres:// URL of the inbox's database, in place of SQLite in the data folder." placeholder:"URL"`
	InboxAge    time.Duration `help:"How long the inbox keeps notifications." default:"2160h"`
	JWTSecret   string        `name:"jwt-secret" help:"HS256 secret of the tokens, at least 32 bytes."`
	JWKS        string        `name:"jwks" help:"File or URL of the keys of the tokens (RS256, ES256, EdDSA)." placeholder:"FILE|URL"`
	RateLimit   float64       `help:"Requests a second that each user may make, with a fifth of that for jobs to be enqueued; 0 means no limit." default:"50"`
	AllowOrigin []string      `help:"Origin, besides hark's own, whose pages may call with the cookie. May be given several times." placeholder:"ORIGIN"`
}

// workerFlags are the worker's.
type workerFlags struct {
	Config string        `help:"hark.yaml with the datasets to export; by default hark brings a sample shop." type:"path" placeholder:"FILE"`
	Lease  time.Duration `help:"How long a job stays with a worker that has gone silent." default:"30s"`
}

// ServeCmd runs everything in one process.
type ServeCmd struct {
	storeFlags
	natsFlags
	httpFlags
	workerFlags
}

// Run runs until ctx ends.
func (c *ServeCmd) Run(ctx context.Context, s Streams) error {
	return runApp(ctx, s, &c.storeFlags, &c.natsFlags, &c.httpFlags, &c.workerFlags)
}

// NotifierCmd runs the HTTP service alone.
type NotifierCmd struct {
	storeFlags
	httpFlags
}

// Run runs until ctx ends.
func (c *NotifierCmd) Run(ctx context.Context, s Streams) error {
	if c.NATS == "" {
		return badUsage("hark notifier needs --nats; hark serve is everything in one process")
	}
	return runApp(ctx, s, &c.storeFlags, nil, &c.httpFlags, nil)
}

// WorkerCmd runs the worker alone.
type WorkerCmd struct {
	storeFlags
	workerFlags
}

// Run runs until ctx ends.
func (c *WorkerCmd) Run(ctx context.Context, s Streams) error {
	if c.NATS == "" {
		return badUsage("hark worker needs --nats; hark serve is everything in one process")
	}
	return runApp(ctx, s, &c.storeFlags, nil, nil, &c.workerFlags)
}

// runApp starts the parts whose flags are there, says where to go, and stops them when ctx ends.
func runApp(ctx context.Context, s Streams, store *storeFlags, embedded *natsFlags, web *httpFlags, work *workerFlags) error {
	begin := time.Now()
	config, err := appConfig(store, embedded, web, work)
	if err != nil {
		return err
	}
	config.Log = newLog(s, store)
	a, err := app.Start(ctx, config)
	if err != nil {
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

func appConfig(store *storeFlags, embedded *natsFlags, web *httpFlags, work *workerFlags) (app.Config, error) {
	c := app.Config{
		Data: store.Data, NATS: store.NATS, Replicas: store.Replicas,
		MaxAge: store.MaxAge, FileAge: store.FileAge, Drain: store.Drain, Admin: store.Admin,
	}
	if c.Data == "" {
		var err error
		if c.Data, err = DefaultDataDir(); err != nil {
			return c, err
		}
		if embedded == nil { // parts on one machine do not share a folder
			c.Data = filepath.Join(c.Data, map[bool]string{true: "notifier", false: "worker"}[web != nil])
		}
	}
	if embedded != nil {
		c.NATSListen, c.SyncAlways = embedded.NATSListen, embedded.Sync == "always"
	}
	if web != nil {
		c.Notifier, c.Listen, c.Database, c.InboxAge = true, web.Listen, web.Database, web.InboxAge
		c.JWTSecret, c.JWKS, c.AllowOrigins, c.RateLimit = web.JWTSecret, web.JWKS, web.AllowOrigin, web.RateLimit
	}
	if work != nil {
		c.Worker, c.ExportConfig, c.Lease = true, work.Config, work.Lease
	}
	return c, nil
}

func newLog(s Streams, f *storeFlags) *slog.Logger {
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
	if url := a.URL(); url != "" {
		fmt.Fprintf(&b, "\n  Open        %s\n", url)
		fmt.Fprintf(&b, "  or run      hark export orders --param from=2026-01-01 -o orders.xlsx\n")
	}
	if url := a.NATSURL(); url != "" {
		fmt.Fprintf(&b, "  NATS        %s\n", url)
	}
	if c.NATS == "" {
		fmt.Fprintf(&b, "  Data        %s\n", c.Data)
	}
	if c.Notifier && c.JWTSecret == "" && c.JWKS == "" {
		b.WriteString("\n  NO KEY IS CONFIGURED: whoever can reach this address signs in under any name they like.\n" +
			"  That is why it is this machine alone. Set --jwt-secret or --jwks for everything else.\n")
	}
	b.WriteString("\n")
	return b.String()
}
