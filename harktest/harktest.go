// Package harktest runs the whole of hark in the process of a Go test: NATS with JetStream, inbox, worker,
// HTTP service and page, in a temporary folder and on a free port of the loopback address.
//
//	func TestReport(t *testing.T) {
//		hark := harktest.Start(t, harktest.Handlers(worker.Handle(Report, report)))
//		job := harktest.Run(hark, Report, "ana", Params{Pages: 20})
//		if job.State != jobs.Succeeded {
//			t.Errorf("got %s, want succeeded", job.State)
//		}
//	}
//
// [Hark.Client] calls it over HTTP as any user, [Hark.Notifications] is a user's inbox, and [Hark.Stream] an event stream.
package harktest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/internal/demo"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
)

// Hark is a running hark. It stops when its test ends.
type Hark struct {
	// URL is where it answers HTTP, without a slash at the end.
	URL string
	// AdminURL is where the metrics are, with [Admin].
	AdminURL string
	// Queue is a client of its NATS server, to enqueue and look without HTTP.
	Queue *queue.Client

	t       testing.TB
	options hark.Options
	server  *hark.Server
	stop    func() error
}

// Option changes what [Start] starts.
type Option func(*hark.Options)

// Handlers adds handlers to the worker, which has sleep.
func Handlers(handlers ...worker.Handler) Option {
	return func(o *hark.Options) { o.Handlers = append(o.Handlers, handlers...) }
}

// Export adds the kind export, with the datasets of a hark.yaml, or of the sample shop if path is empty.
func Export(path string) Option {
	return func(o *hark.Options) { o.Export = hark.Export{Config: path, Sample: path == ""} }
}

// Lease sets how long a job stays with a worker that has gone silent.
func Lease(d time.Duration) Option { return func(o *hark.Options) { o.Settings.Lease = d } }

// Secret makes hark accept tokens signed with this HS256 secret only, as in production. Otherwise it also
// signs in any user by name.
func Secret(secret string) Option { return func(o *hark.Options) { o.JWTSecret.Value = secret } }

// TokenOptions say what tokens must have besides a signature. The zero value of a field asks for nothing.
type TokenOptions struct {
	Issuer    string            // the iss
	Audience  []string          // one of these among the aud
	UserClaim string            // the claim that names the user, in place of sub
	ScopeMap  map[string]string // hark's scopes by the names that tokens have for them
	MaxAge    time.Duration     // the longest lifetime
}

// Tokens says which tokens are accepted. Those of [Hark.Token] are.
func Tokens(t TokenOptions) Option {
	return func(o *hark.Options) {
		o.JWTIssuer, o.JWTAudience, o.UserClaim, o.ScopeMap, o.MaxTokenAge = t.Issuer, t.Audience, t.UserClaim, t.ScopeMap, t.MaxAge
	}
}

// Database keeps the inbox in the PostgreSQL database of this URL.
func Database(url string) Option { return func(o *hark.Options) { o.Database.Value = url } }

// Data keeps what is stored in this folder, and not in one of the test's own.
func Data(dir string) Option { return func(o *hark.Options) { o.Data = dir } }

// NATS uses the NATS servers at this URL, in place of one inside. What the test stores there stays there. The inbox is still
// a SQLite file of the test, unless [Database] is given.
func NATS(url string) Option { return func(o *hark.Options) { o.NATSServers.URL = url } }

// Namespace sets the namespace of hark's names in NATS. Defaults to hark.
func Namespace(name string) Option { return func(o *hark.Options) { o.Namespace = name } }

// Streams sets the number of streams of the log. Defaults to 1.
func Streams(n int) Option { return func(o *hark.Options) { o.Settings.Streams = n } }

// Replicas sets how many servers of a NATS cluster keep each message.
func Replicas(n int) Option { return func(o *hark.Options) { o.Settings.Replicas = n } }

// AllowOrigins allows pages of other origins to call, with a token or the cookie.
func AllowOrigins(origins ...string) Option {
	return func(o *hark.Options) { o.AllowOrigins = origins }
}

// Topics sets who may listen to which topics of live events. Without it only the tokens decide.
func Topics(rules ...jobs.TopicRule) Option {
	return func(o *hark.Options) { o.Topics = rules }
}

// RateLimit sets how many requests a second each user may make. Otherwise there is no limit.
func RateLimit(perSecond float64) Option { return func(o *hark.Options) { o.RateLimit = perSecond } }

// Admin serves the metrics at this host:port, and not at [Hark.URL]. Port 0 picks a free one: see [Hark.AdminURL].
func Admin(addr string) Option { return func(o *hark.Options) { o.Admin = addr } }

// Connections sets how many connections may be open in all, and of one client address; 0 means the default.
func Connections(most, perAddress int) Option {
	return func(o *hark.Options) { o.MaxConnections, o.MaxConnectionsPerAddress = most, perAddress }
}

// Patience sets how long hark waits for each thing that a client has to do: to send the head of a request, or its body, to
// take what it is sent, or to ask again.
func Patience(d time.Duration) Option {
	return func(o *hark.Options) { o.Deadlines = hark.Deadlines{Header: d, Body: d, Drain: d, Write: d, Idle: d} }
}

// Log sends the log somewhere else than to the test's output.
func Log(log *slog.Logger) Option { return func(o *hark.Options) { o.Logger = log } }

// quiet keeps Gin from printing every route: it takes a test for a program that is being debugged, unless GIN_MODE says
// what it is.
var quiet = sync.OnceFunc(func() {
	if os.Getenv(gin.EnvGinMode) == "" {
		gin.SetMode(gin.TestMode)
	}
})

// Start starts hark and returns when it is ready, which takes a fraction of a second. It fails the test if
// that does not work.
func Start(t testing.TB, options ...Option) *Hark {
	t.Helper()
	quiet()
	h := &Hark{t: t, options: hark.Options{
		Listen: "127.0.0.1:0", Drain: time.Second, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
	for _, option := range options {
		option(&h.options)
	}
	h.options.Handlers = append(h.options.Handlers, demo.Sleep())
	if h.options.Data == "" {
		h.options.Data = t.TempDir()
	}
	if h.options.NATSServers.URL != "" && !h.options.Database.IsSet() {
		h.options.Database.Value = filepath.Join(h.options.Data, "inbox.db")
	}
	t.Cleanup(h.Stop)
	h.start()
	return h
}

func (h *Hark) start() {
	h.t.Helper()
	starting, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := hark.New(starting, h.options)
	if err != nil {
		h.t.Fatalf("harktest: %v", err)
	}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	select {
	case <-server.Ready():
	case err := <-ended:
		end()
		h.t.Fatalf("harktest: %v", err)
	}
	h.server, h.URL, h.AdminURL, h.Queue = server, server.URL(), server.AdminURL(), server.Queue()
	h.stop = sync.OnceValue(func() error { end(); return <-ended }) // a test may stop it while another goroutine does
}

// Stop stops hark before the test ends. What it has stored stays for [Hark.Restart]. The test fails if a part of hark had
// failed.
func (h *Hark) Stop() {
	h.t.Helper()
	if h.stop == nil {
		return
	}
	if err := h.stop(); err != nil {
		h.t.Errorf("harktest: %v", err)
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
	issuer, err := h.server.Issuer()
	if err != nil {
		h.t.Fatalf("harktest: %v", err)
	}
	token, _, err := issuer.Issue(user, scopes, time.Hour)
	if err != nil {
		h.t.Fatalf("harktest: %v", err)
	}
	return token
}
