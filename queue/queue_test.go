package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
)

type params struct {
	Pages int `json:"pages" minimum:"1"`
}

var report = jobs.Define[params](jobs.Kind{Name: "report", Title: "Report", MaxAttempts: 1})

// start starts a hark that runs reports, and returns a client of it.
func start(t *testing.T) *queue.Client {
	t.Helper()
	return harktest.Start(t, harktest.Handlers(worker.Handle(report, func(_ context.Context, job *worker.Job, p params) (jobs.Result, error) {
		if p.Pages == 13 {
			return jobs.Result{}, errors.New("no 13th page")
		}
		return jobs.Result{Summary: fmt.Sprint(p.Pages, " pages for ", job.Metadata["tenant"])}, nil
	}))).Queue
}

// A job is enqueued with the params of its kind, followed to its end, and run again.
func TestEnqueueAndFollow(t *testing.T) {
	q, ctx := start(t), natstest.Context(t)
	job, err := queue.Enqueue(ctx, q, report, "ana", params{Pages: 2}, queue.Title("Mine"), queue.IdempotencyKey("k"), queue.Metadata(map[string]string{"tenant": "t1"}))
	if err != nil || job.Title != "Mine" || job.State != jobs.Queued {
		t.Fatalf("enqueued %+v, %v", job, err)
	}
	again, err := queue.Enqueue(ctx, q, report, "ana", params{Pages: 2}, queue.Title("Mine"), queue.IdempotencyKey("k"))
	if err != nil || again.ID != job.ID {
		t.Errorf("the same key made the job %s, %v; want %s", again.ID, err, job.ID)
	}
	if _, err := queue.Enqueue(ctx, q, report, "ana", params{Pages: 3}, queue.IdempotencyKey("k")); !errors.Is(err, jobs.ErrKeyReused) {
		t.Errorf("another request with the key: got %v, want %v", err, jobs.ErrKeyReused)
	}
	var last jobs.Job
	for job, err := range q.Follow(ctx, "ana", job.ID) {
		if err != nil {
			t.Fatal(err)
		}
		if job.Revision <= last.Revision {
			t.Errorf("revision %d follows %d", job.Revision, last.Revision)
		}
		last = job
	}
	if last.State != jobs.Succeeded || last.Progress.Message != "2 pages for t1" {
		t.Errorf("got %s with %q, want succeeded with 2 pages for t1", last.State, last.Progress.Message)
	}
	for _, err := range q.Follow(ctx, "bob", job.ID) {
		if !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("another user follows the job: %v", err)
		}
	}
}

// Requests that no worker could take are refused before anything is stored.
func TestEnqueueAllRefused(t *testing.T) {
	q, ctx := start(t), natstest.Context(t)
	_, err := queue.EnqueueAll(ctx, q, report, "ana", []params{{Pages: 1}, {Pages: 0}})
	var batch *jobs.BatchError
	var invalid *jobs.InvalidError
	if !errors.As(err, &batch) || batch.Index != 1 || !errors.As(err, &invalid) || invalid.Field != "params.pages" {
		t.Errorf("got %v, want that of params.pages of number 1", err)
	}
	if page, err := q.List(ctx, "ana", jobs.ListOptions{}); err != nil || len(page.Jobs) != 0 {
		t.Errorf("%d jobs are stored, %v; want none", len(page.Jobs), err)
	}
}

