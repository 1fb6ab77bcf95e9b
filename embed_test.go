package hark_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
)

// byHeader is a login that believes a header.
type byHeader struct{}

func (byHeader) Authenticate(r *http.Request) (auth.Identity, error) {
	user := r.Header.Get("X-User")
	if user == "" {
		return auth.Identity{}, &auth.Error{Code: auth.CodeTokenMissing, Detail: "Sign in first."}
	}
	return auth.Identity{User: user, ID: "session of " + user}, nil
}

// ends counts the attempts that ended in a state.
type ends struct {
	started   atomic.Int32
	succeeded atomic.Int32
}

func (e *ends) Started(*jobs.Job) { e.started.Add(1) }
func (e *ends) Ended(_ *jobs.Job, end worker.End) {
	if end.State == jobs.Succeeded {
		e.succeeded.Add(1)
	}
}

type noParams struct{}

var hello = jobs.Define[noParams](jobs.Kind{Name: "hello", Title: "Hello"})

var handlers = []worker.Handler{worker.Handle(hello, func(context.Context, *worker.Job, noParams) (jobs.Result, error) { return jobs.Result{}, nil })}

// A server on the connection, the inbox, the login and the router of a program does all that hark does, and leaves them to the
// program when it ends.
func TestEmbedded(t *testing.T) {
	nc := natstest.Connect(t)
	store, err := inbox.Open(t.TempDir()+"/inbox.db", inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var wrapped atomic.Int32
	observer := new(ends)
	srv, err := hark.New(t.Context(), hark.Options{
		NATS: nc, Inbox: store, Auth: byHeader{}, Drain: time.Second, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Handlers: handlers,
		Middleware: []worker.Middleware{func(next worker.Func) worker.Func {
			return func(ctx context.Context, job *worker.Job) (jobs.Result, error) {
				wrapped.Add(1)
				return next(ctx, job)
			}
		}},
		Observer: observer,
	})
	if err != nil {
		t.Fatal(err)
	}
	router := gin.New()
	group := router.Group("/deep/hark")
	srv.Register(group)
	srv.RegisterHealth(group)
	get := func(path string) (int, string) {
		t.Helper()
		rec := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/deep/hark"+path, nil)
		req.Header.Set("X-User", "ana")
		router.ServeHTTP(rec, req)
		return rec.Code, rec.Body.String()
	}
	if code, body := get("/v1/jobs"); code != 503 || !strings.Contains(body, `"starting"`) {
		t.Errorf("before Run: got %d, %s; want 503, starting", code, body)
	}
	if code, body := get("/livez"); code != 200 {
		t.Errorf("/livez before Run: got %d, %s; want 200", code, body)
	}
	stop := run(t, srv)
	if code, body := get("/readyz"); code != 200 {
		t.Errorf("/readyz: got %d, %s; want 200", code, body)
	}
	if _, err := queue.Enqueue(natstest.Context(t), srv.Queue(), hello, "ana", noParams{}); err != nil {
		t.Fatal(err)
	}
	listed := func() bool {
		_, body := get("/v1/notifications")
		return strings.Contains(body, `"job.succeeded"`)
	}
	polltest.Until(t, "the job has ended, for the observer and in the inbox", func() bool { return listed() && observer.succeeded.Load() > 0 })
	if wrapped.Load() != 1 || observer.started.Load() != 1 {
		t.Errorf("the middleware was called %d times, the observer %d times; want 1 and 1", wrapped.Load(), observer.started.Load())
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(srv); err != nil {
		t.Error(err)
	}
	families, err := registry.Gather()
	names := fmt.Sprint(families)
	if err != nil || !strings.Contains(names, "hark_attempts_total") || strings.Contains(names, "go_goroutines") {
		t.Errorf("the metrics are %s, %v; want hark's alone", names, err)
	}

	stop()
	if code, body := get("/v1/jobs"); code != 503 || !strings.Contains(body, `"shutting_down"`) {
		t.Errorf("after Run: got %d, %s; want 503, shutting_down", code, body)
	}
	if !nc.IsConnected() {
		t.Error("the program's connection is closed")
	}
	if err := store.Ping(t.Context()); err != nil {
		t.Errorf("the program's inbox is closed: %v", err)
	}
}

// A server that never runs is closed by Close, as often as it is called; a worker alone has no API to mount.
func TestClose(t *testing.T) {
	data := t.TempDir()
	for range 2 { // its folder is free again
		srv, err := hark.New(t.Context(), hark.Options{Data: data, Auth: byHeader{}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		srv.Close()
		srv.Close()
	}
	srv, err := hark.New(t.Context(), hark.Options{Only: hark.Worker, Data: data, Handlers: handlers, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	defer func() {
		if recover() == nil {
			t.Error("a worker alone has registered an API")
		}
	}()
	srv.Register(gin.New())
}

// New ends with its context while NATS cannot be reached, and closes what it has opened.
func TestNewEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	data := t.TempDir()
	_, err := hark.New(ctx, hark.Options{
		Only: hark.Worker, Data: data, Handlers: handlers, NATSServers: hark.NATSServers{URL: "nats://127.0.0.1:1"}, Logger: slog.New(slog.DiscardHandler),
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want context.DeadlineExceeded", err)
	}
	srv, err := hark.New(t.Context(), hark.Options{Only: hark.Worker, Data: data, Handlers: handlers, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("the folder is still locked: %v", err)
	}
	srv.Close()
}
