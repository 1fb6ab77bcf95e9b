package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hark-jobs/hark/internal/client"
	"github.com/hark-jobs/hark/jobs"
)

// TestCalls holds each call against docs/api.md: method, path, query, headers and body.
func TestCalls(t *testing.T) {
	var got string
	answer := "{}"
	_, c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.URL.RequestURI(), body))
		for _, h := range []string{"Idempotency-Key", "Prefer", "Content-Type"} {
			if v := r.Header.Get(h); v != "" {
				got += " " + v
			}
		}
		if auth := r.Header.Get("Authorization"); auth != "Bearer the-token" {
			t.Errorf("Authorization: %q", auth)
		}
		io.WriteString(w, answer)
	}))
	ctx := t.Context()
	for want, do := range map[string]func() error{
		"GET /v1/kinds": func() error { answer = `{"kinds":[]}`; _, err := c.Kinds(ctx); return err },
		`POST /v1/jobs {"kind":"export","params":{"a":1}} key-1 wait=2 application/json`: func() error {
			answer = `{"id":"J"}`
			_, err := c.Enqueue(ctx, client.Request{Kind: "export", Params: json.RawMessage(`{"a":1}`), IdempotencyKey: "key-1", Wait: 1500 * time.Millisecond})
			return err
		},
		"GET /v1/jobs/J":         func() error { answer = `{"id":"J"}`; _, err := c.Job(ctx, "J"); return err },
		"GET /v1/jobs/__x%3Fa=b": func() error { _, err := c.Job(ctx, "../x?a=b"); return err },
		"POST /v1/jobs/J/cancel": func() error { _, err := c.Cancel(ctx, "J"); return err },
		"POST /v1/jobs/J/retry":  func() error { _, err := c.Retry(ctx, "J"); return err },
		"GET /v1/notifications?before=e-9&limit=7&status=unread": func() error {
			answer = `{"notifications":[{"id":"e-8"}],"unread":3}`
			page, err := c.NotificationPage(ctx, client.NotificationsQuery{Unread: true, Limit: 7, Before: "e-9"})
			if page.Unread != 3 || len(page.Notifications) != 1 {
				t.Errorf("got %+v", page)
			}
			return err
		},
		"POST /v1/notifications/e-8/read": func() error {
			answer = `{"unread":2}`
			n, err := c.MarkRead(ctx, "e-8")
			if n != 2 {
				t.Errorf("unread %d, want 2", n)
			}
			return err
		},
		`POST /v1/notifications/read {} application/json`:              func() error { _, err := c.MarkAllRead(ctx, ""); return err },
		`POST /v1/notifications/read {"up_to":"e-8"} application/json`: func() error { _, err := c.MarkAllRead(ctx, "e-8"); return err },
		"DELETE /v1/notifications/e-8":                                 func() error { _, err := c.DeleteNotification(ctx, "e-8"); return err },
		`POST /v1/notifications {"everyone":true,"type":"a.b","title":"T"} application/json`: func() error {
			answer = `{"id":"e-9"}`
			n, err := c.Notify(ctx, client.Notice{Everyone: true, Type: "a.b", Title: "T"})
			if n.ID != "e-9" {
				t.Errorf("got %+v", n)
			}
			return err
		},
	} {
		if err := do(); err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}

func TestJobsGoesThroughPages(t *testing.T) {
	var asked []string
	_, c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		page, next := 1, `,"next":"p2"`
		if r.FormValue("after") == "p2" {
			page, next = 2, ""
		}
		fmt.Fprintf(w, `{"jobs":[{"id":"%d-a"},{"id":"%d-b"}]%s}`, page, page, next)
	}))
	list := func(q client.JobsQuery) (ids string) {
		asked = nil
		for job, err := range c.Jobs(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			ids += job.ID + " "
		}
		return ids
	}
	if got := list(client.JobsQuery{}); got != "1-a 1-b 2-a 2-b " || fmt.Sprint(asked) != "[limit=100 after=p2&limit=100]" {
		t.Errorf("all: %s by %v", got, asked)
	}
	if got := list(client.JobsQuery{Limit: 3, States: []jobs.State{jobs.Queued, jobs.Running}}); got != "1-a 1-b 2-a " || asked[0] != "limit=3&state=queued%2Crunning" {
		t.Errorf("three: %s by %v", got, asked)
	}
	if got := list(client.JobsQuery{Limit: 2}); got != "1-a 1-b " || len(asked) != 1 {
		t.Errorf("two: %s by %v", got, asked)
	}
}

