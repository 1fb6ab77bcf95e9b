package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
	"github.com/nats-io/nats.go/jetstream"
)

// A job whose file does not fit among those of its user fails at its first attempt, in a sentence that says what to do. When
// there is no room at all the file is not even begun, and a handler can ask before it works.
func TestUserFilesFull(t *testing.T) {
	b := newBenchWith(t, joblog.Options{Settings: joblog.Settings{UserFileSpace: 256 << 10}})
	type size struct {
		Bytes int `json:"bytes"`
	}
	var writes, asked atomic.Int32
	b.start(worker.Options{Handlers: []worker.Handler{
		worker.Handle(jobs.Define[size](jobs.Kind{Name: "write"}), func(ctx context.Context, job *worker.Job, p size) (jobs.Result, error) {
			return jobs.Result{}, job.WriteFile(ctx, "a.txt", "text/plain", func(w io.Writer) error {
				writes.Add(1)
				_, err := io.WriteString(w, strings.Repeat("a", p.Bytes))
				return err
			})
		}, worker.Backoff(quick)),
		worker.Handle(jobs.Define[none](jobs.Kind{Name: "ask"}), func(ctx context.Context, job *worker.Job, _ none) (jobs.Result, error) {
			if err := job.FileRoom(ctx); err != nil {
				return jobs.Result{}, err
			}
			asked.Add(1)
			return jobs.Result{}, nil
		}, worker.Backoff(quick)),
	}})
	write := func(bytes string, state jobs.State) jobs.Job {
		t.Helper()
		return b.await(b.enqueue(jobs.Request{Kind: "write", Params: []byte(`{"bytes":` + bytes + `}`)}).ID, in(state))
	}
	full := func(job jobs.Job) {
		t.Helper()
		if job.Attempt != 1 || job.File != nil || job.Error.Code != "user_files_full" || !strings.Contains(job.Error.Message, "256 KiB") {
			t.Errorf("%+v %+v", job, job.Error)
		}
	}
	full(write("1000000", jobs.Failed))
	b.await(b.enqueue(jobs.Request{Kind: "ask"}).ID, in(jobs.Succeeded))
	write("262144", jobs.Succeeded)
	full(write("1", jobs.Failed))
	full(b.await(b.enqueue(jobs.Request{Kind: "ask"}).ID, in(jobs.Failed)))
	if writes.Load() != 2 || asked.Load() != 1 {
		t.Errorf("%d files were begun, want 2; the handler that asks has worked %d times, want once", writes.Load(), asked.Load())
	}
}

// What a worker that died has left of a file is removed when its job is taken over or ended: it does not count as a file of
// the job's user until it expires.
func TestFilesOfDeadWorkersAreRemoved(t *testing.T) {
	for what, c := range map[string]struct {
		lost      int
		cancelled bool
		ends      jobs.State
	}{
		"taken over": {0, false, jobs.Succeeded},
		"given up":   {10, false, jobs.Failed},
		"cancelled":  {0, true, jobs.Cancelled},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			kind := worker.Handle(jobs.Define[none](jobs.Kind{Name: "idle"}), func(context.Context, *worker.Job, none) (jobs.Result, error) { return jobs.Result{}, nil })
			if err := b.queue.PublishKind(natstest.Context(t), jobs.Kind{Name: "idle", MaxAttempts: 3}); err != nil {
				t.Fatal(err)
			}
			// As a worker leaves it that dies between the file and the end of the job.
			job := b.enqueue(jobs.Request{Kind: "idle"})
			job.State, job.Attempt, job.Lost, job.CancelRequested, job.Worker = jobs.Running, 1, c.lost, c.cancelled, "dead"
			if _, err := b.queue.PutState(natstest.Context(t), &job, 0); err != nil {
				t.Fatal(err)
			}
			if _, err := b.queue.StoreFile(natstest.Context(t), &job, strings.NewReader("left")); err != nil {
				t.Fatal(err)
			}
			b.start(worker.Options{Handlers: []worker.Handler{kind}})
			b.await(job.ID, in(c.ends))
			job.File = &jobs.File{Size: 4, ExpiresAt: time.Now().Add(time.Hour)}
			polltest.Nil(t, "what the dead worker left is removed", func() error {
				_, err := b.queue.OpenFile(natstest.Context(t), &job)
				if n := b.chunks(); n != 0 || !errors.Is(err, jobs.ErrFileGone) {
					return fmt.Errorf("%d chunks stay, and the file: %v", n, err)
				}
				return nil
			})
		})
	}
}

// chunks counts what is stored of all files.
func (b *bench) chunks() (n uint64) {
	b.Helper()
	files, err := b.queue.JetStream().Stream(natstest.Context(b), defaultNS.FilesStream())
	if err != nil {
		b.Fatal(err)
	}
	info, err := files.Info(natstest.Context(b), jetstream.WithSubjectFilter("$O."+defaultNS.FilesBucket()+".C.>"))
	if err != nil {
		b.Fatal(err)
	}
	for _, of := range info.State.Subjects {
		n += of
	}
	return n
}
