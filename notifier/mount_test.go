package notifier_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/prometheus/client_golang/prometheus"
)

// another returns another notifier on the NATS server of s, with an inbox of its own.
func (s *site) another(options notifier.Options) *notifier.Notifier {
	s.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	store := s.Queue.Store()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	run := func(part func(context.Context) error) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = part(ctx) }()
		s.t.Cleanup(func() { cancel(); <-done })
	}
	box, err := inbox.Open(filepath.Join(s.t.TempDir(), "inbox.db"), inbox.Options{})
	must(err)
	s.t.Cleanup(func() { box.Close() })
	ingester, err := inbox.NewIngester(inbox.IngesterOptions{
		Store: box, JetStream: store.JetStream(), Epoch: store.CurrentEpoch, BeginEpoch: store.BeginEpoch, Alone: true, Logger: quiet,
	})
	must(err)
	hub, err := sse.New(sse.Options{Queue: store, Drain: time.Millisecond, Logger: quiet})
	must(err)
	run(ingester.Run)
	run(hub.Run)
	links, err := auth.OpenLinks(natstest.Context(s.t), store)
	must(err)
	options.Store, options.Inbox, options.Hub, options.Links, options.Logger = store, box, hub, links, quiet
	if options.Authenticator == nil {
		options.Revocations = auth.NewRevocations(auth.RevocationsOptions{Logger: quiet})
		must(options.Revocations.Open(natstest.Context(s.t), store))
		options.Tickets, err = auth.OpenTickets(natstest.Context(s.t), store)
		must(err)
		options.Verifier, err = auth.New(auth.Options{Secret: []byte(secret), Revocations: options.Revocations, Logger: quiet})
		must(err)
	}
	n, err := notifier.New(options)
	must(err)
	return n
}

// at returns the site under another URL.
func (s *site) at(url string) *site {
	hark, moved := *s.Hark, *s
	hark.URL = url
	moved.Hark = &hark
	return &moved
}

// program returns a program with its own routes, middleware, and handlers for unknown paths.
func program() *gin.Engine {
	app := gin.New()
	app.HandleMethodNotAllowed = true
	app.Use(gin.RecoveryWithWriter(io.Discard), func(c *gin.Context) { c.Header("X-App", "1") })
	app.NoRoute(func(c *gin.Context) { c.String(http.StatusNotFound, "the program's 404") })
	app.NoMethod(func(c *gin.Context) { c.String(http.StatusMethodNotAllowed, "the program's 405") })
	app.GET("/", func(c *gin.Context) { c.String(http.StatusOK, "the program's page") })
	app.GET("/v1/jobs", func(c *gin.Context) { c.String(http.StatusOK, "the program's jobs") })
	return app
}

// serve runs the program until the test ends.
func serve(t testing.TB, app http.Handler) string {
	server := httptest.NewServer(app)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

// resolve returns the path of a reference in a response from base.
func (s *site) resolve(base, ref string) string {
	s.t.Helper()
	from, err := url.Parse(s.URL + base)
	if err != nil {
		s.t.Fatal(err)
	}
	to, err := from.Parse(ref)
	if err != nil {
		s.t.Fatal(err)
	}
	path, ok := strings.CutPrefix(to.String(), s.URL)
	if !ok {
		s.t.Fatalf("%q leads from %s to %s", ref, from, to)
	}
	return path
}

// Below a path in another program hark does the same as at the root, also behind a proxy that serves it below another
// path.
func TestMounted(t *testing.T) {
	s := start(t, harktest.Secret(secret), harktest.Handlers(leave))
	n := s.another(notifier.Options{})
	app := program()
	mode := gin.Mode()
	group := app.Group("/internal/hark", func(c *gin.Context) { c.Header("X-Group", "1") })
	n.Register(group)
	n.RegisterPage(group)
	n.Register(app.Group("/apps/:id/hark"))
	if gin.Mode() != mode {
		t.Errorf("the mode of Gin was %s and is %s", mode, gin.Mode())
	}
	program := serve(t, app)
	target, err := url.Parse(program + "/internal/hark")
	if err != nil {
		t.Fatal(err)
	}
	proxy := http.NewServeMux()
	proxy.Handle("/outer/", http.StripPrefix("/outer", &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, FlushInterval: -1,
	}))
	for name, at := range map[string]string{
		"mounted": program + "/internal/hark", "below a path with an id": program + "/apps/7/hark", "behind a proxy": serve(t, proxy) + "/outer",
	} {
		t.Run(name, func(t *testing.T) {
			s := s.at(at)
			s.t = t
			s.drive()
			if name != "below a path with an id" {
				s.drivePage()
			}
			if got := s.call("GET", "/v1/kinds", "", s.as("ana")...); got.Header.Get("X-App") == "" || (got.Header.Get("X-Group") == "") != (name == "below a path with an id") {
				t.Errorf("the middleware of the program has not run: %v", got.Header)
			}
		})
	}
}

