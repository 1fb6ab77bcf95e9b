package joblog_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

func newQueue(t testing.TB) *joblog.Store {
	t.Helper()
	nc := natstest.Connect(t)
	q, err := joblog.Open(natstest.Context(t), nc, joblog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kind := jobs.Kind{Name: "report", Title: "Report", MaxAttempts: 3, Params: []jobs.Param{{Name: "n", Type: jobs.TypeInteger}}}
	if err := q.PublishKind(natstest.Context(t), kind); err != nil {
		t.Fatal(err)
	}
	return q
}

// countNotifications returns how many notifications ana has.
func countNotifications(t testing.TB, q *joblog.Store) (n int) {
	t.Helper()
	for after, more := uint64(0), true; more; {
		var page []joblog.StoredNotification
		var err error
		if page, more, err = q.NotificationsPage(natstest.Context(t), "ana", after, 1000); err != nil {
			t.Fatal(err)
		}
		if n += len(page); len(page) > 0 {
			after = page[len(page)-1].Seq
		}
	}
	return n
}

func TestEnqueueAndGet(t *testing.T) {
	q, ctx := newQueue(t), natstest.Context(t)
	job, created, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "report", Params: json.RawMessage(`{"n":7}`)})
	if err != nil || !created {
		t.Fatal(job, created, err)
	}
	if job.State != jobs.Queued || job.Title != "Report" || job.MaxAttempts != 3 || job.Revision == 0 {
		t.Errorf("enqueued %+v", job)
	}
	got, err := q.Get(ctx, "ana", job.ID)
	if err != nil || got.State != jobs.Queued || got.Revision != job.Revision {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := q.Get(ctx, "bob", job.ID); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("another user's job: %v", err)
	}
	if _, _, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "nothing"}); !errors.Is(err, jobs.ErrKindUnknown) {
		t.Errorf("unknown kind: %v", err)
	}
}

func TestIdempotencyKey(t *testing.T) {
	q, ctx := newQueue(t), natstest.Context(t)
	if err := q.PublishKind(ctx, jobs.Kind{Name: "other", Title: "Report", MaxAttempts: 3, Open: true}); err != nil {
		t.Fatal(err)
	}
	ask := func(user, kind, params string) (jobs.Job, bool, error) {
		return q.Enqueue(ctx, jobs.Request{User: user, Kind: kind, Params: json.RawMessage(params), IdempotencyKey: "k"})
	}
	first, created, err := ask("ana", "report", `{"n":1}`)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	again, created, err := ask("ana", "report", ` { "n" : 1 } `)
	if err != nil || created || again.ID != first.ID {
		t.Errorf("again: %+v %v %v", again, created, err)
	}
	if _, _, err := ask("ana", "report", `{"n":2}`); !errors.Is(err, jobs.ErrKeyReused) {
		t.Errorf("other params: %v", err)
	}
	if _, _, err := ask("ana", "other", `{"n":1}`); !errors.Is(err, jobs.ErrKeyReused) {
		t.Errorf("other kind: %v", err)
	}
	if other, created, err := ask("bob", "report", `{"n":1}`); err != nil || !created || other.ID == first.ID {
		t.Errorf("other user: %+v %v %v", other, created, err)
	}
}

// A client repeats its request, and meanwhile the kind has changed: the request is still the same one.
func TestIdempotencyKeyOfAKindThatChanged(t *testing.T) {
	q, ctx := newQueue(t), natstest.Context(t)
	ask := func(params string) (jobs.Job, bool, error) {
		return q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "pdf", Params: json.RawMessage(params), IdempotencyKey: "k"})
	}
	pages := jobs.Param{Name: "pages", Title: "Pages", Type: jobs.TypeInteger}
	publish := func(k jobs.Kind) {
		t.Helper()
		if err := q.PublishKind(ctx, k); err != nil {
			t.Fatal(err)
		}
		polltest.Nil(t, "the kind changes", func() error { // kinds are remembered for a moment
			now, err := q.Kind(ctx, k.Name)
			if err == nil && now.Title != k.Title {
				err = fmt.Errorf("it is still %+v", now)
			}
			return err
		})
	}
	publish(jobs.Kind{Name: "pdf", Title: "PDF", MaxAttempts: 3, Params: []jobs.Param{pages}})
	first, created, err := ask(`{"pages":2}`)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	size := jobs.Param{Name: "size", Title: "Size", Type: jobs.TypeString, Default: "A4"}
	needed := jobs.Param{Name: "paper", Title: "Paper", Type: jobs.TypeString, Required: true}
	for _, now := range []jobs.Kind{
		{Name: "pdf", Title: "A document", MaxAttempts: 5, Params: []jobs.Param{pages, size}},
		{Name: "pdf", Title: "A document on paper", MaxAttempts: 5, Params: []jobs.Param{pages, needed}},
	} {
		publish(now)
		if again, created, err := ask(`{"pages":2}`); err != nil || created || again.ID != first.ID {
			t.Errorf("%s: %+v %v %v", now.Title, again, created, err)
		}
		if _, _, err := ask(`{"pages":3}`); !errors.Is(err, jobs.ErrKeyReused) {
			t.Errorf("%s: other params: %v", now.Title, err)
		}
	}
}

