package joblog_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// logStreams returns the names of the streams of the log that exist, sorted.
func logStreams(t *testing.T, q *joblog.Store) (names []string) {
	t.Helper()
	all := q.JetStream().StreamNames(natstest.Context(t))
	for name := range all.Name() {
		if defaultNS.IsLogStream(name) {
			names = append(names, name)
		}
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func setupStreams(t *testing.T, nc *nats.Conn, n int, dryRun bool) (changes []string, err error) {
	t.Helper()
	all, err := joblog.Setup(natstest.Context(t), nc, joblog.Location{}, joblog.Settings{Streams: n}, dryRun)
	for _, c := range all {
		if strings.HasPrefix(c.What, "hark_log") {
			changes = append(changes, c.String())
		}
	}
	return changes, err
}

// The number of streams is set before the first message, more and fewer, and processes that run notice. Each change begins an
// epoch. A log that has had messages is left as it is.
func TestSetupOfStreams(t *testing.T) {
	nc := natstest.Connect(t)
	var log logtest.Buffer
	q := openLogged(t, nc, joblog.Settings{}, &log)
	for _, step := range []struct {
		n    int
		want []string
	}{
		{4, []string{"hark_log: streams 1 -> 4", "hark_log_16 created", "hark_log_32 created", "hark_log_48 created"}},
		{4, nil},
		{8, []string{"hark_log: streams 4 -> 8", "hark_log_08 created", "hark_log_24 created", "hark_log_40 created", "hark_log_56 created"}},
		{2, []string{"hark_log: streams 8 -> 2"}},
		{1, []string{"hark_log: streams 2 -> 1"}},
		{64, nil}, // checked below
		{1, []string{"hark_log: streams 64 -> 1"}},
	} {
		before, streams := q.Epoch(), logStreams(t, q)
		planned, err := setupStreams(t, nc, step.n, true)
		if err != nil {
			t.Fatal(step.n, err)
		}
		if now := logStreams(t, q); !slices.Equal(now, streams) {
			t.Fatalf("a dry run changed %q to %q", streams, now)
		}
		made, err := setupStreams(t, nc, step.n, false)
		if err != nil {
			t.Fatal(step.n, err)
		}
		if !slices.Equal(made, planned) || step.n < 64 && !slices.Equal(made, step.want) || step.n == 64 && len(made) != 64 {
			t.Errorf("%d streams: made %q, planned %q, want %q", step.n, made, planned, step.want)
		}
		want := defaultNS.LogStreams(step.n)
		if now := logStreams(t, q); !slices.Equal(now, want) {
			t.Errorf("%d streams: %q, want %q", step.n, now, want)
		}
		polltest.Until(t, "the store notices", func() bool {
			_, err := q.CurrentEpoch(natstest.Context(t))
			return err == nil && q.Streams() == step.n
		})
		if len(made) > 0 != (q.Epoch() > before) {
			t.Errorf("%d streams: epoch %d, before %d, with the changes %q", step.n, q.Epoch(), before, made)
		}
		if again, err := setupStreams(t, nc, step.n, false); err != nil || len(again) > 0 {
			t.Errorf("%d streams again: %q, %v", step.n, again, err)
		}
	}
	if _, _, err := q.Notify(natstest.Context(t), "bob", jobs.Notification{Type: "t", Title: "T"}); err != nil {
		t.Fatal(err)
	}
	stream, err := q.JetStream().Stream(natstest.Context(t), "hark_log")
	if err == nil {
		err = stream.Purge(natstest.Context(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, dryRun := range []bool{true, false} {
		_, err := setupStreams(t, nc, 4, dryRun)
		var invalid *joblog.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != "Streams" || !strings.Contains(invalid.Problem, "has had messages") {
			t.Errorf("a log with messages: %v", err)
		}
	}
	if _, err := setupStreams(t, nc, 3, false); err == nil {
		t.Error("three streams were accepted")
	}
	if names := logStreams(t, q); len(names) != 1 || q.Streams() != 1 {
		t.Errorf("%q", names)
	}
}

// Settings are those of all streams, and so is the lease of their consumers.
func TestSettingsOfSeveralStreams(t *testing.T) {
	q, ctx := newSpread(t), natstest.Context(t)
	for i := range fourUsers {
		if _, _, err := q.OpenWorkerConsumer(ctx, i, "report"); err != nil {
			t.Fatal(err)
		}
	}
	changes, err := joblog.Setup(ctx, q.Conn(), joblog.Location{}, joblog.Settings{MaxAge: 48 * 3600e9, Lease: 9e9}, false)
	if err != nil || len(changes) != 3*len(fourNames)+3 { // max_age and lease of each, the lease of its consumer, and three buckets
		t.Fatal(changes, err)
	}
	for i, name := range fourNames {
		stream, err := q.JetStream().Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if c := stream.CachedInfo().Config; c.MaxAge != 48*3600e9 || c.Metadata["hark.lease"] != "9s" || c.Metadata["hark.streams"] != "4" {
			t.Errorf("%s: %+v", name, c)
		}
		if _, lease, err := q.OpenWorkerConsumer(ctx, i, "report"); err != nil || lease != 9e9 {
			t.Errorf("%s: lease %v, %v", name, lease, err)
		}
	}
	if again, err := joblog.Setup(ctx, q.Conn(), joblog.Location{}, joblog.Settings{MaxAge: 48 * 3600e9, Lease: 9e9}, false); err != nil || len(again) > 0 {
		t.Error(again, err)
	}
}

// What is for everyone has the first shard of a stream of this log, and no other.
func TestSubjectsOfSeveralStreams(t *testing.T) {
	one, four := newQueue(t), newSpread(t)
	for subject, want := range map[string][2]bool{
		"hark.log.00._all.notification": {true, true}, "hark.log.16._all.notification": {false, true}, "hark.live.48._all.notification": {false, true},
		"hark.log.32._all.inbox": {false, true}, "hark.log.08._all.notification": {false, false}, "hark.log.05.ana.notification": {true, true},
		"hark.log.16.ana.notification": {false, false}, "hark.log.16._all.other": {false, false},
	} {
		for i, q := range []*joblog.Store{one, four} {
			if _, _, ok := q.ParseSubject(subject); ok != want[i] {
				t.Errorf("log %d accepts %s: %t", i, subject, ok)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { four.ParseSubject("hark.log.20.bob.notification") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
