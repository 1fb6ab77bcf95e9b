package worker_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// Texts and results of any size end the job, and its user gets a notification that could as well have been posted.
func TestEveryJobEndsWhateverItsHandlerLeaves(t *testing.T) {
	b := newBench(t)
	huge := strings.Repeat("<日", 1<<20)
	long := &worker.Error{Code: huge, Message: huge}
	ends := map[string]func(*worker.Job) (jobs.Result, error){
		"summary":  func(*worker.Job) (jobs.Result, error) { return jobs.Result{Summary: huge}, nil },
		"failed":   func(*worker.Job) (jobs.Result, error) { return jobs.Result{}, worker.Fail(long) },
		"cancel":   func(*worker.Job) (jobs.Result, error) { return jobs.Result{}, worker.Cancel(long) },
		"retried":  func(*worker.Job) (jobs.Result, error) { return jobs.Result{}, long },
		"progress": func(j *worker.Job) (jobs.Result, error) { j.Progress(1, 2, huge); return jobs.Result{}, nil },
		"result":   func(*worker.Job) (jobs.Result, error) { return jobs.Result{Value: huge}, nil },
		"no-json":  func(*worker.Job) (jobs.Result, error) { return jobs.Result{Value: func() {}}, nil },
		"panics":   func(*worker.Job) (jobs.Result, error) { return jobs.Result{Value: bomb{}}, nil },
		"largest": func(j *worker.Job) (jobs.Result, error) {
			j.Progress(1, 2, huge)
			return jobs.Result{Value: strings.Repeat("x", jobs.MaxResultBytes-2)}, nil
		},
	}
	handlers := make([]worker.Handler, 0, len(ends))
	for kind, end := range ends {
		handlers = append(handlers, worker.Handle(jobs.Define[none](jobs.Kind{Name: kind, Title: strings.Repeat("日", 300), MaxAttempts: 2}), func(_ context.Context, j *worker.Job, _ none) (jobs.Result, error) { return end(j) }, worker.Backoff(quick)))
	}
	var logged logtest.Buffer
	b.start(worker.Options{Handlers: handlers, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	want := map[string]string{"failed": "<", "cancel": "<", "retried": "<", "result": "result_too_large", "no-json": "result_invalid", "panics": "handler_panicked"}
	ids := make(map[string]string)
	for kind := range ends {
		ids[kind] = b.enqueue(jobs.Request{Kind: kind}).ID
	}
	for kind, id := range ids {
		job := b.await(id, func(j jobs.Job) bool { return j.State.Terminal() })
		if code := want[kind]; (code == "") != (job.Error == nil) || job.Error != nil && !strings.HasPrefix(job.Error.Code, code) {
			t.Errorf("%s: %s, %+.300v", kind, job.State, job.Error)
		}
		if job.Error != nil && (utf8.RuneCountInString(job.Error.Code) > 100 || utf8.RuneCountInString(job.Error.Message) > jobs.MaxTextChars) {
			t.Errorf("%s: the error has a code of %d bytes, and a text of %d", kind, len(job.Error.Code), len(job.Error.Message))
		}
		if utf8.RuneCountInString(job.Progress.Message) > jobs.MaxTextChars || utf8.RuneCountInString(job.Title) > jobs.MaxTitleChars {
			t.Errorf("%s: a message of %d bytes, a title of %d", kind, len(job.Progress.Message), len(job.Title))
		}
		if attempts := map[string]int{"retried": 2, "panics": 2}[kind]; job.Attempt != max(attempts, 1) {
			t.Errorf("%s: %d attempts", kind, job.Attempt)
		}
	}
	if !logged.Contains("summary is too long") {
		t.Error("the log does not say that a summary was cut")
	}
	var notes []jobs.Notification
	polltest.Until(t, "a notification for each end", func() bool { notes = b.notes(); return len(notes) >= len(ends) })
	for _, n := range notes {
		n.ID = ""
		if err := n.Check(); err != nil {
			t.Errorf("%s: %v", n.Key, err)
		}
		if n.JobID == ids["summary"] && (!strings.HasPrefix(n.Body, "<日<日") || !strings.HasSuffix(n.Body, "…") || !strings.HasSuffix(n.Title, "… is done")) {
			t.Errorf("told %.100q with %.100q", n.Title, n.Body)
		}
	}
	if len(notes) != len(ends) {
		t.Errorf("%d ends were told of %d", len(notes), len(ends))
	}
}

// bomb panics when it is written.
type bomb struct{}

func (bomb) MarshalJSON() ([]byte, error) { panic("bomb") }

// TestFileNamesAreBounded holds that a name which no state has room for is refused before anything is written.
func TestFileNamesAreBounded(t *testing.T) {
	b := newBench(t)
	errs := make(chan error, 3)
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "report"}), func(ctx context.Context, j *worker.Job, _ none) (jobs.Result, error) {
		never := func(io.Writer) error { return errors.New("write was called") }
		errs <- j.WriteFile(ctx, strings.Repeat("x", 256), "text/plain", never)
		errs <- j.WriteFile(ctx, "x", strings.Repeat("x", 256), never)
		err := j.WriteFile(ctx, strings.Repeat("x", 255), "text/plain", func(w io.Writer) error { _, err := io.WriteString(w, "x"); return err })
		errs <- err
		return jobs.Result{}, err
	})}})
	job := b.await(b.enqueue(jobs.Request{Kind: "report"}).ID, in(jobs.Succeeded))
	for range 2 {
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "255 bytes") {
			t.Error(err)
		}
	}
	if err := <-errs; err != nil || job.File == nil || len(job.File.Name) != 255 {
		t.Errorf("the longest name: %v, %+v", err, job.File)
	}
}
