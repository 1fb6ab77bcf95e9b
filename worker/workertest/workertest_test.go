package workertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
	"github.com/hark-jobs/hark/worker/workertest"
)

type params struct {
	Pages int    `json:"pages" minimum:"1"`
	Style string `json:"style,omitempty"`
}

var report = jobs.Define[params](jobs.Kind{Name: "report", Title: "Report", MaxAttempts: 2})

// write prints pages into a file.
func write(ctx context.Context, job *worker.Job, p params) (jobs.Result, error) {
	err := job.WriteFile(ctx, "report.txt", "text/plain", func(w io.Writer) error {
		for page := range p.Pages {
			job.Progress(int64(page+1), int64(p.Pages), "Printing")
			if _, err := fmt.Fprintf(w, "page %d for %s of %v\n", page+1, job.User, job.Claims["tenant"]); err != nil {
				return err
			}
		}
		return nil
	})
	return jobs.Result{Value: p.Pages, Summary: "printed"}, err
}

// A handler's state, progress, file and result are there as a worker would have written them.
func TestRun(t *testing.T) {
	got := workertest.Run(t, report, write, params{Pages: 2}, workertest.User("bob"), workertest.Claims(map[string]any{"tenant": "t1"}))
	if got.State != jobs.Succeeded || got.Err != nil {
		t.Fatalf("got %s, %v; want succeeded", got.State, got.Err)
	}
	if want := "page 1 for bob of t1\npage 2 for bob of t1\n"; string(got.Content) != want || got.File.Size != int64(len(want)) || got.Job.File.Name != "report.txt" {
		t.Errorf("got the file %+v with %q, want %q", got.File, got.Content, want)
	}
	if want := []jobs.Progress{{Done: 1, Total: 2, Message: "Printing"}, {Done: 2, Total: 2, Message: "Printing"}}; !slices.Equal(got.Progress, want) {
		t.Errorf("got the progress %v, want %v", got.Progress, want)
	}
	if string(got.Job.Result) != "2" || got.Job.Progress.Message != "printed" || got.Job.Title != "Report" {
		t.Errorf("got the job %+v", got.Job)
	}
}

// What a handler's error does to the job is what it does in a worker.
func TestRunErrors(t *testing.T) {
	private := errors.New("private")
	for name, c := range map[string]struct {
		err     error
		options []workertest.Option
		want    jobs.State
		code    string
	}{
		"first attempt": {private, nil, jobs.Retrying, "handler_failed"},
		"last attempt":  {private, []workertest.Option{workertest.Attempt(2)}, jobs.Failed, "handler_failed"},
		"public":        {worker.Fail(&worker.Error{Code: "no_paper", Message: "There is no paper."}), nil, jobs.Failed, "no_paper"},
		"cancel":        {worker.Cancel(private), nil, jobs.Cancelled, "handler_failed"},
		"snooze":        {worker.Snooze(time.Hour), nil, jobs.Retrying, ""},
	} {
		got := workertest.Run(t, report, func(context.Context, *worker.Job, params) (jobs.Result, error) { return jobs.Result{}, c.err }, params{Pages: 1}, c.options...)
		code := ""
		if got.Job.Error != nil {
			code = got.Job.Error.Code
		}
		if got.State != c.want || code != c.code || !errors.Is(got.Err, c.err) {
			t.Errorf("%s: got %s with the code %q and the error %v, want %s with %q and %v", name, got.State, code, got.Err, c.want, c.code, c.err)
		}
	}
	got := workertest.Run(t, report, func(context.Context, *worker.Job, params) (jobs.Result, error) { panic("boom") }, params{Pages: 1})
	var panicked *worker.PanicError
	if !errors.As(got.Err, &panicked) || panicked.Value != "boom" || len(panicked.Stack) == 0 || got.Job.Error.Code != "handler_panicked" {
		t.Errorf("after a panic got %v and %+v", got.Err, got.Job.Error)
	}
}

// A handler can be cancelled, and have too little time or room.
func TestRunLimits(t *testing.T) {
	wait := func(ctx context.Context, _ *worker.Job, _ params) (jobs.Result, error) {
		<-ctx.Done()
		return jobs.Result{}, context.Cause(ctx)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(worker.ErrCancelled)
	if got := workertest.Run(t, report, wait, params{Pages: 1}, workertest.Context(ctx)); got.State != jobs.Cancelled {
		t.Errorf("cancelled: got %s", got.State)
	}
	synctest.Test(t, func(t *testing.T) {
		got := workertest.Run(t, report, wait, params{Pages: 1}, workertest.Handler(worker.Timeout(time.Hour)))
		if !errors.Is(got.Err, worker.ErrTimeout) || got.Job.Error.Code != "timeout" {
			t.Errorf("after its time got %v and %+v", got.Err, got.Job.Error)
		}
	})
	for _, space := range []int64{0, 10} {
		got := workertest.Run(t, report, write, params{Pages: 1}, workertest.FileSpace(space))
		if got.State != jobs.Failed || got.Job.Error.Code != "user_files_full" || got.File != nil {
			t.Errorf("with room for %d bytes got %s, %+v and the file %v", space, got.State, got.Job.Error, got.File)
		}
	}
}

// fake is a test that a run ends.
type fake struct {
	testing.TB
	said string
}

func (f *fake) Helper() {}
func (f *fake) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f)
}

// Params that no job could have end the test, with the sentence that their sender would get.
func TestRunRefusedParams(t *testing.T) {
	f := &fake{TB: t}
	func() {
		defer func() {
			if recover() != f {
				t.Fatal("the test was not ended")
			}
		}()
		workertest.Run(f, report, write, params{Pages: 0})
	}()
	if !strings.Contains(f.said, "params.pages must be") {
		t.Errorf("the test ended with %q", f.said)
	}
}

func ExampleRun() {
	t := new(testing.T) // of the test function
	got := workertest.Run(t, report, write, params{Pages: 3}, workertest.Context(context.Background()))
	fmt.Println(got.State, len(got.Progress), got.File.Name)
	// Output: succeeded 3 report.txt
}
