package health_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hark-jobs/hark/internal/health"
)

// call returns the status, the body and the header of a response.
func call(h *health.Health, method, path string) (int, string, http.Header) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String(), w.Header()
}

// A process is alive from its start, and ready when everything that it needs is available.
func TestReadiness(t *testing.T) {
	var log bytes.Buffer
	h := health.New(slog.New(slog.NewTextHandler(&log, nil)), "v1.2.3")
	var required, optional atomic.Pointer[error]
	check := func(e *atomic.Pointer[error]) func(context.Context) error {
		return func(context.Context) error {
			if err := e.Load(); err != nil {
				return *err
			}
			return nil
		}
	}
	h.Add(health.Check{Part: "nats", Check: check(&required), Public: func(error) string { return "authorization refused" }})
	h.Add(health.Check{Part: "inbox", Check: check(&optional), Optional: true})
	secret := errors.New("password=s3cret")
	for _, step := range []struct {
		do   func()
		code int
		body string
	}{
		{func() {}, 503, `{"status":"starting"}`},
		{func() { h.Waiting("NATS: authorization refused") }, 503, `{"status":"starting","waiting_for":"NATS: authorization refused"}`},
		{h.Started, 200, `{"status":"ready","parts":{"inbox":"ok","nats":"ok"}}`},
		{func() { optional.Store(&secret) }, 200, `{"status":"degraded","parts":{"inbox":"unavailable","nats":"ok"}}`},
		{func() { required.Store(&secret) }, 503, `{"status":"unavailable","parts":{"inbox":"unavailable","nats":"authorization refused"}}`},
		{func() { required.Store(nil); optional.Store(nil) }, 200, `{"status":"ready","parts":{"inbox":"ok","nats":"ok"}}`},
		{h.Stopping, 503, `{"status":"shutting_down"}`},
		{h.Started, 503, `{"status":"shutting_down"}`},
	} {
		step.do()
		code, body, header := call(h, "GET", "/readyz")
		if code != step.code || body != step.body {
			t.Errorf("%d %s, want %d %s", code, body, step.code, step.body)
		}
		// If the parts that all processes share are excluded, only the start and the stop count.
		wantShared := 200
		if strings.Contains(step.body, "starting") || strings.Contains(step.body, "shutting_down") {
			wantShared = 503
		}
		if code, body, _ := call(h, "GET", "/readyz?exclude=nats&exclude=queue"); code != wantShared || strings.Contains(body, `"nats"`) {
			t.Errorf("without nats: %d %s, want %d", code, body, wantShared)
		}
		if (header.Get("Retry-After") != "") != (code == 503) {
			t.Errorf("%d with %v", code, header)
		}
		if code, body, _ := call(h, "GET", "/livez"); code != 200 || body != "ok\n" {
			t.Errorf("/livez: %d %s", code, body)
		}
	}
	if n := strings.Count(log.String(), "readiness changed"); n != 5 || !strings.Contains(log.String(), "s3cret") {
		t.Errorf("%d changes logged, want 5:\n%s", n, log.String())
	}
}

func TestPaths(t *testing.T) {
	h := health.New(slog.Default(), "v1.2.3")
	if _, body, _ := call(h, "GET", "/metrics"); !strings.Contains(body, `hark_build_info{version="v1.2.3"} 1`) || !strings.Contains(body, "go_goroutines ") {
		t.Errorf("metrics: %s", body)
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{{"HEAD", "/livez", 200}, {"HEAD", "/readyz", 503}, {"POST", "/readyz", 405}, {"GET", "/", 404}} {
		if code, _, _ := call(h, c.method, c.path); code != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, code, c.want)
		}
		if health.Answers(c.path) != (c.want != 404) {
			t.Errorf("Answers(%s) is wrong", c.path)
		}
	}
}