func TestCancelAndRetry(t *testing.T) {
	q, ctx := newQueue(t), natstest.Context(t)
	job, _, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "report"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Retry(ctx, "ana", job.ID, nil); !errors.Is(err, jobs.ErrNotEnded) {
		t.Errorf("retry of a queued job: %v", err)
	}
	cancelled, err := q.Cancel(ctx, "ana", job.ID)
	if err != nil || cancelled.State != jobs.Cancelled || cancelled.Revision <= job.Revision {
		t.Fatalf("%+v %v", cancelled, err)
	}
	if _, err := q.Cancel(ctx, "ana", job.ID); !errors.Is(err, jobs.ErrEnded) {
		t.Errorf("cancel twice: %v", err)
	}
	again, err := q.Retry(ctx, "ana", job.ID, nil)
	if err != nil || again.State != jobs.Queued || again.Run != 2 || again.Revision <= cancelled.Revision {
		t.Fatalf("%+v %v", again, err)
	}
	if got, err := q.Get(ctx, "ana", job.ID); err != nil || got.State != jobs.Queued || got.Run != 2 {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := q.Cancel(ctx, "ana", job.ID); err != nil {
		t.Fatal(err)
	}
	if n := countNotifications(t, q); n != 2 {
		t.Errorf("two runs told %d times", n)
	}
}

// A worker that died between the state and the notification is stood in for, however often.
func TestRepairTellsOnce(t *testing.T) {
	q, ctx := newQueue(t), natstest.Context(t)
	job, _, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "report"})
	if err != nil {
		t.Fatal(err)
	}
	spec := &joblog.Spec{ID: job.ID, User: "ana", Kind: "report", Run: 1}
	done := job
	done.State, done.FinishedAt = jobs.Succeeded, time.Now()
	if _, err := q.PutState(ctx, &done, 0); err != nil { // the state is written, the notification was never published
		t.Fatal(err)
	}
	for range 3 {
		if err := q.EnsureNotified(ctx, spec, job.Revision); err != nil {
			t.Fatal(err)
		}
	}
	if n := countNotifications(t, q); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestNotifyKey(t *testing.T) {
	q, ctx := newQueue(t), natstest.Context(t)
	note := jobs.Notification{Key: "k", Type: "t", Title: "T"}
	a, created, err := q.Notify(ctx, "ana", note)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	b, created, err := q.Notify(ctx, "ana", note)
	if err != nil || created || a.ID != b.ID || !a.CreatedAt.Equal(b.CreatedAt) {
		t.Errorf("%+v %+v %v %v", a, b, created, err)
	}
	note.Title = "other"
	if _, _, err := q.Notify(ctx, "ana", note); !errors.Is(err, jobs.ErrKeyReused) {
		t.Errorf("other content: %v", err)
	}
	if c, created, err := q.Notify(ctx, "bob", note); err != nil || !created || c.ID == a.ID {
		t.Errorf("other user: %+v %v", c, err)
	}
}

// The pages of a list hold every job once, newest first, also where they lie far apart in the stream.
func TestListPages(t *testing.T) {
	q, ctx := newQueue(t), natstest.Context(t)
	var want []string
	for i := range 25 {
		job, _, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "report"})
		if err != nil {
			t.Fatal(err)
		}
		want = append([]string{job.ID}, want...)
		if i%2 == 0 {
			if _, err := q.Cancel(ctx, "ana", job.ID); err != nil {
				t.Fatal(err)
			}
		}
		fill(t, q, 700)
	}
	var got []string
	for after, pages := "", 0; ; pages++ {
		page, err := q.List(ctx, "ana", jobs.ListOptions{Limit: 10, After: after})
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Jobs {
			got = append(got, j.ID)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	page, err := q.List(ctx, "ana", jobs.ListOptions{Limit: 100, States: []jobs.State{jobs.Cancelled}})
	if err != nil || len(page.Jobs) != 13 || page.Next != "" {
		t.Errorf("%d cancelled, next %q, %v", len(page.Jobs), page.Next, err)
	}
}

// fill puts n messages of somebody else into the stream.
func fill(t testing.TB, q *joblog.Store, n int) {
	t.Helper()
	js := q.JetStream()
	for i := range n {
		if _, err := js.PublishAsync(defaultNS.NotificationSubject("other"), fmt.Appendf(nil, `{"key":"%d"}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-natstest.Context(t).Done():
		t.Fatal("publishing took too long")
	}
}

// What a race of two cancels leaves is one state and one notification.
func TestCancelRace(t *testing.T) {
	q, ctx := newQueue(t), natstest.Context(t)
	for range 20 {
		job, _, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "report"})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		for range 2 {
			go func() { _, err := q.Cancel(context.WithoutCancel(ctx), "ana", job.ID); ended <- err }()
		}
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, jobs.ErrEnded) {
				t.Error(err)
			}
		}
	}
	if n := countNotifications(t, q); n != 20 {
		t.Errorf("told %d times", n)
	}
}

// What is to be told is the caller's, and what nobody waits for is not stored.
func TestNotifyAll(t *testing.T) {
	q := newQueue(t)
	all := make([]jobs.Addressed, 300)
	for i := range all {
		all[i] = jobs.Addressed{User: "ana", Notification: jobs.Notification{Type: "test", Title: fmt.Sprint(i)}}
	}
	for round := range 2 { // they have no keys: each time is another
		stored, created, err := q.NotifyAll(natstest.Context(t), all)
		if err != nil || created != len(all) || len(stored) != len(all) || stored[7].Key == "" || all[7].Notification.Key != "" {
			t.Fatalf("round %d: %d created, %v; %+v", round, created, err, all[7])
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := q.NotifyAll(ctx, all); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if n := countNotifications(t, q); n != 2*len(all) {
		t.Errorf("%d are stored, want %d", n, 2*len(all))
	}
}
