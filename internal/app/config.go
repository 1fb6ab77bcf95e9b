package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hark-jobs/hark/worker"
)

// Config says which parts of hark run in this process, and how. The zero value of a field is its default.
type Config struct {
	// Notifier and Worker are the parts to run; at least one.
	Notifier, Worker bool

	// Data is the folder of what this process keeps: required unless NATS and Database name others.
	Data string
	// NATS is the URL of a NATS server with JetStream; empty means one inside this process.
	NATS string
	// NATSListen is where the server inside this process takes connections of others; empty means nowhere.
	NATSListen string
	// SyncAlways makes the server inside this process sync each write to disk.
	SyncAlways bool
	// Replicas is how many servers of a NATS cluster keep each message; 1.
	Replicas int
	// MaxAge, FileAge and InboxAge say how long the stream, files and the inbox keep what they have; 7 days,
	// 7 days and 90 days.
	MaxAge, FileAge, InboxAge time.Duration

	// Database is the inbox's: postgres://… or empty for SQLite in Data.
	Database string
	// Listen is the notifier's host:port; port 0 picks a free one.
	Listen string
	// Admin is a host:port that serves Go's profiles; empty means none. Nobody is asked who they are there.
	Admin string
	// JWTSecret and JWKS verify tokens. With neither, whoever names themselves is signed in, and Listen must
	// be a loopback address.
	JWTSecret, JWKS string
	// AllowOrigins are the origins, besides hark's own, whose pages may call with the cookie.
	AllowOrigins []string
	// RateLimit is how many requests a second each user may make; 0 means no limit.
	RateLimit float64
	// Drain is how long a stop may take in each of its steps; 10 s.
	Drain time.Duration

	// ExportConfig is the path of hark.yaml; empty means the sample shop. NoExport leaves the kind export out.
	ExportConfig string
	NoExport     bool
	// Handlers are run besides export and sleep.
	Handlers []worker.Handler
	// Lease is how long a job stays with a worker that has gone silent; 30 s.
	Lease time.Duration

	Log *slog.Logger // slog.Default()
}

func (c *Config) defaults() error {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.InboxAge == 0 {
		c.InboxAge = 90 * 24 * time.Hour
	}
	if c.Drain == 0 {
		c.Drain = 10 * time.Second
	}
	if c.Listen == "" {
		c.Listen = "localhost:4280"
	}
	switch {
	case !c.Notifier && !c.Worker:
		return errors.New("app: neither a notifier nor a worker is asked for")
	case c.Data == "" && (c.NATS == "" || c.Notifier && c.Database == ""):
		return errors.New("app: needs a data folder")
	case c.NATS != "" && (c.NATSListen != "" || c.SyncAlways):
		return &UserError{"nats_is_elsewhere", "--nats-listen and --sync are for the NATS server inside hark; leave them out with --nats."}
	}
	if c.Notifier && c.naming() {
		return checkLoopback(c.Listen)
	}
	return nil
}

// naming reports whether whoever names themselves is signed in.
func (c *Config) naming() bool { return c.JWTSecret == "" && c.JWKS == "" }

func checkLoopback(listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return &UserError{"listen_invalid", fmt.Sprintf("--listen %q is not host:port.", listen)}
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return &UserError{"listen_needs_key", fmt.Sprintf(
		"Without --jwt-secret or --jwks anybody can sign in under any name, so hark listens on loopback addresses only, not on %s.", listen)}
}

// UserError is a mistake in how hark was started: a stable code, and one sentence with a way out.
type UserError struct{ Code, Message string }

func (e *UserError) Error() string { return e.Message }
