package client_test

import (
	"bytes"
	"compress/gzip"
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

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/jobs"
)

type reportParams struct {
	Pages int `json:"pages"`
}

var report = jobs.Define[reportParams](jobs.Kind{Name: "report"})

// TestCalls checks each call: method, path, query, headers and body as in docs/api.md.
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
		"GET /v1/notifications?as_of=e-20&before=e-9&limit=7&status=unread": func() error {
			answer = `{"notifications":[{"id":"e-8"}],"unread":3}`
			page, err := c.NotificationPage(ctx, client.NotificationsQuery{Unread: true, Limit: 7, Before: "e-9", AsOf: "e-20"})
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
			n, err := c.Notify(ctx, jobs.Everyone, jobs.Notification{Type: "a.b", Title: "T"})
			if n.ID != "e-9" {
				t.Errorf("got %+v", n)
			}
			return err
		},
		`POST /v1/notifications {"user":"bob","type":"a.b","title":"T","body":"B","link":"/l","data":1,"key":"k"} application/json`: func() error {
			_, err := c.Notify(ctx, "bob", jobs.Notification{ID: "not sent", Type: "a.b", Title: "T", Body: "B", Link: "/l", Data: json.RawMessage("1"), Key: "k"})
			return err
		},
		`POST /v1/notifications {"notifications":[{"user":"bob","type":"a.b","title":"T"},{"everyone":true,"type":"a.b","title":"U"}]} application/json`: func() error {
			answer = `{"notifications":[{"id":"e-10"},{"id":"e-11"}]}`
			stored, err := c.NotifyAll(ctx, []jobs.Addressed{
				{User: "bob", Notification: jobs.Notification{Type: "a.b", Title: "T"}},
				{User: jobs.Everyone, Notification: jobs.Notification{Type: "a.b", Title: "U"}},
			})
			if len(stored) != 2 || stored[0].ID != "e-10" || stored[1].ID != "e-11" {
				t.Errorf("got %+v, want e-10 and e-11", stored)
			}
			return err
		},
		`POST /v1/jobs {"user":"bob","kind":"report","title":"T","params":{"pages":2},"metadata":{"tenant":"t1"},"max_attempts":4} key-1 wait=60 application/json`: func() error {
			answer = `{"id":"J"}`
			job, err := client.Enqueue(ctx, c, report, reportParams{Pages: 2}, client.User("bob"), client.Title("T"), client.MaxAttempts(4),
				client.Metadata(map[string]string{"tenant": "t1"}), client.IdempotencyKey("key-1"), client.Wait(time.Minute))
			if job.ID != "J" {
				t.Errorf("got the job %q, want J", job.ID)
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
		err.Error() != "GET http://hark.test/v1/kinds got the status 502 Bad Gateway." {
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

// A problem is the error of package jobs that its code stands for, and no other.
func TestProblemsOfJobs(t *testing.T) {
	var code string
	_, c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { refuse(409, `{"code":"`+code+`","detail":"No."}`)(w, r) }))
	all := map[string]error{"job_not_found": jobs.ErrNotFound, "kind_unknown": jobs.ErrKindUnknown, "key_reused": jobs.ErrKeyReused,
		"job_ended": jobs.ErrEnded, "job_not_ended": jobs.ErrNotEnded, "file_gone": jobs.ErrFileGone, "": nil, "other": nil}
	for code = range all {
		_, err := c.Kinds(t.Context())
		for other, target := range all {
			if target != nil && errors.Is(err, target) != (other == code) {
				t.Errorf("a problem %q is %v: got %v, want %v", code, target, !(other == code), other == code)
			}
		}
	}
}

// The error of several notifications names the first refused one. Without notifications there is no call.
func TestNotifyAllRefused(t *testing.T) {
	calls := 0
	_, c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		refuse(409, `{"code":"key_reused","detail":"notifications[1]: This key was used.","field":"notifications[1]"}`)(w, r)
	}))
	_, err := c.NotifyAll(t.Context(), []jobs.Addressed{{User: "a"}, {User: "b"}})
	var batch *jobs.BatchError
	if !errors.As(err, &batch) || batch.Index != 1 || !errors.Is(err, jobs.ErrKeyReused) {
		t.Errorf("got %v, want a BatchError for 1 around jobs.ErrKeyReused", err)
	}
	if stored, err := c.NotifyAll(t.Context(), nil); err != nil || len(stored) != 0 || calls != 1 {
		t.Errorf("got %v, %v after %d calls, want nothing after 1", stored, err, calls)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, url := range []string{"", "localhost:4280", "ftp://localhost", "http://", ":"} {
		if _, err := client.New(client.Options{URL: url}); err == nil {
			t.Errorf("accepted %q", url)
		}
	}
}

// fileServer serves a file with ranges, and breaks the connection after a number of bytes.
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

func TestDownloadResumes(t *testing.T) {
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

// A download also resumes through a proxy that compresses: the client refuses compression, since a compressed file has another
// ETag than its parts, and no length.
func TestDownloadResumesThroughACompressor(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 10_000)
	plain := fileServer(data, 30_000, true)
	synctest.Test(t, func(t *testing.T) {
		_, c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				plain(w, r)
				return
			}
			w.Header().Set("ETag", `W/"v"`)
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(data[:30_000])
			z.Flush()
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}))
		var got bytes.Buffer
		if n, err := c.Download(t.Context(), "J", &got); err != nil || !bytes.Equal(got.Bytes(), data) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

func TestDownloadFails(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 1000)
	changed := 0
	for name, h := range map[string]http.HandlerFunc{
		"missing":      refuse(410, `{"code":"file_gone","detail":"The file has expired."}`),
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

// another serves another version of the file each time.
func another(w http.ResponseWriter, version int, data []byte) {
	w.Header().Set("ETag", fmt.Sprintf(`"v%d"`, version))
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	w.Write(data[:100])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