// Several jobs are enqueued in one call, in order; a second call with the same keys adds none.
func TestEnqueueAll(t *testing.T) {
	q, ctx := start(t), natstest.Context(t)
	var requests []jobs.Request
	for i := range 300 {
		requests = append(requests, jobs.Request{User: "ana", Kind: "report", Params: fmt.Appendf(nil, `{"pages":%d}`, i+1), IdempotencyKey: fmt.Sprint("key ", i)})
	}
	first, err := q.EnqueueAll(ctx, requests)
	if err != nil {
		t.Fatal(err)
	}
	second, err := q.EnqueueAll(ctx, requests)
	if err != nil {
		t.Fatal(err)
	}
	ids := func(all []jobs.Job) (ids []string) {
		for _, job := range all {
			ids = append(ids, job.ID)
		}
		return ids
	}
	if !slices.Equal(ids(first), ids(second)) {
		t.Error("the second call with the same keys returned other jobs")
	}
	seen := 0
	for after := ""; ; {
		page, err := q.List(ctx, "ana", jobs.ListOptions{After: after, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		seen += len(page.Jobs)
		if after = page.Next; after == "" {
			break
		}
	}
	if seen != len(requests) {
		t.Errorf("%d jobs are there, want %d", seen, len(requests))
	}
	requests[7].Params = []byte(`{"pages":1000}`)
	_, err = q.EnqueueAll(ctx, requests)
	var batch *jobs.BatchError
	if !errors.As(err, &batch) || batch.Index != 7 || !errors.Is(err, jobs.ErrKeyReused) {
		t.Errorf("another request under a key: got %v, want %v of number 7", err, jobs.ErrKeyReused)
	}
}

// Watch yields jobs, the user's notifications and those for everyone in the order of the log, and goes on after a position without a gap.
func TestWatch(t *testing.T) {
	q, ctx := start(t), natstest.Context(t)
	begin, err := q.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: "begin"})
	if err != nil {
		t.Fatal(err)
	}
	at, err := jobs.ParseNotificationID(begin.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"ana", "bob", jobs.Everyone} {
		if _, err := q.Notify(ctx, user, jobs.Notification{Type: "t", Title: "for " + user}); err != nil {
			t.Fatal(err)
		}
	}
	job, err := queue.Enqueue(ctx, q, report, "ana", params{Pages: 1})
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	ended := false
	for next := at.Position(); len(titles) < 3; { // a new watch for each event
		for event, err := range q.Watch(ctx, "ana", next) {
			if err != nil {
				t.Fatal(err)
			}
			if event.Position.Epoch != next.Epoch || event.Position.Own <= next.Own || event.Position.All <= next.All {
				t.Errorf("%s follows %s", event.Position, next)
			}
			next = event.Position
			if event.Notification != nil {
				titles = append(titles, event.Notification.Title)
			} else if event.Job.ID != job.ID {
				t.Errorf("got the job %s of %s", event.Job.ID, event.Job.User)
			} else {
				ended = ended || event.Job.State == jobs.Succeeded
			}
			break
		}
	}
	if want := []string{"for ana", "for _all", "Report is done"}; !slices.Equal(titles, want) || !ended {
		t.Errorf("got %q and the job's end %v, want %q and its end", titles, ended, want)
	}

	live := make(chan string, 1)
	go func() {
		for event, err := range q.Watch(ctx, "ana", jobs.Position{}) {
			if err == nil && event.Notification != nil {
				live <- event.Notification.Title
				return
			}
		}
	}()
	polltest.Until(t, "a live notification", func() bool {
		if _, err := q.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: "now"}); err != nil { // the watch may not have begun
			t.Fatal(err)
		}
		return len(live) > 0
	})
	if title := <-live; title != "now" {
		t.Errorf("live: got %q, want now", title)
	}
}

// A position of another log, or one that is ahead with either mark, ends a watch at once.
func TestWatchReset(t *testing.T) {
	q, ctx := start(t), natstest.Context(t)
	n, err := q.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: "t"})
	if err != nil {
		t.Fatal(err)
	}
	id, err := jobs.ParseNotificationID(n.ID)
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]jobs.Position{
		"another epoch": {Epoch: id.Epoch - 1, Own: id.Seq, All: id.Seq},
		"own ahead":     {Epoch: id.Epoch, Own: id.Seq + 1000, All: id.Seq},
		"all ahead":     {Epoch: id.Epoch, Own: id.Seq, All: id.Seq + 1000},
	} {
		for event, err := range q.Watch(ctx, "ana", at) {
			if !errors.Is(err, queue.ErrReset) {
				t.Errorf("%s: got %+v, %v; want %v", name, event, err, queue.ErrReset)
			}
			break
		}
	}
}

// A watch that continues from the position of a stream, whose marks differ, yields what is after each mark, once.
func TestWatchAfterTwoMarks(t *testing.T) {
	q, ctx := start(t), natstest.Context(t)
	var seqs []uint64
	var epoch jobs.Epoch
	who := []string{"ana", jobs.Everyone, "ana", jobs.Everyone, "ana", jobs.Everyone}
	for i, user := range who {
		n, err := q.Notify(ctx, user, jobs.Notification{Type: "t", Title: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		id, err := jobs.ParseNotificationID(n.ID)
		if err != nil {
			t.Fatal(err)
		}
		seqs, epoch = append(seqs, id.Seq), id.Epoch
	}
	for own := range who {
		for all := range who {
			var want, got []string
			for i, user := range who {
				if user == jobs.Everyone && i > all || user != jobs.Everyone && i > own {
					want = append(want, fmt.Sprint(i))
				}
			}
			at := jobs.Position{Epoch: epoch, Own: seqs[own], All: seqs[all]}
			for len(got) < len(want) { // a new watch for each event
				for event, err := range q.Watch(ctx, "ana", at) {
					if err != nil {
						t.Fatal(err)
					}
					at, got = event.Position, append(got, event.Notification.Title)
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("after own %d and all %d: got %q, want %q", own, all, got, want)
			}
		}
	}
}

// Jobs are cancelled and retried by their user's name alone.
func TestCancelAndRetry(t *testing.T) {
	q, ctx := start(t), natstest.Context(t)
	job, err := queue.Enqueue(ctx, q, report, "ana", params{Pages: 13})
	if err != nil {
		t.Fatal(err)
	}
	failed, err := q.Wait(ctx, job, time.Minute)
	if err != nil || failed.State != jobs.Failed {
		t.Fatalf("got %+v, %v; want failed", failed, err)
	}
	if _, err := q.Cancel(ctx, "ana", job.ID); !errors.Is(err, jobs.ErrEnded) {
		t.Errorf("cancel: got %v, want %v", err, jobs.ErrEnded)
	}
	if _, err := q.Retry(ctx, "bob", job.ID); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("retry by another user: got %v, want %v", err, jobs.ErrNotFound)
	}
	again, err := q.Retry(ctx, "ana", job.ID)
	if err != nil || again.Run != 2 {
		t.Errorf("retry: got run %d, %v; want 2", again.Run, err)
	}
}
