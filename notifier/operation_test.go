package notifier_test

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

func TestOperation(t *testing.T) {
	s := start(t)
	if a := s.call("GET", "/livez", "").want(200); string(a.body) != "ok\n" {
		t.Errorf("%s", a.body)
	}
	if a := s.call("GET", "/readyz", "").want(200); string(a.body) != `{"status":"ready","parts":{"inbox":"ok","log":"ok","nats":"ok","queue":"ok","worker":"ok"}}` {
		t.Errorf("%s", a.body)
	}
	for path, contentType := range map[string]string{
		"/": "text/html; charset=utf-8", "/hark.js": "text/javascript; charset=utf-8", "/openapi.json": "application/json",
		"/livez": "text/plain; charset=utf-8", "/readyz": "application/json; charset=utf-8",
	} {
		get := s.call("GET", path, "").want(200)
		if got := get.Header.Get("Content-Type"); got != contentType {
			t.Errorf("%s is %s", path, got)
		}
		if head := s.call("HEAD", path, "").want(200); len(head.body) != 0 || head.Header.Get("Content-Type") != contentType {
			t.Errorf("HEAD %s: %v", path, head.Header)
		}
	}
	page := s.call("GET", "/", "").Header
	if csp := page.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
		t.Error(csp)
	}
	for _, name := range []string{"Referrer-Policy", "Cross-Origin-Opener-Policy", "Permissions-Policy", "ETag"} {
		if page.Get(name) == "" {
			t.Error("the page lacks", name)
		}
	}
	if h := s.call("GET", "/hark.js", "").Header; h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Cross-Origin-Resource-Policy") != "cross-origin" {
		t.Errorf("%v", h)
	}
	if a := s.call("GET", "/", "", "If-None-Match", page.Get("ETag")); a.StatusCode != 304 {
		t.Error(a.Status)
	}

	s.call("BREW1", "/v1/jobs", "").problem(405, "method_not_allowed")
	s.call("BREW2", "/v1/jobs", "").problem(405, "method_not_allowed")
	metrics := string(s.call("GET", "/metrics", "").want(200).body)
	for _, want := range []string{
		`hark_http_requests_total{method="GET",route="/openapi.json",status="200"} `, "hark_streams 0", "hark_stream_skipped_total 0", "hark_nats_connected 1", "go_goroutines ",
		`hark_http_requests_total{method="other",route="none",status="405"} 2`, "hark_http_request_seconds_bucket",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if strings.Contains(metrics, "BREW") {
		t.Error("strangers name our metrics")
	}
}

func TestRequestID(t *testing.T) {
	s := start(t)
	for given, kept := range map[string]bool{"abc-1.2_3": true, "a b": false, "<script>": false, strings.Repeat("x", 65): false, "": false} {
		a := s.call("GET", "/v1/jobs", "", "X-Request-Id", given)
		if got := a.Header.Get("X-Request-Id"); (got == given) != kept {
			t.Errorf("%q became %q", given, got)
		}
	}
}