func TestProblems(t *testing.T) {
	var respond http.HandlerFunc
	m, c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { respond(w, r) }))
	respond = refuse(400, `{"title":"Bad Request","status":400,"code":"param_unknown","detail":"params.form is not a param.","field":"params.form","request_id":"R"}`)
	_, err := c.Kinds(t.Context())
	var p *client.Problem
	if !errors.As(err, &p) || p.Status != 400 || p.Code != "param_unknown" || p.Field != "params.form" || p.RequestID != "R" ||
		err.Error() != "params.form is not a param." || client.Temporary(err) {
		t.Errorf("got %#v", err)
	}
	respond = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "<html>", http.StatusBadGateway)
	}
	_, err = c.Kinds(t.Context())
	if !errors.As(err, &p) || p.Status != 502 || p.RetryAfter != 7*time.Second || !client.Temporary(err) ||
		err.Error() != "GET http://hark.test/v1/kinds was answered with 502 Bad Gateway." {
		t.Errorf("a proxy: %#v", err)
	}
	respond = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") }
	if _, err = c.Kinds(t.Context()); err == nil || client.Temporary(err) {
		t.Errorf("something else: %v", err)
	}
	m.stop()
	_, err = c.Kinds(t.Context())
	if !client.Temporary(err) || err.Error() != "cannot reach http://hark.test: connection refused" {
		t.Errorf("nobody: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = c.Kinds(ctx); !errors.Is(err, context.Canceled) || client.Temporary(err) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, url := range []string{"", "localhost:4280", "ftp://localhost", "http://", ":"} {
		if _, err := client.New(client.Options{URL: url}); err == nil {
			t.Errorf("accepted %q", url)
		}
	}
}

// fileServer serves a file with ranges and breaks the connection after every so many bytes.
func fileServer(data []byte, breakAfter int, ranges bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		from := 0
		if ranges {
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)-from))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
		}
		if rest := data[from:]; len(rest) > breakAfter {
			w.Write(rest[:breakAfter])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Write(data[from:])
	}
}

func TestDownloadGoesOn(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 10_000)
	for name, h := range map[string]http.HandlerFunc{
		"whole":     fileServer(data, len(data), true),
		"in pieces": fileServer(data, 30_000, true),
		"empty":     fileServer(nil, 0, true),
	} {
		synctest.Test(t, func(t *testing.T) {
			_, c := serve(t, h)
			var got bytes.Buffer
			n, err := c.Download(t.Context(), "J", &got)
			want := data
			if name == "empty" {
				want = nil
			}
			if err != nil || n != int64(got.Len()) || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
		})
	}
}

func TestDownloadFails(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 1000)
	changed := 0
	for name, h := range map[string]http.HandlerFunc{
		"missing":      refuse(410, `{"code":"file_expired","detail":"The file has expired."}`),
		"down":         refuse(503, `{}`),
		"no progress":  func(w http.ResponseWriter, r *http.Request) { fileServer(data, 600, false)(w, r) },
		"another file": func(w http.ResponseWriter, r *http.Request) { changed++; another(w, changed, data) },
	} {
		synctest.Test(t, func(t *testing.T) {
			_, c := serve(t, h)
			began := time.Now()
			if _, err := c.Download(t.Context(), "J", io.Discard); err == nil {
				t.Errorf("%s: no error", name)
			}
			if d := time.Since(began); d > 2*time.Minute {
				t.Errorf("%s: gave up after %v", name, d)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		_, c := serve(t, fileServer(data, len(data), true))
		full := errors.New("no space left on device")
		if _, err := c.Download(t.Context(), "J", writerFunc(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
			t.Errorf("a full disk: %v", err)
		}
	})
}

// another serves a new version of the file each time.
func another(w http.ResponseWriter, version int, data []byte) {
	w.Header().Set("ETag", fmt.Sprintf(`"v%d"`, version))
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	w.Write(data[:100])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
