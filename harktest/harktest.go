// Package harktest runs the whole of hark in the process of a Go test: NATS with JetStream, inbox, worker,
// HTTP service and page, in a temporary folder and on a free port of the loopback address.
//
//	func TestReport(t *testing.T) {
//		hark := harktest.Start(t, harktest.Handlers(worker.Handle("report", report)))
//		req, _ := http.NewRequest("POST", hark.URL+"/v1/jobs", strings.NewReader(`{"kind":"report"}`))
//		req.Header.Set("Authorization", "Bearer "+hark.Token("ana"))
//		…
//	}
package harktest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/app"
	"github.com/hark-jobs/hark/internal/door"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// Hark is a running hark. It stops when its test ends.
type Hark struct {
	// URL is where it answers HTTP, without a slash at the end.
	URL string
	// AdminURL is where the metrics are, with [Admin].
	AdminURL string
	// Queue is the queue it works on, to enqueue and look without HTTP.
	Queue *jobs.Queue

	t      testing.TB
	config app.Config
	app    *app.App
}

// Option changes what [Start] starts.
type Option func(*app.Config)

// Handlers adds handlers to the worker, which has sleep.
func Handlers(handlers ...worker.Handler) Option {
	return func(c *app.Config) { c.Handlers = append(c.Handlers, handlers...) }
}

// Export adds the kind export, with the datasets of a hark.yaml, or of the sample shop if path is empty.
func Export(path string) Option {
	return func(c *app.Config) { c.ExportConfig, c.NoExport = path, false }
}

// Lease sets how long a job stays with a worker that has gone silent.
func Lease(d time.Duration) Option { return func(c *app.Config) { c.Settings.Lease = d } }

// Secret makes hark accept tokens signed with this HS256 secret only, as in production. Otherwise it also
// signs in whoever names themselves.
func Secret(secret string) Option { return func(c *app.Config) { c.JWTSecret.Value = secret } }

// TokenOptions say what tokens must have besides a signature. The zero value of a field asks for nothing.
type TokenOptions struct {
	Issuer    string            // the iss
	Audience  []string          // one of these among the aud
	UserClaim string            // the claim that names the user, in place of sub
	ScopeMap  map[string]string // hark's scopes by the names that tokens have for them
	MaxAge    time.Duration     // the longest lifetime
}

// Tokens says which tokens are accepted. Those of [Hark.Token] are.
func Tokens(o TokenOptions) Option {
	return func(c *app.Config) {
		c.JWTIssuer, c.JWTAudience, c.UserClaim, c.ScopeMap, c.MaxTokenAge = o.Issuer, o.Audience, o.UserClaim, o.ScopeMap, o.MaxAge
	}
}

// Database keeps the inbox in the PostgreSQL database of this URL.
func Database(url string) Option { return func(c *app.Config) { c.Database.Value = url } }

// Data keeps what is stored in this folder, and not in one of the test's own.
func Data(dir string) Option { return func(c *app.Config) { c.Data = dir } }

// AllowOrigins allows pages of other origins to call with the cookie.
func AllowOrigins(origins ...string) Option {
	return func(c *app.Config) { c.AllowOrigins = origins }
}

// RateLimit sets how many requests a second each user may make. Otherwise there is no limit.
func RateLimit(perSecond float64) Option { return func(c *app.Config) { c.RateLimit = perSecond } }

// Admin serves the metrics at this host:port, and not at [Hark.URL]. Port 0 picks a free one: see [Hark.AdminURL].
func Admin(addr string) Option { return func(c *app.Config) { c.Admin = addr } }

// Connections sets how many connections may be open in all, and of one client address; 0 means the default.
func Connections(most, perAddress int) Option {
	return func(c *app.Config) { c.MaxConnections, c.MaxConnectionsPerAddress = most, perAddress }
}

// Patience sets how long hark waits for each thing that a client has to do: to send the head of a request, or its body, to
// take what it is sent, or to ask again.
func Patience(d time.Duration) Option {
	return func(c *app.Config) { c.Deadlines = door.Deadlines{Header: d, Body: d, Drain: d, Write: d, Idle: d} }
}

// Log sends the log somewhere else than to the test's output.
func Log(log *slog.Logger) Option { return func(c *app.Config) { c.Log = log } }

// Start starts hark and returns when it is ready, which takes a fraction of a second. It fails the test if
// that does not work.
func Start(t testing.TB, options ...Option) *Hark {
	t.Helper()
	h := &Hark{t: t, config: app.Config{
		Notifier: true, Worker: true, Listen: "127.0.0.1:0", NoExport: true, Demo: true, Drain: time.Second,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
	for _, option := range options {
		option(&h.config)
	}
	if h.config.Data == "" {
		h.config.Data = t.TempDir()
	}
	t.Cleanup(func() { h.Stop() })
	h.start()
	return h
}

func (h *Hark) start() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, err := app.Start(ctx, h.config)
	if err != nil {
		h.t.Fatalf("harktest: %v", err)
	}
	h.app, h.URL, h.AdminURL, h.Queue = a, a.URL(), a.AdminURL(), a.Queue()
}

// Stop stops hark before the test ends. What it has stored stays for [Hark.Restart].
func (h *Hark) Stop() {
	if h.app != nil {
		h.app.Stop()
	}
}

// Restart stops hark and starts it again on the same data, with a new URL.
func (h *Hark) Restart() {
	h.t.Helper()
	h.Stop()
	h.start()
}

// Token returns a token for user with these scopes, valid for an hour.
func (h *Hark) Token(user string, scopes ...string) string {
	h.t.Helper()
	issuer, err := h.app.Issuer()
	if err != nil {
		h.t.Fatalf("harktest: %v", err)
	}
	token, _, err := issuer.Issue(user, scopes, time.Hour)
	if err != nil {
		h.t.Fatalf("harktest: %v", err)
	}
	return token
}
