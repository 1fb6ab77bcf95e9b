package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hark-jobs/hark/internal/door"
	"github.com/hark-jobs/hark/internal/natsconn"
	"github.com/hark-jobs/hark/internal/secret"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/worker"
)

// Config says which parts of hark run in this process, and how. The zero value of a field is its default.
type Config struct {
	// Notifier and Worker are the parts to run; at least one.
	Notifier, Worker bool

	// Data is the folder of what this process keeps: required unless NATS and Database name others.
	Data string
	// NATS says where the NATS servers with JetStream are and how to log in. Without a URL there is a server inside this
	// process, and the login (a user with a password, or a token) and the certificate are those of NATSListen.
	NATS natsconn.Options
	// NATSListen is where the server inside this process takes connections of others; empty means nowhere. An address
	// that is not a loopback one needs a login.
	NATSListen string
	// SyncAlways makes the server inside this process sync each write to disk.
	SyncAlways bool
	// Settings of what is stored. They change the server inside this process; elsewhere they are for what is missing.
	Settings jobs.Settings
	// InboxAge is how long the inbox keeps notifications. Defaults to 90 days.
	InboxAge time.Duration

	// Database is the URL of the inbox's, postgres://…; without it the inbox is a SQLite file in Data.
	Database secret.Secret
	// Listen is the host:port of the notifier, and of the health checks. Port 0 picks a free one. Defaults to
	// localhost:4280, and for a worker alone, which has only the health checks there, to localhost:4281.
	Listen string
	// Admin is a host:port that serves the metrics, the health checks and Go's profiles, without a login; empty means
	// none. The metrics are then there alone; the health checks stay at Listen, too, where balancers ask.
	Admin string
	// JWTSecret and JWKS verify tokens. With neither, and no JWTIssuer that is a URL, which is asked for its keys then,
	// anybody signs in under any name, and Listen must be a loopback address.
	JWTSecret secret.Secret
	JWKS      string
	// JWTIssuer must be the iss of tokens, and one of JWTAudience among their aud, if they are set. Keys from a URL need
	// an audience.
	JWTIssuer   string
	JWTAudience []string
	// UserClaim is the claim that names the user; sub if empty.
	UserClaim string
	// ScopeMap has hark's scopes by the names that tokens have for them.
	ScopeMap map[string]string
	// MaxTokenAge is the longest lifetime of a token; 0 means any.
	MaxTokenAge time.Duration
	// AllowOrigins are the origins, besides hark's own, whose pages may call with the cookie.
	AllowOrigins []string
	// RateLimit is how many requests a second each user may make; 0 means no limit.
	RateLimit float64
	// MaxConnections is how many connections may be open at Listen, streams among them. Defaults to [door.DefaultMax], or
	// what the limit of open files leaves room for. MaxConnectionsPerAddress is how many of those one client address may
	// have; 0 means no limit, which is right behind a proxy.
	MaxConnections, MaxConnectionsPerAddress int
	// Deadlines are those of HTTP. Deadlines.Write is also how long a stream's reader may take nothing.
	Deadlines door.Deadlines
	// Drain is how long a stop may take in each of its steps; 10 s.
	Drain time.Duration

	// ExportConfig is the path of hark.yaml; empty means the sample shop. NoExport leaves the kind export out.
	ExportConfig string
	NoExport     bool
	// Demo adds the kind sleep. The sample shop has it always.
	Demo bool
	// Concurrency is how many jobs of a kind run at once in this worker, for the kinds that hark brings.
	Concurrency map[string]int
	// ExportTimeout ends an export that takes longer, in the database as well. Defaults to one hour.
	ExportTimeout time.Duration
	// Handlers are run besides those that hark brings.
	Handlers []worker.Handler
	// Version is what the metrics say was built.
	Version string

	Log *slog.Logger // slog.Default()
}

func (c *Config) defaults() error {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.InboxAge == 0 {
		c.InboxAge = 90 * 24 * time.Hour
	}
	if c.ExportTimeout == 0 {
		c.ExportTimeout = time.Hour
	}
	if c.Drain == 0 {
		c.Drain = 10 * time.Second
	}
	if c.Listen == "" {
		c.Listen = "localhost:4281"
		if c.Notifier {
			c.Listen = "localhost:4280"
		}
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = door.DefaultMax
	}
	switch {
	case c.MaxConnections < 0 || c.MaxConnectionsPerAddress < 0:
		return &UserError{"limit_invalid", "--max-connections and --max-connections-per-address must not be negative."}
	case !c.Notifier && !c.Worker:
		return errors.New("app: neither a notifier nor a worker is asked for")
	case c.Data == "" && (c.NATS.URL == "" || c.Notifier && !c.Database.IsSet()):
		return errors.New("app: needs a data folder")
	}
	if err := c.Settings.Check(); err != nil {
		return &UserError{"setting_invalid", sentence(err, "jobs: ")}
	}
	for kind, n := range c.Concurrency {
		if kind != "export" && kind != "sleep" || n < 1 {
			return &UserError{"concurrency_invalid", fmt.Sprintf("--concurrency %s=%d: it takes the kinds export and sleep, and numbers from 1.", kind, n)}
		}
	}
	if err := c.checkNATS(); err != nil {
		return err
	}
	if !c.Notifier {
		return nil
	}
	if err := c.checkTokens(); err != nil {
		return err
	}
	if c.naming() {
		return checkLoopback(c.Listen)
	}
	return nil
}

