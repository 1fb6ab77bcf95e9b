package joblog_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// kept is what the server says of all that hark keeps: retention and replicas of each stream, and leases.
func kept(t *testing.T, nc *nats.Conn) (lines []string) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	add := func(words ...string) { lines = append(lines, strings.Join(words, " ")) }
	// Each by its name: right after replicas were added, servers list a stream twice and another one not at all.
	for _, name := range []string{defaultNS.LogStream(), joblog.BucketStream(defaultNS.KindsBucket()), defaultNS.FilesStream()} {
		stream, err := js.Stream(natstest.Context(t), name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		c := stream.CachedInfo().Config
		add(name, c.MaxAge.String(), "R"+string(rune('0'+c.Replicas)))
		consumers := stream.ConsumerNames(natstest.Context(t))
		for consumer := range consumers.Name() {
			found, err := stream.Consumer(natstest.Context(t), consumer)
			if err != nil {
				t.Fatal(err)
			}
			add(name, consumer, found.CachedInfo().Config.AckWait.String())
		}
		if err := consumers.Err(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(lines)
	return lines
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// open opens a queue that is closed when the test ends, and returns what it has logged.
func open(t *testing.T, nc *nats.Conn, s joblog.Settings) (*joblog.Store, string) {
	t.Helper()
	var log logtest.Buffer
	q, err := joblog.Open(natstest.Context(t), nc, joblog.Options{Settings: s, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q, log.String()
}

// Opening is not configuring: who comes first creates what is missing, and all others leave it as it is, whatever they
// were given. A difference is one line in the log.
func TestOpenBinds(t *testing.T) {
	nc := natstest.Cluster(t, 3).Connect(t)
	first, log := open(t, nc, joblog.Settings{MaxAge: 720 * time.Hour, FileAge: 48 * time.Hour, Lease: 7 * time.Second, Replicas: 3})
	if log != "" {
		t.Errorf("it logged %s", log)
	}
	if _, lease, err := first.OpenWorkerConsumer(natstest.Context(t), 0, "sleep"); err != nil || lease != 7*time.Second {
		t.Errorf("lease %v, %v", lease, err)
	}
	want := []string{"KV_hark_kinds 0s R3", "OBJ_hark_files 72h0m0s R3", "hark_log 720h0m0s R3", "hark_log hark-worker-sleep 7s"}
	equal(t, "created", kept(t, nc), want...)

	bound, log := open(t, nc, joblog.Settings{})
	if log != "" {
		t.Errorf("without settings it logged %s", log)
	}
	if got := bound.Settings(); got != first.Settings() || got.MaxAge != 720*time.Hour || got.FileAge != 48*time.Hour || got.Lease != 7*time.Second || got.Replicas != 3 {
		t.Errorf("settings %+v", got)
	}
	if _, lease, err := bound.OpenWorkerConsumer(natstest.Context(t), 0, "sleep"); err != nil || lease != 7*time.Second {
		t.Errorf("lease %v, %v", lease, err)
	}
	equal(t, "bound without settings", kept(t, nc), want...)

	other, log := open(t, nc, joblog.Settings{MaxAge: time.Hour, FileAge: time.Hour, Lease: time.Minute, Replicas: 1})
	if strings.Count(log, "\n") != 1 || !strings.Contains(log, "720h0m0s (asked: 1h0m0s)") || !strings.Contains(log, "3 (asked: 1)") || !strings.Contains(log, "7s (asked: 1m0s)") {
		t.Errorf("it logged %s", log)
	}
	if _, lease, err := other.OpenWorkerConsumer(natstest.Context(t), 0, "sleep"); err != nil || lease != 7*time.Second {
		t.Errorf("lease %v, %v", lease, err)
	}
	if _, lease, err := other.OpenWorkerConsumer(natstest.Context(t), 0, "export"); err != nil || lease != 7*time.Second {
		t.Errorf("lease of a new kind %v, %v", lease, err)
	}
	equal(t, "bound with others", kept(t, nc), "KV_hark_kinds 0s R3", "OBJ_hark_files 72h0m0s R3", "hark_log 720h0m0s R3", "hark_log hark-worker-export 7s", "hark_log hark-worker-sleep 7s")
}

// Setup changes what is asked for, nothing else, and says what. A dry run changes nothing.
func TestSetup(t *testing.T) {
	nc := natstest.Cluster(t, 3).Connect(t)
	setup := func(s joblog.Settings, dryRun bool) (said []string) {
		t.Helper()
		changes, err := joblog.Setup(natstest.Context(t), nc, joblog.Location{}, s, dryRun)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			said = append(said, c.String())
		}
		return said
	}
	created := []string{"hark_log created", "OBJ_hark_files created", "KV_hark_kinds created", "KV_hark_tickets created", "KV_hark_revoked created", "KV_hark_link_key created"}
	equal(t, "a dry run on nothing", setup(joblog.Settings{Lease: time.Minute}, true), created...)
	equal(t, "is kept after it", kept(t, nc))
	equal(t, "setup of nothing", setup(joblog.Settings{MaxAge: 48 * time.Hour}, false), created...)
	q, _ := open(t, nc, joblog.Settings{})
	for _, kind := range []string{"sleep", "export"} {
		if _, _, err := q.OpenWorkerConsumer(natstest.Context(t), 0, kind); err != nil {
			t.Fatal(err)
		}
	}
	before := []string{"KV_hark_kinds 0s R1", "OBJ_hark_files 192h0m0s R1", "hark_log 48h0m0s R1", "hark_log hark-worker-export 30s", "hark_log hark-worker-sleep 30s"}
	equal(t, "is kept", kept(t, nc), before...)

	equal(t, "setup of the same", setup(joblog.Settings{}, false))
	changes := []string{
		"hark_log: replicas 1 -> 3", "hark_log: lease 30s -> 9s", "OBJ_hark_files: file_age 168h0m0s -> 24h0m0s",
		"OBJ_hark_files: user_file_space 5368709120 -> 1073741824", "OBJ_hark_files: replicas 1 -> 3",
		"KV_hark_kinds: replicas 1 -> 3", "KV_hark_tickets: replicas 1 -> 3", "KV_hark_revoked: replicas 1 -> 3", "KV_hark_link_key: replicas 1 -> 3",
		"hark-worker-export: lease 30s -> 9s", "hark-worker-sleep: lease 30s -> 9s",
	}
	other := joblog.Settings{Replicas: 3, Lease: 9 * time.Second, FileAge: 24 * time.Hour, UserFileSpace: 1 << 30}
	dry := setup(other, true)
	slices.Sort(dry[9:])
	equal(t, "a dry run", dry, changes...)
	equal(t, "is kept after it", kept(t, nc), before...)
	wet := setup(other, false)
	slices.Sort(wet[9:])
	equal(t, "setup", wet, changes...)
	equal(t, "is kept after it", kept(t, nc), "KV_hark_kinds 0s R3", "OBJ_hark_files 48h0m0s R3", "hark_log 48h0m0s R3", "hark_log hark-worker-export 9s", "hark_log hark-worker-sleep 9s")
	// The stream is still moving to its new servers, and takes no new consumer meanwhile.
	polltest.Nil(t, "a consumer for a new kind", func() error {
		_, lease, err := q.OpenWorkerConsumer(t.Context(), 0, "new") // for 5 s at most: some requests get no response meanwhile
		if err == nil && lease != 9*time.Second {
			t.Errorf("the lease of a kind that is new to an open queue is %v", lease)
		}
		return err
	})
}

// A store that is full says so, keeps nothing of the file, and takes others again when it has more room.
func TestFileSpace(t *testing.T) {
	q, _ := open(t, natstest.Connect(t), joblog.Settings{FileSpace: 1 << 20})
	if q.Settings().FileSpace != 1<<20 {
		t.Errorf("settings %+v", q.Settings())
	}
	job := jobs.Job{ID: "01JD3QF4X5S7H8J9K0M1N2P3R4", User: "ana", Run: 1, Attempt: 1}
	store := func() error {
		_, err := q.StoreFile(natstest.Context(t), &job, bytes.NewReader(make([]byte, 3<<20)))
		return err
	}
	if err := store(); !errors.Is(err, jobs.ErrStoreFull) {
		t.Errorf("too much: %v", err)
	}
	js, err := jetstream.New(q.Conn())
	if err != nil {
		t.Fatal(err)
	}
	files, err := js.Stream(natstest.Context(t), defaultNS.FilesStream())
	if err != nil || files.CachedInfo().State.Msgs != 0 {
		t.Errorf("%d messages are left, %v", files.CachedInfo().State.Msgs, err)
	}
	if _, err := joblog.Setup(natstest.Context(t), q.Conn(), joblog.Location{}, joblog.Settings{FileSpace: 10 << 20}, false); err != nil {
		t.Fatal(err)
	}
	if err := store(); err != nil {
		t.Errorf("with more room: %v", err)
	}
}

// Of many that open at once, each with other settings, one creates and all others bind.
func TestOpenAtOnce(t *testing.T) {
	nc := natstest.Connect(t)
	var all sync.WaitGroup
	queues := make([]*joblog.Store, 16)
	for i := range queues {
		all.Go(func() {
			var err error
			queues[i], err = joblog.Open(natstest.Context(t), nc, joblog.Options{
				Settings: joblog.Settings{MaxAge: time.Duration(i+1) * time.Hour, Lease: time.Duration(i+1) * time.Second}, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Error(err)
				return
			}
			if _, _, err := queues[i].OpenWorkerConsumer(natstest.Context(t), 0, "sleep"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	for _, q := range queues {
		if q.Settings() != queues[0].Settings() {
			t.Errorf("settings %+v and %+v", q.Settings(), queues[0].Settings())
		}
	}
}

// A stream of the same name that cannot do what hark needs is refused, with the way out, and mended by it.
func TestOpenForeignStream(t *testing.T) {
	nc := natstest.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(natstest.Context(t), jetstream.StreamConfig{Name: defaultNS.LogStream(), Subjects: []string{defaultNS.LogSubjects()}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	_, err = joblog.Open(natstest.Context(t), nc, joblog.Options{})
	if err == nil || !strings.Contains(err.Error(), "republishing") || !strings.Contains(err.Error(), "rollups") || !strings.Contains(err.Error(), "hark setup") {
		t.Errorf("error %v", err)
	}
	if _, err := joblog.Setup(natstest.Context(t), nc, joblog.Location{}, joblog.Settings{}, false); err != nil {
		t.Fatal(err)
	}
	open(t, nc, joblog.Settings{})
}

// A queue that could not be opened, and one that was closed, leave no subscription behind.
func TestOpenLeavesNothing(t *testing.T) {
	nc := natstest.Connect(t)
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := joblog.Open(dead, nc, joblog.Options{}); err == nil {
		t.Error("it opened without a context")
	}
	before := nc.NumSubscriptions() // of nats.go itself
	for range 3 {
		q, err := joblog.Open(natstest.Context(t), nc, joblog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := nc.NumSubscriptions(); n > before+1 {
		t.Errorf("%d subscriptions, and before it were %d", n, before)
	}
}

func TestSettingsCheck(t *testing.T) {
	nc := natstest.Connect(t)
	for _, s := range []joblog.Settings{
		{MaxAge: -1}, {FileAge: time.Millisecond}, {Lease: 999 * time.Millisecond}, {Replicas: 6}, {Replicas: 2}, {Replicas: -1}, {MaxAge: time.Millisecond},
		{UserFileSpace: -1}, {UserFileSpace: 128<<10 - 1},
	} {
		if _, err := joblog.Open(natstest.Context(t), nc, joblog.Options{Settings: s}); err == nil {
			t.Errorf("opened with %+v", s)
		}
		if _, err := joblog.Setup(natstest.Context(t), nc, joblog.Location{}, s, true); err == nil {
			t.Errorf("set up with %+v", s)
		}
	}
}

// A process that opens the log while the cluster does not answer, as during an election, has it as soon as it does, and not only when
// the deadline of its context is over.
func TestOpenWhileTheClusterDoesNotAnswer(t *testing.T) {
	t.Parallel()
	servers := natstest.BreakableCluster(t, 3)
	for i := range 3 { // for two of the three the leader is on another server
		servers.Lose(i, "$JS.API.STREAM.")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	opened := make(chan error, 3)
	for i := range 3 {
		nc := servers.ConnectTo(t, i)
		before := nc.Stats().OutMsgs
		go func() {
			q, err := joblog.Open(ctx, nc, joblog.Options{})
			if err == nil {
				err = q.Close()
			}
			opened <- err
		}()
		polltest.Until(t, "it asks for the log", func() bool { return nc.Stats().OutMsgs > before })
		if err := nc.FlushTimeout(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		servers.Heal(i)
	}
	for range 3 {
		if err := <-opened; err != nil {
			t.Error(err)
		}
	}
}
