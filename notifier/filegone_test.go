package notifier_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
	"github.com/nats-io/nats.go/jetstream"
)

// A file that is gone gets no link: it was deleted by its user, lost from the store, or its job has expired.
func TestNoLinkToAFileThatIsGone(t *testing.T) {
	s := start(t, harktest.Handlers(leave))
	body := `{"kind":"leave","params":{"name":"a.txt","text":"0123456789"}}`
	deleted, lost, forgotten := s.finish("ana", body), s.finish("ana", body), s.finish("ana", body)
	link := func(job jobs.Job, user string) answer {
		t.Helper()
		return s.call("POST", filePath(job)+"/link", "", s.as(user)...)
	}
	var old struct{ URL string }
	link(deleted, "ana").want(201).into(&old)
	s.call("DELETE", filePath(deleted), "", s.as("ana")...).want(200)
	link(deleted, "ana").problem(410, "file_gone")
	s.call("GET", "/"+old.URL, "").problem(410, "file_gone")

	link(lost, "ana").want(201)
	if err := s.Queue.Store().DeleteFile(natstest.Context(t), &lost); err != nil {
		t.Fatal(err)
	}
	link(lost, "ana").problem(410, "file_gone")

	link(forgotten, "ana").want(201)
	polltest.Until(t, "the inbox has them", func() bool { return s.inbox("").Unread == 3 })
	log, err := s.Queue.Store().JetStream().Stream(natstest.Context(t), defaultNS.LogStream())
	for _, subject := range []string{defaultNS.SpecSubject("ana", "leave", forgotten.ID), defaultNS.StateSubject("ana", forgotten.ID)} {
		if err == nil {
			err = log.Purge(natstest.Context(t), jetstream.WithPurgeSubject(subject))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	link(forgotten, "ana").problem(410, "file_gone")
	link(forgotten, "bob").problem(404, "job_not_found")
}

// If a user deletes a file during a download, the download is cut, and nothing is logged as an error.
func TestDeleteDuringADownload(t *testing.T) {
	const size = 64 << 20 // more than the buffers of a connection
	var log logtest.Buffer
	s := start(t, harktest.Log(slog.New(slog.NewTextHandler(&log, nil))), harktest.Handlers(
		worker.Handle(jobs.Define[none](jobs.Kind{Name: "large"}), func(ctx context.Context, job *worker.Job, _ none) (jobs.Result, error) {
			return jobs.Result{}, job.WriteFile(ctx, "large.txt", "text/plain", func(w io.Writer) error {
				_, err := io.WriteString(w, strings.Repeat("0123456789abcdef", size/16))
				return err
			})
		})))
	job := s.finish("ana", `{"kind":"large"}`)
	res := s.open(t.Context(), "GET", filePath(job), "", s.as("ana")...)
	defer res.Body.Close()
	if _, err := io.CopyN(io.Discard, res.Body, 1000); err != nil {
		t.Fatal(err)
	}
	s.call("DELETE", filePath(job), "", s.as("ana")...).want(200)
	if n, err := io.Copy(io.Discard, res.Body); err != io.ErrUnexpectedEOF {
		t.Errorf("the download went on for %d bytes, and ended with %v", n, err)
	}
	s.downloadsEnd()
	polltest.Until(t, "it is in the log", func() bool { return strings.Contains(log.String(), "download failed") })
	for line := range strings.Lines(log.String()) {
		alarm := strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN")
		if alarm && !strings.Contains(line, "part=nats") { // NATS warns of a machine that stands still
			t.Errorf("the log has an alarm: %s", line)
		}
	}
}