// checkNATS checks what says how to reach NATS, or how others reach the server inside.
func (c *Config) checkNATS() error {
	if err := c.NATS.Check(); err != nil {
		return &UserError{"nats_options_invalid", sentence(err, "secret: ")}
	}
	n := &c.NATS
	switch {
	case n.URL != "" && (c.NATSListen != "" || c.SyncAlways):
		return &UserError{"nats_is_elsewhere", "--nats-listen and --sync are for the NATS server inside hark; leave them out with --nats."}
	case n.URL != "":
		return nil
	case n.NKeyFile != "" || n.CredsFile != "" || n.CAFile != "":
		return &UserError{"nats_is_inside", "--nats-nkey, --nats-creds and --nats-ca are for NATS servers elsewhere; give their --nats URL too, or leave them out."}
	case c.NATSListen == "" && (n.User != "" || n.Token.IsSet() || n.CertFile != ""):
		return &UserError{"nats_is_inside", "A NATS login or certificate is given, and nothing to use it for: give --nats for servers elsewhere, or --nats-listen for others to connect to this one."}
	case c.NATSListen == "" || n.Token.IsSet() || n.User != "" && n.Password.IsSet():
		return nil
	case n.User != "":
		return &UserError{"nats_listen_needs_login", "--nats-user needs --nats-password-file."}
	}
	local, err := isLoopback(c.NATSListen)
	if err != nil {
		return &UserError{"nats_listen_invalid", fmt.Sprintf("--nats-listen %q is not host:port.", c.NATSListen)}
	}
	if !local {
		return &UserError{"nats_listen_needs_login", fmt.Sprintf(
			"Without a login anybody who can reach %s could read and change everything; give --nats-user and --nats-password-file, or --nats-token-file.", c.NATSListen)}
	}
	return nil
}

// checkTokens checks what says which tokens are good, as far as [auth.New] could not say what to set.
func (c *Config) checkTokens() error {
	fromURL := auth.IsURL(c.JWKS) || c.discovers()
	switch {
	case fromURL && len(c.JWTAudience) == 0:
		return &UserError{"audience_missing",
			"The keys come from a URL, and sign for other applications, too; set --jwt-audience to the aud claim of the tokens that are meant for hark."}
	case slices.Contains(c.JWTAudience, ""):
		return &UserError{"audience_missing", "--jwt-audience is empty; leave it out, or set it to the aud claim of the tokens that are meant for hark."}
	case c.MaxTokenAge < 0 || c.MaxTokenAge > 0 && c.MaxTokenAge < time.Second:
		return &UserError{"max_token_age_invalid", "--max-token-age must be 1s or more, or 0 for any."}
	}
	return nil
}

// discovers reports whether the issuer is asked where the keys are.
func (c *Config) discovers() bool {
	return !c.JWTSecret.IsSet() && c.JWKS == "" && auth.IsURL(c.JWTIssuer)
}

// naming reports whether anybody signs in under any name.
func (c *Config) naming() bool { return !c.JWTSecret.IsSet() && c.JWKS == "" && !c.discovers() }

// NoKey reports whether anybody signs in under any name, since there is nothing to verify tokens with.
func (c *Config) NoKey() bool { return c.Notifier && c.naming() }

func checkLoopback(listen string) error {
	local, err := isLoopback(listen)
	if err != nil {
		return &UserError{"listen_invalid", fmt.Sprintf("--listen %q is not host:port.", listen)}
	}
	if !local {
		return &UserError{"listen_needs_key", fmt.Sprintf(
			"Without --jwt-secret-file, --jwks or a --jwt-issuer that is a URL anybody can sign in under any name, so hark listens on loopback addresses only, not on %s.", listen)}
	}
	return nil
}

// isLoopback reports whether only this machine can reach the address.
func isLoopback(address string) (bool, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, err
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback(), nil
}

// sentence makes a sentence for users of an error.
func sentence(err error, prefix string) string {
	text := strings.TrimPrefix(err.Error(), prefix)
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// UserError is a mistake in how hark was started: a stable code, and one sentence with a way out.
type UserError struct{ Code, Message string }

func (e *UserError) Error() string { return e.Message }
