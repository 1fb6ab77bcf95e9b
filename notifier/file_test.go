package notifier_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
	"github.com/nats-io/nats.go/jetstream"
)

type fileParams struct {
	Name string `json:"name"`
	Text string `json:"text" maxlength:"262144"`
}

// leave is the handler of a kind that writes a file.
var leave = worker.Handle(jobs.Define[fileParams](jobs.Kind{Name: "leave"}), func(ctx context.Context, job *worker.Job, p fileParams) (jobs.Result, error) {
	return jobs.Result{}, job.WriteFile(ctx, p.Name, "text/html; charset=utf-8", func(w io.Writer) error {
		_, err := io.WriteString(w, p.Text)
		return err
	})
})

// filePath returns the path of a job's file.
func filePath(job jobs.Job) string { return "/v1/jobs/" + job.ID + "/file" }

func TestFile(t *testing.T) {
	s := start(t, harktest.Handlers(leave))
	job := s.finish("ana", `{"kind":"leave","params":{"name":"Bücher \"1\".html","text":"0123456789"}}`)
	if job.File == nil || job.File.Size != 10 || job.File.ExpiresAt.IsZero() {
		t.Fatalf("%+v", job)
	}
	get := func(method string, headers ...string) answer {
		t.Helper()
		return s.call(method, filePath(job), "", append(s.as("ana"), headers...)...)
	}
	whole := get("GET").want(200)
	etag := whole.Header.Get("ETag")
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Content-Length": "10", "Accept-Ranges": "bytes",
		"Cache-Control":           "private, no-cache, no-transform",
		"Content-Disposition":     `attachment; filename="B_cher _1_.html"; filename*=UTF-8''B%C3%BCcher%20_1_.html`,
		"Content-Security-Policy": "default-src 'none'; sandbox",
	} {
		if got := whole.Header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if string(whole.body) != "0123456789" || !strings.HasPrefix(etag, `"`) {
		t.Errorf("%s %s", whole.body, etag)
	}
	for _, c := range []struct {
		header, value string
		status        int
		body          string
	}{
		{"Range", "bytes=0-3", 206, "0123"},
		{"Range", "bytes=4-", 206, "456789"},
		{"Range", "bytes=-2", 206, "89"},
		{"If-None-Match", etag, 304, ""},
		{"If-None-Match", `"other"`, 200, "0123456789"},
		{"If-Modified-Since", whole.Header.Get("Last-Modified"), 304, ""},
	} {
		if a := get("GET", c.header, c.value).want(c.status); string(a.body) != c.body {
			t.Errorf("%s: %s: %q", c.header, c.value, a.body)
		}
	}
	if a := get("GET", "Range", "bytes=8-9,0-1").want(206); !strings.Contains(string(a.body), "89") || !strings.Contains(string(a.body), "01") {
		t.Errorf("%s", a.body)
	}
	bad := get("GET", "Range", "bytes=10-")
	if bad.problem(416, "range_invalid"); bad.Header.Get("Content-Range") != "bytes */10" || bad.Header.Get("Content-Disposition") != "" {
		t.Errorf("%v", bad.Header)
	}
	if head := get("HEAD").want(200); len(head.body) != 0 || head.Header.Get("Content-Length") != "10" || head.Header.Get("ETag") != etag {
		t.Errorf("%v", head.Header)
	}
	s.call("GET", filePath(job), "").problem(401, "token_missing")
	s.call("GET", filePath(job), "", s.as("bob")...).problem(404, "job_not_found")
	if a := s.call("GET", filePath(job), "", s.as("root", "admin")...).want(200); string(a.body) != "0123456789" {
		t.Errorf("%s", a.body)
	}

	running := s.enqueue("ana", `{"kind":"sleep","params":{"seconds":600}}`)
	s.call("GET", "/v1/jobs/"+running.ID+"/file", "", s.as("ana")...).problem(404, "file_missing")

	// The file expires before the job, and the job before its notification.
	stored, err := s.Queue.Store().Get(natstest.Context(t), "ana", job.ID)
	if err == nil {
		err = s.Queue.Store().DeleteFile(natstest.Context(t), &stored)
	}
	if err != nil {
		t.Fatal(err)
	}
	get("GET").problem(410, "file_gone")
	get("HEAD").want(410)
	polltest.Until(t, "the inbox has it", func() bool { return s.inbox("").Unread == 1 })
	log, err := s.Queue.Store().JetStream().Stream(natstest.Context(t), defaultNS.LogStream())
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{defaultNS.SpecSubject("ana", "leave", job.ID), defaultNS.StateSubject("ana", job.ID)} {
		if err := log.Purge(natstest.Context(t), jetstream.WithPurgeSubject(subject)); err != nil {
			t.Fatal(err)
		}
	}
	get("GET").problem(410, "file_gone")
	s.call("GET", filePath(job), "", s.as("bob")...).problem(404, "job_not_found")
	s.call("GET", "/v1/jobs/"+job.ID, "", s.as("ana")...).problem(404, "job_not_found")
}

func TestFileOfManyChunks(t *testing.T) {
	s := start(t, harktest.Handlers(worker.Handle(jobs.Define[struct{}](jobs.Kind{Name: "large"}), func(ctx context.Context, job *worker.Job, _ struct{}) (jobs.Result, error) {
		return jobs.Result{}, job.WriteFile(ctx, "large.txt", "text/plain", func(w io.Writer) error {
			_, err := io.WriteString(w, strings.Repeat("0123456789", 100_000))
			return err
		})
	})))
	job := s.finish("ana", `{"kind":"large"}`)
	if a := s.call("GET", filePath(job), "", append(s.as("ana"), "Range", "bytes=654321-654330")...).want(http.StatusPartialContent); string(a.body) != "1234567890" {
		t.Errorf("%s", a.body)
	}
	// A client that closes a download in the middle causes no error and no leak (goleak checks).
	ctx, cancel := context.WithCancel(t.Context())
	res := s.open(ctx, "GET", filePath(job), "", s.as("ana")...)
	if _, err := io.CopyN(io.Discard, res.Body, 1000); err != nil {
		t.Error(err)
	}
	cancel()
	res.Body.Close()
	s.downloadsEnd()
}

// downloadsEnd waits until the running download has ended: nats.go may read for five seconds after its context has ended.
func (s *site) downloadsEnd() {
	s.t.Helper()
	polltest.Until(s.t, "the download has ended", func() bool {
		return strings.Contains(string(s.call("GET", "/metrics", "").body), `{method="GET",route="/v1/jobs/:id/file",status="200"} 1`)
	})
}