// The log contains no token, and no warning about clients that disconnect.
func TestLog(t *testing.T) {
	var log logtest.Buffer
	s := start(t, harktest.Handlers(leave), harktest.Log(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	token := s.Token("ana", "notify")
	ana := []string{"Authorization", "Bearer " + token}
	broken := token[:len(token)-4] + "AAAA"
	var ticket struct{ Ticket string }
	s.call("POST", "/v1/stream/ticket", "", ana...).into(&ticket)
	st, _ := s.listen("/v1/stream?ticket=" + ticket.Ticket)
	s.call("GET", "/v1/stream?ticket="+ticket.Ticket, "").problem(401, "ticket_invalid")
	s.call("GET", "/v1/jobs", "", "Cookie", "hark_token="+token).want(200)
	s.call("POST", "/v1/jobs", nap, "Cookie", "hark_token="+token, "Origin", "https://evil.example").want(403)
	s.call("GET", "/v1/jobs", "", "Authorization", "Bearer "+broken).want(401)
	s.call("GET", "/v1/nope?access_token="+token, "", ana...).want(404)
	s.call("POST", "/v1/session", "", ana...).want(200)
	job := s.end(`{"kind":"leave","params":{"name":"x","text":"`+strings.Repeat("x", 200<<10)+`"}}`, ana...)
	// Clients that disconnect: from a stream, from a download, and while they wait for a job.
	st.body.Close()
	ctx, cancel := context.WithCancel(t.Context())
	res := s.open(ctx, "GET", filePath(job), "", ana...)
	_, _ = io.CopyN(io.Discard, res.Body, 10)
	cancel()
	res.Body.Close()
	ctx, cancel = context.WithCancel(t.Context())
	waiting := s.request(ctx, "POST", "/v1/jobs", `{"kind":"sleep","params":{"seconds":600}}`, append(ana, "Prefer", "wait=60")...)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if res, err := s.http.Do(waiting); err == nil {
			res.Body.Close()
		}
	}()
	polltest.Until(t, "the job runs", func() bool {
		page, err := s.Queue.Store().List(natstest.Context(t), "ana", jobs.ListOptions{Limit: 1, States: []jobs.State{jobs.Running}})
		return err == nil && len(page.Jobs) == 1
	})
	cancel()
	<-answered
	polltest.Until(t, "the stream is closed", func() bool { return strings.Contains(string(s.call("GET", "/metrics", "").body), "hark_streams 0") })
	s.downloadsEnd()
	s.Stop()
	text := log.String()
	for _, word := range []string{token, broken, token[strings.LastIndex(token, "."):], ticket.Ticket, url.QueryEscape(token), "hark_token"} {
		if strings.Contains(text, word) {
			t.Errorf("the log holds %q:\n%s", word, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "part=notifier") || strings.Contains(line, "level=ERROR") {
			t.Errorf("it was nothing, and yet: %s", line)
		}
	}
	if text == "" {
		t.Error("nothing was logged at all; the test is blind")
	}
}

// Without the inbox's database, jobs and streams continue, and requests that need it get a problem.
func TestInboxDown(t *testing.T) {
	pg := pgtest.Start(t)
	s := start(t, harktest.Database(pg.DSN(t)), harktest.Handlers(leave))
	before := s.notify(`{"user":"ana","type":"test","title":"before"}`)
	polltest.Until(t, "the inbox has it", func() bool { return s.inbox("").Unread == 1 })
	st, _ := s.listen("/v1/stream", s.as("ana")...)
	pg.Stop(t)
	for _, call := range []string{
		"GET /v1/notifications", "POST /v1/notifications/read", "POST /v1/notifications/" + before.ID + "/read",
		"DELETE /v1/notifications/" + before.ID, "GET /v1/jobs/01JD3QF4X5S7H8J9K0M1N2P3R4/file",
	} {
		method, path, _ := strings.Cut(call, " ")
		a := s.call(method, path, "", s.as("ana")...)
		if p := a.problem(503, "inbox_unavailable"); a.Header.Get("Retry-After") == "" || strings.Contains(p.Detail, "SQL") {
			t.Errorf("%v %s", a.Header, a.body)
		}
	}
	job := s.finish("ana", `{"kind":"leave","params":{"name":"x","text":"y"}}`)
	if a := s.call("GET", filePath(job), "", s.as("ana")...).want(200); string(a.body) != "y" {
		t.Errorf("%s", a.body)
	}
	if ended := st.until("notification"); !strings.Contains(ended.data, job.ID) {
		t.Errorf("%+v", ended)
	}
	if a := s.call("GET", "/readyz", "").want(200); !strings.Contains(string(a.body), `"degraded"`) {
		t.Errorf("%s", a.body)
	}
	pg.Start(t)
	polltest.Until(t, "the inbox has caught up", func() bool {
		a := s.call("GET", "/v1/notifications", "", s.as("ana")...)
		return a.StatusCode == 200 && strings.Contains(string(a.body), job.ID) && strings.Contains(string(a.body), before.ID)
	})
}
