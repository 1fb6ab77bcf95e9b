package joblog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// fourUsers live in the four streams of a log of four: the shards are 05, 20, 32 and 52.
var fourUsers = []string{"ana", "bob", "a@b.c", "user-1"}

var fourNames = []string{"hark_log", "hark_log_16", "hark_log_32", "hark_log_48"}

// newSpread opens a log of four streams, with the kind report.
func newSpread(t testing.TB) *joblog.Store {
	t.Helper()
	q, err := joblog.Open(natstest.Context(t), natstest.Connect(t), joblog.Options{Settings: joblog.Settings{Streams: 4}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	if err := q.PublishKind(natstest.Context(t), jobs.Kind{Name: "report", Title: "Report", MaxAttempts: 3, Params: []jobs.Param{{Name: "n", Type: jobs.TypeInteger}}}); err != nil {
		t.Fatal(err)
	}
	for i, user := range fourUsers {
		if q.StreamOf(user) != i {
			t.Fatalf("%s is in stream %d, want %d", user, q.StreamOf(user), i)
		}
	}
	return q
}

// messagesIn returns the number of messages in each of the four streams.
func messagesIn(t testing.TB, q *joblog.Store) (counts []uint64) {
	t.Helper()
	for _, name := range fourNames {
		stream, err := q.JetStream().Stream(natstest.Context(t), name)
		if err != nil {
			t.Fatal(err)
		}
		counts = append(counts, stream.CachedInfo().State.Msgs)
	}
	return counts
}

// Each user's jobs are in one stream: they are enqueued once for a key, cancelled, retried, found, listed and counted as in a
// log of one.
func TestJobsInSeveralStreams(t *testing.T) {
	q, ctx := newSpread(t), natstest.Context(t)
	backlogs := joblog.NewBacklogs(q)
	for _, user := range fourUsers {
		if n, err := backlogs.Count(ctx, user, "report", 10); n != 0 || err != nil {
			t.Fatal(n, err)
		}
	}
	for i, user := range fourUsers {
		before := messagesIn(t, q)
		r := jobs.Request{User: user, Kind: "report", Params: json.RawMessage(`{"n":7}`), IdempotencyKey: "k"}
		job, created, err := q.Enqueue(ctx, r)
		if err != nil || !created {
			t.Fatal(user, created, err)
		}
		if again, created, err := q.Enqueue(ctx, r); err != nil || created || again.ID != job.ID {
			t.Errorf("%s: the same request again: %v %v %v", user, again.ID, created, err)
		}
		before[i]++
		if after := messagesIn(t, q); !slices.Equal(after, before) {
			t.Errorf("%s: %v messages, want %v", user, after, before)
		}
		if n, err := backlogs.Count(ctx, user, "report", 1); n != 1 || err != nil {
			t.Errorf("%s: %d wait, %v", user, n, err)
		}
		if got, err := q.Get(ctx, user, job.ID); err != nil || got.Revision != job.Revision {
			t.Errorf("%s: got %+v, %v", user, got, err)
		}
		if owner, err := q.Owner(ctx, job.ID); err != nil || owner != user {
			t.Errorf("the owner of %s's job: %q, %v", user, owner, err)
		}
		if job, err = q.Cancel(ctx, user, job.ID); err != nil || job.State != jobs.Cancelled {
			t.Fatal(job.State, err)
		}
		if n := notified(t, q, user); n != 1 {
			t.Errorf("%s has %d notifications", user, n)
		}
		if job, err = q.Retry(ctx, user, job.ID, nil); err != nil || job.State != jobs.Queued || job.Run != 2 {
			t.Errorf("%s: retried %+v, %v", user, job, err)
		}
		if page, err := q.List(ctx, user, jobs.ListOptions{}); err != nil || len(page.Jobs) != 1 || page.Jobs[0].ID != job.ID || page.Next != "" {
			t.Errorf("%s: listed %+v, %v", user, page, err)
		}
	}
	if _, err := q.Owner(ctx, missingID); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("the owner of no job: %v", err)
	}
}

// notified returns how many notifications a user has, without the broadcasts.
func notified(t testing.TB, q *joblog.Store, user string) int {
	t.Helper()
	page, more, err := q.NotificationsPage(natstest.Context(t), user, 0, 1000)
	if err != nil || more {
		t.Fatal(more, err)
	}
	return len(page)
}

// A list of all users' jobs has each job once, newest first, on pages of any size, also while jobs are enqueued.
func TestListOfSeveralStreams(t *testing.T) {
	q, ctx := newSpread(t), natstest.Context(t)
	var want []string
	for i := range 83 {
		user := fourUsers[(i*i+i/7)%len(fourUsers)]
		job, _, err := q.Enqueue(ctx, jobs.Request{User: user, Kind: "report"})
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if _, err := q.Cancel(ctx, user, job.ID); err != nil {
				t.Fatal(err)
			}
		}
		want = append([]string{job.ID}, want...)
	}
	for _, limit := range []int{1, 7, 82, 83, 100} {
		got, pages := listAll(t, q, "", jobs.ListOptions{Everyone: true, Limit: limit})
		if !slices.Equal(got, want) || pages != (len(want)+limit-1)/limit {
			t.Errorf("limit %d: %d pages, %d jobs\ngot  %v\nwant %v", limit, pages, len(got), got, want)
		}
	}
	cancelled, _ := listAll(t, q, "", jobs.ListOptions{Everyone: true, Limit: 5, States: []jobs.State{jobs.Cancelled}})
	if len(cancelled) != 28 {
		t.Errorf("%d are cancelled, want 28", len(cancelled))
	}
	page, err := q.List(ctx, "", jobs.ListOptions{Everyone: true, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range fourUsers { // newer jobs do not move the next pages
		if _, _, err := q.Enqueue(ctx, jobs.Request{User: user, Kind: "report"}); err != nil {
			t.Fatal(err)
		}
	}
	rest, _ := listAll(t, q, "", jobs.ListOptions{Everyone: true, Limit: 10, After: page.Next})
	if !slices.Equal(rest, want[10:]) {
		t.Errorf("the next pages have %d jobs, want %d", len(rest), len(want)-10)
	}
	for _, bad := range []string{"0", "1", "1.2.3", "1.2.3.0", "1.2.3.4.5", "x.2.3.4"} {
		if _, err := q.List(ctx, "", jobs.ListOptions{Everyone: true, After: bad}); !errors.Is(err, jobs.ErrCursor) {
			t.Errorf("the cursor %q: %v", bad, err)
		}
	}
	for _, bad := range []string{"0", "-1", "1.2", "x"} {
		if _, err := q.List(ctx, "ana", jobs.ListOptions{After: bad}); !errors.Is(err, jobs.ErrCursor) {
			t.Errorf("the cursor %q: %v", bad, err)
		}
	}
}

// broadcastsOf returns the keys and titles of the broadcasts that a user has, in order.
func broadcastsOf(t testing.TB, q *joblog.Store, user string) (all []string) {
	t.Helper()
	page, more, err := q.BroadcastsPage(natstest.Context(t), user, 0, 1000)
	if err != nil || more {
		t.Fatal(more, err)
	}
	for _, stored := range page {
		n, err := joblog.DecodeNotification(stored.Data)
		if err != nil || n.ID != "" || n.Status != "" {
			t.Fatal(n, err)
		}
		all = append(all, n.Key+" "+n.Title)
	}
	return all
}

// A broadcast is once in each stream, however often it is sent with its key, and in one order with the notifications of each
// user.
func TestBroadcastInSeveralStreams(t *testing.T) {
	q, ctx := newSpread(t), natstest.Context(t)
	send := func(title string) (jobs.Notification, bool, error) {
		return q.Notify(ctx, jobs.Everyone, jobs.Notification{Key: "k", Type: "t", Title: title})
	}
	first, created, err := send("one")
	if err != nil || !created {
		t.Fatal(created, err)
	}
	again, created, err := send("one")
	if err != nil || created || again.ID != first.ID || !again.CreatedAt.Equal(first.CreatedAt) {
		t.Errorf("again: %+v %v %v, want %+v", again, created, err, first)
	}
	if _, _, err := send("another"); !errors.Is(err, jobs.ErrKeyReused) {
		t.Errorf("another broadcast with the key: %v", err)
	}
	all, created2, err := q.NotifyAll(ctx, []jobs.Addressed{
		{User: jobs.Everyone, Notification: jobs.Notification{Key: "k", Type: "t", Title: "one"}},
		{User: jobs.Everyone, Notification: jobs.Notification{Key: "l", Type: "t", Title: "two"}},
		{User: "bob", Notification: jobs.Notification{Key: "k", Type: "t", Title: "own"}},
	})
	if err != nil || created2 != 2 || len(all) != 3 || all[0].ID != first.ID {
		t.Fatal(all, created2, err)
	}
	for _, user := range fourUsers {
		if got := broadcastsOf(t, q, user); !slices.Equal(got, []string{"k one", "l two"}) {
			t.Errorf("%s has %q", user, got)
		}
		own, last, err := q.LastNotifications(ctx, user)
		if user != "bob" && own != 0 || user == "bob" && own+1 != last {
			t.Errorf("the last notifications of %s are %d and %d", user, own, last)
		}
		if _, end, boundsErr := q.Bounds(ctx, q.StreamOf(user)); err != nil || boundsErr != nil || last != end {
			t.Errorf("the last notification of %s is %d, and the stream ends at %d: %v, %v", user, last, end, err, boundsErr)
		}
	}
}

// A broadcast that could not be stored in all streams is an error, and the same one with its key completes it. Another one with
// the key is refused and nobody gets it.
func TestHalfABroadcastIsCompleted(t *testing.T) {
	q, ctx := newSpread(t), natstest.Context(t)
	seal := func(sealed bool) {
		t.Helper()
		stream, err := q.JetStream().Stream(ctx, "hark_log_32")
		if err != nil {
			t.Fatal(err)
		}
		config := stream.CachedInfo().Config
		config.Discard, config.MaxMsgs = jetstream.DiscardOld, -1
		if sealed {
			config.Discard, config.MaxMsgs = jetstream.DiscardNew, 1
		}
		if _, err := q.JetStream().UpdateStream(ctx, config); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := q.Notify(ctx, "a@b.c", jobs.Notification{Type: "t", Title: "fills the stream"}); err != nil {
		t.Fatal(err)
	}
	seal(true)
	for _, batch := range []bool{false, true} {
		n := jobs.Notification{Key: fmt.Sprint(batch), Type: "t", Title: "T"}
		send := func(n jobs.Notification) (created int, err error) {
			if batch {
				_, created, err = q.NotifyAll(ctx, []jobs.Addressed{{User: jobs.Everyone, Notification: n}})
				return created, err
			}
			_, one, err := q.Notify(ctx, jobs.Everyone, n)
			if one {
				created = 1
			}
			return created, err
		}
		if _, err := send(n); err == nil {
			t.Fatal("no error")
		}
		other := n
		other.Title = "Other"
		if _, err := send(other); !errors.Is(err, jobs.ErrKeyReused) {
			t.Errorf("another broadcast with the key: %v", err)
		}
		seal(false)
		if created, err := send(n); err != nil || created != 1 {
			t.Errorf("completed: %d, %v", created, err)
		}
		if created, err := send(n); err != nil || created != 0 {
			t.Errorf("again: %d, %v", created, err)
		}
		seal(true)
	}
	for _, user := range fourUsers {
		if got := broadcastsOf(t, q, user); !slices.Equal(got, []string{"false T", "true T"}) {
			t.Errorf("%s has %q", user, got)
		}
	}
}

// The epoch of the log is one for all users: that of the stream that was lost last.
func TestEpochOfSeveralStreams(t *testing.T) {
	nc := natstest.Connect(t)
	var log logtest.Buffer
	a := openLogged(t, nc, joblog.Settings{Streams: 4, MaxAge: 48 * time.Hour, Lease: 7 * time.Second}, &log)
	b := openLogged(t, nc, joblog.Settings{}, &log)
	if b.Streams() != 4 || b.Settings().Streams != 4 {
		t.Fatalf("%d streams", b.Streams())
	}
	ctx := natstest.Context(t)
	for i, name := range fourNames {
		before := a.Epoch()
		if _, _, err := a.Notify(ctx, fourUsers[i], jobs.Notification{Type: "t", Title: "lost"}); err != nil {
			t.Fatal(err)
		}
		if err := a.JetStream().DeleteStream(ctx, name); err != nil {
			t.Fatal(err)
		}
		n, _, err := a.Notify(ctx, fourUsers[i], jobs.Notification{Type: "t", Title: "T"})
		if err != nil {
			t.Fatal(err)
		}
		id, err := jobs.ParseNotificationID(n.ID)
		if err != nil || id.Epoch <= before || id.Epoch != a.Epoch() {
			t.Errorf("%s: the id %s in epoch %d, before %d, %v", name, n.ID, a.Epoch(), before, err)
		}
		for _, q := range []*joblog.Store{a, b} {
			if epoch, err := q.CurrentEpoch(ctx); err != nil || epoch != id.Epoch {
				t.Errorf("%s: epoch %d, want %d, %v", name, epoch, id.Epoch, err)
			}
		}
		if messages := notified(t, b, fourUsers[i]); messages != 1 {
			t.Errorf("%s: %d notifications", name, messages)
		}
		stream, err := a.JetStream().Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if c := stream.CachedInfo().Config; c.MaxAge != 48*time.Hour || c.Metadata["hark.streams"] != "4" || len(c.Subjects) != 16 {
			t.Errorf("%s was created again as %+v", name, c)
		}
	}
	for i, user := range fourUsers {
		if _, lease, err := b.OpenWorkerConsumer(ctx, i, "report"); err != nil || lease != 7*time.Second {
			t.Errorf("stream of %s: lease %v, %v", user, lease, err)
		}
	}
	begun, err := b.BeginEpoch(ctx, a.Epoch())
	if err != nil {
		t.Fatal(err)
	}
	if epoch, err := a.CurrentEpoch(ctx); err != nil || epoch != begun {
		t.Errorf("epoch %d, want %d, %v", epoch, begun, err)
	}
	// The first stream is lost while nobody runs: those that are left say how many there are.
	if err := a.JetStream().DeleteStream(ctx, fourNames[0]); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the log is opened", func() bool { // the server removes a stream in the background
		c, err := joblog.Open(ctx, nc, joblog.Options{})
		if err != nil {
			return false
		}
		defer c.Close()
		if c.Streams() != 4 || c.Epoch() <= begun {
			t.Errorf("%d streams of epoch %d, after %d", c.Streams(), c.Epoch(), begun)
		}
		return true
	})
}

// Watch has the events of a user and the broadcasts, in the order of the user's stream.
func TestWatchInSeveralStreams(t *testing.T) {
	q, ctx := newSpread(t), natstest.Context(t)
	epoch := q.Epoch()
	for _, title := range []string{"1", "2"} {
		for _, user := range append([]string{jobs.Everyone}, fourUsers...) {
			if _, _, err := q.Notify(ctx, user, jobs.Notification{Type: "t", Title: title + user}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, user := range fourUsers {
		var got []string
		after := jobs.Position{Epoch: epoch}
		err := q.Watch(ctx, user, after, func(e joblog.Event) bool {
			got = append(got, e.Notification.Title)
			return len(got) < 4
		})
		if err != nil || !slices.Equal(got, []string{"1_all", "1" + user, "2_all", "2" + user}) {
			t.Errorf("%s: %q, %v", user, got, err)
		}
	}
	if err := q.Watch(ctx, "bob", jobs.Position{Epoch: epoch - 1, Own: 1, All: 1}, nil); !errors.Is(err, joblog.ErrReset) {
		t.Errorf("an id of an earlier epoch: %v", err)
	}
}