// drive makes the calls of a typical client.
func (s *site) drive() {
	s.t.Helper()
	live, _ := s.listen("/v1/stream", s.as("ana")...)
	poll := &polling{s: s, headers: s.as("ana")}
	poll.next()
	accepted := s.call("POST", "/v1/jobs", `{"kind":"leave","params":{"name":"a.txt","text":"0123456789"}}`, append(s.as("ana"), "Prefer", "wait=30")...).want(200)
	job := accepted.job()
	if at := s.resolve("/v1/jobs", accepted.Header.Get("Location")); at != "/v1/jobs/"+job.ID || s.call("GET", at, "", s.as("ana")...).job().ID != job.ID {
		s.t.Errorf("the job is said to be at %s", at)
	}
	var ended, polled jobs.Notification
	live.until("notification").into(s.t, &ended)
	poll.until("notification").into(s.t, &polled)
	if ended.JobID != job.ID || polled.ID != ended.ID || ended.Link != "" {
		s.t.Errorf("got %+v on the stream and %+v by a poll, of job %s", ended, polled, job.ID)
	}
	if page := s.inbox("as_of=" + ended.ID); len(page.Notifications) == 0 || page.Notifications[0].ID != ended.ID || page.Notifications[0].Link != "" {
		s.t.Errorf("got %+v, want %s first", page, ended.ID)
	}
	s.call("POST", "/v1/notifications/"+ended.ID+"/read", "", s.as("ana")...).want(200)
	if e := live.until("inbox"); !strings.Contains(e.data, ended.ID) {
		s.t.Errorf("got %+v, want a change of %s", e, ended.ID)
	}
	var link struct{ URL string }
	s.call("POST", "/v1/jobs/"+job.ID+"/file/link", "", s.as("ana")...).want(201).into(&link)
	for _, path := range []string{s.resolve("/", link.URL), filePath(job)} {
		headers := s.as("ana")
		if strings.Contains(path, "?link=") {
			headers = nil
		}
		if got := s.call("GET", path, "", headers...).want(200); string(got.body) != "0123456789" {
			s.t.Errorf("%s: got %q", path, got.body)
		}
	}
	var ticket struct{ Ticket string }
	s.call("POST", "/v1/stream/ticket", "", s.as("ana")...).want(201).into(&ticket)
	s.listen("/v1/stream?ticket=" + ticket.Ticket)
	s.call("GET", "/v1/jobs/01JD3QF4X5S7H8J9K0M1N2P3R4", "", s.as("ana")...).problem(404, "job_not_found")
	s.call("GET", "/v1/jobs", "").problem(401, "token_missing")
	signedIn := s.call("POST", "/v1/session", "", s.as("ana")...).want(200)
	if cookie := signedIn.cookie(); cookie.Path != "" {
		s.t.Errorf("the cookie is for %q, not for the folder of its request", cookie.Path)
	}
	var spec struct{ Servers []struct{ URL string } }
	s.call("GET", "/openapi.json", "").want(200).into(&spec)
	if len(spec.Servers) != 1 || s.resolve("/openapi.json", spec.Servers[0].URL) != "/" {
		s.t.Errorf("openapi.json says that hark is at %v", spec.Servers)
	}
}

// drivePage loads the page and the files that it refers to.
func (s *site) drivePage() {
	s.t.Helper()
	page := s.call("GET", "/", "").want(200)
	for part := range strings.SplitSeq(string(page.body), `src="`) {
		ref, _, _ := strings.Cut(part, `"`)
		if strings.HasPrefix(part, "<!doctype") {
			continue
		}
		s.call("GET", s.resolve("/", ref), "").want(200)
	}
	s.call("GET", "/hark.js", "").want(200)
}

// Registering hark does not change the other routes of the program.
func TestMountDisturbsNothing(t *testing.T) {
	s := start(t, harktest.Secret(secret), harktest.Handlers(leave))
	origins, err := auth.NewOrigins([]string{"https://app.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	n := s.another(notifier.Options{Origins: origins})
	app := program()
	group := app.Group("/internal/hark")
	n.Register(group)
	n.RegisterPage(group)
	s = s.at(serve(t, app))
	preflight := []string{"Origin", "https://app.example.com", "Access-Control-Request-Method", "POST"}
	for _, c := range []struct {
		call   string
		status int
		body   string
	}{
		{"GET /", 200, "the program's page"},
		{"GET /v1/jobs", 200, "the program's jobs"},
		{"GET /v1/kinds", 404, "the program's 404"},
		{"GET /internal/hark/v1/nope", 404, "the program's 404"},
		{"PUT /internal/hark/v1/jobs", 405, "the program's 405"},
		{"OPTIONS /v1/jobs", 405, "the program's 405"},
		{"OPTIONS /nope", 404, "the program's 404"},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		res := s.open(t.Context(), method, path, "", preflight...)
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || string(body) != c.body {
			t.Errorf("%s: got %d %q, %v; want %d %q", c.call, res.StatusCode, body, err, c.status, c.body)
		}
		for _, name := range []string{"X-Request-Id", "X-Content-Type-Options", "Cache-Control", "Access-Control-Allow-Origin", "Vary"} {
			if got := res.Header.Get(name); got != "" {
				t.Errorf("%s: has %s: %s", c.call, name, got)
			}
		}
	}
	pre := s.call("OPTIONS", "/internal/hark/v1/jobs", "", preflight...).want(204)
	if pre.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
		t.Errorf("a preflight is answered with %v", pre.Header)
	}
	if got := s.call("OPTIONS", "/internal/hark/v1/kinds", "").want(204).Header.Get("Allow"); got != "GET, HEAD, OPTIONS" {
		t.Errorf("Allow is %q", got)
	}

	below := s.at(s.URL + "/internal/hark")
	job := below.finish("ana", `{"kind":"leave","params":{"name":"a.txt","text":"0123456789"}}`)
	below.call("GET", filePath(job), "", s.as("ana")...).want(200)

	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(n)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var metrics bytes.Buffer
	for _, family := range families {
		fmt.Fprintln(&metrics, family)
	}
	if text := metrics.String(); !strings.Contains(text, `"/v1/jobs/:id/file"`) || strings.Contains(text, "internal") || strings.Contains(text, `"none"`) {
		t.Errorf("the metrics have other routes than hark's: %s", text)
	}
}
