package joblog_test

import (
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// Only a clock that went back by more than a lease, or a reset that was not ended, has jobs delivered again.
func TestWentBack(t *testing.T) {
	const lease = 30 * time.Second
	for _, c := range []struct {
		ahead time.Duration
		noted string
		want  bool
	}{
		{-10 * time.Second, "ok", false}, {-24 * time.Hour, "ok", false}, {0, "ok", false}, {lease, "ok", false},
		{lease + 1, "ok", true}, {time.Hour, "ok", true}, {time.Hour, "reset", true},
		{-time.Second, "reset", false}, {-time.Minute, "reset", true}, {lease + 1, "?", true},
	} {
		if got := joblog.WentBack(c.ahead, c.noted, lease); got != c.want {
			t.Errorf("%v, %q: %v", c.ahead, c.noted, got)
		}
	}
}

// While the clock goes on, looking at it changes nothing: no job is delivered again, and no kind is listed for it.
func TestCheckClock(t *testing.T) {
	q := openPoisoned(t)
	ctx := natstest.Context(t)
	if _, _, err := q.OpenWorkerConsumer(ctx, 0, "k"); err != nil {
		t.Fatal(err)
	}
	enqueue(t, q, jobs.Request{User: "ana"})
	consumer, err := q.JetStream().Consumer(ctx, defaultNS.LogStream(), defaultNS.WorkerConsumer("k"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Next(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if back, err := q.CheckClock(ctx, 0, "k"); err != nil || back != 0 {
			t.Errorf("%v, %v", back, err)
		}
	}
	if info, err := consumer.Info(ctx); err != nil || info.NumAckPending != 1 || info.NumPending != 0 {
		t.Errorf("%+v, %v", info, err)
	}
	if kinds, err := q.Kinds(ctx); err != nil || len(kinds) != 1 || q.Skipped()[joblog.SkippedKind] != 0 {
		t.Errorf("kinds %v, %v, skipped %v", kinds, err, q.Skipped())
	}
}
