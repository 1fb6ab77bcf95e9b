package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/backup"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

const defaultNS = joblog.DefaultNamespace

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

var streams = []string{defaultNS.LogStream(), joblog.BucketStream(defaultNS.KindsBucket()), defaultNS.FilesStream()}

func logTo(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func open(t *testing.T, nc *nats.Conn, replicas int) *joblog.Store {
	t.Helper()
	q, err := joblog.Open(natstest.Context(t), nc, joblog.Options{Settings: joblog.Settings{Replicas: replicas}, Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// fill stores jobs in several states, one of them retried, notifications, kinds, files, and a worker's consumer that has acked the first two
// jobs and the last one.
func fill(t *testing.T, q *joblog.Store) {
	t.Helper()
	ctx := natstest.Context(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(q.PublishKind(ctx, jobs.Kind{Name: "a", MaxAttempts: 2, Open: true}))
	must(q.PublishKind(ctx, jobs.Kind{Name: "a", MaxAttempts: 3, Open: true}))
	must(q.PublishKind(ctx, jobs.Kind{Name: "b", Open: true}))
	_, _, err := q.OpenWorkerConsumer(ctx, 0, "a")
	must(err)
	var all []jobs.Job
	for i := range 6 {
		job, _, err := q.Enqueue(ctx, jobs.Request{Kind: "a", User: fmt.Sprintf("user %d", i%2), Title: fmt.Sprint("job ", i)})
		must(err)
		all = append(all, job)
	}
	for i := range 3 {
		job := all[i]
		size, err := q.StoreFile(ctx, &job, bytes.NewReader(content(i)))
		must(err)
		job.File = &jobs.File{Name: "x", Size: size}
		job, err = q.Finish(ctx, job, jobs.Succeeded, 0)
		must(err)
		if i == 2 { // the backup has no deleted files
			must(q.DeleteFile(ctx, &job))
		}
	}
	_, err = q.Cancel(ctx, all[3].User, all[3].ID)
	must(err)
	_, err = q.Retry(ctx, all[3].User, all[3].ID, nil)
	must(err)
	_, _, err = q.Notify(ctx, "ana@x", jobs.Notification{Type: "t", Title: "hello", Key: "a: key"})
	must(err)
	_, _, err = q.Notify(ctx, jobs.Everyone, jobs.Notification{Type: "t", Title: "all"})
	must(err)

	consumer, err := q.JetStream().Consumer(ctx, defaultNS.LogStream(), defaultNS.WorkerConsumer("a"))
	must(err)
	msgs, err := consumer.Fetch(6, jetstream.FetchMaxWait(time.Minute))
	must(err)
	i := 0
	for m := range msgs.Messages() {
		if i < 2 || i == 5 {
			must(m.DoubleAck(ctx))
		}
		i++
	}
	must(msgs.Error())
}

// content is the content of job i's file: more than one chunk.
func content(i int) []byte { return bytes.Repeat([]byte{byte(i), 1, 2, 3, 5, 7}, 60_000) }

// stored returns the messages of a stream, without the parts that a restore changes.
func stored(t *testing.T, nc *nats.Conn, stream string) map[uint64]string {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(natstest.Context(t), stream)
	if err != nil {
		t.Fatal(err)
	}
	all := map[uint64]string{}
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(natstest.Context(t), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		all[seq] = fmt.Sprintf("%s %d %q %x", m.Subject, m.Time.UnixNano(), m.Header, m.Data)
	}
	return all
}

func same(t *testing.T, stream string, want, got map[uint64]string) {
	t.Helper()
	if len(want) == 0 {
		t.Errorf("%s: nothing is stored", stream)
	}
	for seq, m := range want {
		if got[seq] != m {
			t.Errorf("%s %d is\n%.300s, not\n%.300s", stream, seq, got[seq], m)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s has %d messages, not %d", stream, len(got), len(want))
	}
}

// A restore brings everything back: from one server or a cluster, to one server or a cluster.
func TestRestore(t *testing.T) {
	single := func(t *testing.T) *nats.Conn { return natstest.Connect(t) }
	cluster := func(t *testing.T) *nats.Conn { return natstest.Cluster(t, 3).Connect(t) }
	for _, test := range []struct {
		name               string
		from, to           func(*testing.T) *nats.Conn
		replicas, override int
		want               int
	}{
		{"one to one", single, single, 1, 0, 1},
		{"one to cluster", single, cluster, 1, 3, 3},
		{"one to cluster as it was", single, cluster, 1, 0, 1},
		{"cluster to one", cluster, single, 3, 1, 1},
		{"cluster to cluster", cluster, cluster, 3, 0, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, from, to, dir := t.Context(), test.from(t), test.to(t), filepath.Join(t.TempDir(), "new", "backup")
			q := open(t, from, test.replicas)
			fill(t, q)
			saved, err := backup.Backup(ctx, from, joblog.Location{}, dir, logTo(t))
			if err != nil {
				t.Fatal(err)
			}
			checked, err := backup.Check(dir)
			if err != nil || fmt.Sprint(checked) != fmt.Sprint(saved) {
				t.Errorf("checked: %+v, %v; saved %+v", checked, err, saved)
			}
			restored, err := backup.Restore(ctx, to, dir, backup.Options{Replicas: test.override, Logger: logTo(t)})
			if err != nil || fmt.Sprint(restored) != fmt.Sprint(saved) {
				t.Fatalf("restored: %+v, %v; saved %+v", restored, err, saved)
			}
			for _, name := range streams {
				same(t, name, stored(t, from, name), stored(t, to, name))
			}
			back := open(t, to, test.want) // changes nothing
			if back.Epoch() <= q.Epoch() {
				t.Errorf("epoch %d, after %d", back.Epoch(), q.Epoch())
			}
			js := back.JetStream()
			was, err := q.JetStream().Stream(ctx, defaultNS.LogStream())
			if err != nil {
				t.Fatal(err)
			}
			is, err := js.Stream(ctx, defaultNS.LogStream())
			if err != nil {
				t.Fatal(err)
			}
			a, b := was.CachedInfo().Config, is.CachedInfo().Config
			if b.Replicas != test.want {
				t.Errorf("%d replicas, not %d", b.Replicas, test.want)
			}
			a.Replicas, b.Replicas = 0, 0
			if !reflect.DeepEqual(a, b) {
				t.Errorf("settings %+v, not %+v", b, a)
			}
			// The first two jobs stay acked. The last one is after jobs that are not acked, so it is redelivered.
			consumer, err := js.Consumer(ctx, defaultNS.LogStream(), defaultNS.WorkerConsumer("a"))
			if err != nil {
				t.Fatal(err)
			}
			var titles []string
			polltest.Until(t, "four jobs are delivered", func() bool { // a new consumer of a cluster may have no leader yet
				msgs, err := consumer.Fetch(5, jetstream.FetchMaxWait(2*time.Second))
				if err != nil {
					t.Fatal(err)
				}
				for m := range msgs.Messages() {
					_, title, _ := strings.Cut(string(m.Data()), `"title":"`)
					titles = append(titles, title[:len("job 0")])
				}
				return len(titles) >= 4
			})
			if got := strings.Join(titles, ", "); got != "job 2, job 4, job 5, job 3" { // 3 was retried
				t.Error(got)
			}
		})
	}
}

// A stream restored once is backed up and restored again, with gaps at both ends.
func TestTwice(t *testing.T) {
	t.Parallel()
	ctx, first, second, third, dir := t.Context(), natstest.Connect(t), natstest.Connect(t), natstest.Connect(t), t.TempDir()
	fill(t, open(t, first, 1))
	js, _ := jetstream.New(first)
	stream, err := js.Stream(ctx, defaultNS.LogStream())
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{1, 2, stream.CachedInfo().State.LastSeq} {
		if err := stream.DeleteMsg(ctx, seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			t.Fatal(err)
		}
	}
	for i, hop := range [][2]*nats.Conn{{first, second}, {second, third}} {
		dir := filepath.Join(dir, fmt.Sprint(i))
		if _, err := backup.Backup(ctx, hop[0], joblog.Location{}, dir, logTo(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := backup.Restore(ctx, hop[1], dir, backup.Options{Logger: logTo(t)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range streams {
		same(t, name, stored(t, first, name), stored(t, third, name))
	}
}

// States are replaced constantly while they are read. The backup has every state that existed at its start exactly once, in its old or its
// new version.
func TestRewritten(t *testing.T) {
	t.Parallel()
	ctx, nc, dir := t.Context(), natstest.Connect(t), ""
	q := open(t, nc, 1)
	if err := q.PublishKind(ctx, jobs.Kind{Name: "a", Open: true}); err != nil {
		t.Fatal(err)
	}
	var notices []jobs.Addressed
	for i := range 6000 {
		notices = append(notices, jobs.Addressed{User: "ana", Notification: jobs.Notification{Type: "t", Title: fmt.Sprint(i), Body: strings.Repeat("x", 2000)}})
	}
	if _, _, err := q.NotifyAll(ctx, notices); err != nil {
		t.Fatal(err)
	}
	const writers, each = 4, 50 // more states than are read at once
	all, known := make([]jobs.Job, writers*each), make([]atomic.Int64, writers*each)
	for i := range all {
		var err error
		if all[i], _, err = q.Enqueue(ctx, jobs.Request{Kind: "a", User: "bob"}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	writing, stop := context.WithCancel(ctx)
	defer stop()
	for w := range writers {
		wg.Go(func() {
			seqs := make([]uint64, each)
			for n := int64(1); writing.Err() == nil; n++ {
				for i := range each {
					job := all[w*each+i]
					job.State, job.Progress.Done = jobs.Running, n
					seq, err := q.PutState(context.WithoutCancel(ctx), &job, seqs[i])
					if err != nil {
						t.Error(err)
						return
					}
					seqs[i] = seq
					known[w*each+i].Store(n)
				}
			}
		})
	}
	polltest.Until(t, "each writer has written", func() bool { return known[len(known)-1].Load() > 2 })
	before := make([]int64, len(all))
	for n := 0; ; n++ { // repeat until enough was written meanwhile
		for i := range all {
			before[i] = known[i].Load()
		}
		dir = filepath.Join(t.TempDir(), "backup")
		if _, err := backup.Backup(ctx, nc, joblog.Location{}, dir, logTo(t)); err != nil {
			t.Fatal(err)
		}
		during := known[0].Load() - before[0]
		t.Logf("each state was written %d times meanwhile", during)
		if during >= 2 {
			break
		}
		if n == 20 {
			t.Fatal("nothing is written meanwhile")
		}
	}
	stop()
	wg.Wait()
	to := natstest.Connect(t)
	if _, err := backup.Restore(ctx, to, dir, backup.Options{Logger: logTo(t)}); err != nil {
		t.Fatal(err)
	}
	back := open(t, to, 1)
	for i := range all {
		job, err := back.Get(ctx, "bob", all[i].ID)
		if err != nil || job.Progress.Done < before[i] {
			t.Errorf("job %d: at %d, and before the backup at %d; %v", i, job.Progress.Done, before[i], err)
		}
	}
	subjects := map[string]bool{}
	for _, m := range stored(t, to, defaultNS.LogStream()) {
		subject, _, _ := strings.Cut(m, " ")
		if subjects[subject] && !strings.HasSuffix(subject, ".notification") {
			t.Errorf("%s is there twice", subject)
		}
		subjects[subject] = true
	}
}

// A damaged backup is refused, and nothing is restored.
func TestDamaged(t *testing.T) {
	t.Parallel()
	ctx, from, dir := t.Context(), natstest.Connect(t), filepath.Join(t.TempDir(), "backup")
	fill(t, open(t, from, 1))
	if _, err := backup.Backup(ctx, from, joblog.Location{}, dir, logTo(t)); err != nil {
		t.Fatal(err)
	}
	to := natstest.Connect(t)
	refused := func(what, code string, damage func(dir string)) {
		t.Helper()
		copied := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		damage(copied)
		_, err := backup.Check(copied)
		wantCode(t, what+", check", err, code)
		_, err = backup.Restore(ctx, to, copied, backup.Options{Logger: logTo(t), Replace: true})
		wantCode(t, what+", restore", err, code)
	}
	change := func(path string, f func([]byte) []byte) {
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, f(b), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	short := func(b []byte) []byte { return b[:len(b)-1] }
	for _, stream := range streams {
		refused(stream+" flipped", "backup_damaged", func(dir string) { change(filepath.Join(dir, stream+".s2"), flip) })
		refused(stream+" short", "backup_damaged", func(dir string) { change(filepath.Join(dir, stream+".s2"), short) })
		refused(stream+" missing", "backup_damaged", func(dir string) { os.Remove(filepath.Join(dir, stream+".s2")) })
	}
	manifest := func(f func([]byte) []byte) func(string) {
		return func(dir string) { change(filepath.Join(dir, "manifest.json"), f) }
	}
	refused("manifest short", "backup_damaged", manifest(func(b []byte) []byte { return b[:len(b)/2] }))
	refused("manifest edited", "backup_damaged", manifest(func(b []byte) []byte {
		return bytes.Replace(b, []byte(`"began_at": `), []byte(`"began_at": 1`), 1)
	}))
	refused("manifest missing", "no_backup", func(dir string) { os.Remove(filepath.Join(dir, "manifest.json")) })
	js, _ := jetstream.New(to)
	for name := range js.StreamNames(ctx).Name() {
		t.Errorf("stream %s was made", name)
	}
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	var refusal *backup.Error
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Errorf("%s: %v, not %s", what, err, code)
	}
}

// A backup needs an empty folder, and a restore needs a server without hark's streams, or the option Replace.
func TestRefusals(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), natstest.Connect(t)
	_, err := backup.Backup(ctx, nc, joblog.Location{}, t.TempDir(), logTo(t))
	wantCode(t, "no hark", err, "no_hark")
	q := open(t, nc, 1)
	fill(t, q)
	dir := filepath.Join(t.TempDir(), "backup")
	if _, err := backup.Backup(ctx, nc, joblog.Location{}, dir, logTo(t)); err != nil {
		t.Fatal(err)
	}
	_, err = backup.Backup(ctx, nc, joblog.Location{}, dir, logTo(t))
	wantCode(t, "used folder", err, "folder_not_empty")
	was := stored(t, nc, defaultNS.LogStream())
	_, _, err = q.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: "since"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = backup.Restore(ctx, nc, dir, backup.Options{Logger: logTo(t)})
	wantCode(t, "used server", err, "streams_exist")
	if now := stored(t, nc, defaultNS.LogStream()); len(now) != len(was)+1 {
		t.Errorf("%d messages, after %d and one", len(now), len(was))
	}
	if _, err := backup.Restore(ctx, nc, dir, backup.Options{Logger: logTo(t), Replace: true}); err != nil {
		t.Fatal(err)
	}
	same(t, defaultNS.LogStream(), was, stored(t, nc, defaultNS.LogStream()))
	if epoch := open(t, nc, 1).Epoch(); epoch <= q.Epoch() {
		t.Errorf("epoch %d, after %d", epoch, q.Epoch())
	}
}

// A backup whose epoch is in the future by the server's clock is not restored, since ids of the old log would be valid in the new one.
func TestRestoreBeginsALaterEpoch(t *testing.T) {
	nc, dir := natstest.Connect(t), t.TempDir()
	q := open(t, nc, 1)
	fill(t, q)
	if _, err := q.BeginEpoch(natstest.Context(t), jobs.Epoch(time.Now().Add(time.Hour).UnixMilli())); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Backup(natstest.Context(t), nc, joblog.Location{}, dir, logTo(t)); err != nil {
		t.Fatal(err)
	}
	_, err := backup.Restore(t.Context(), natstest.Connect(t), dir, backup.Options{Logger: logTo(t)})
	wantCode(t, "an epoch to come", err, "clock_behind")
}

// An interrupted backup is not a backup, and another one can be made in the same folder.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	nc, dir := natstest.Connect(t), filepath.Join(t.TempDir(), "backup")
	fill(t, open(t, nc, 1))
	for after := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		// The backup is interrupted at a log line about a saved stream.
		n := 0
		log := slog.New(slog.NewTextHandler(writer(func(p []byte) {
			if strings.Contains(string(p), "stream saved") {
				n++
				if n > after {
					cancel()
				}
			}
		}), nil))
		_, err := backup.Backup(ctx, nc, joblog.Location{}, dir, log)
		cancel()
		if after < 2 && !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d streams: %v", after, err)
		}
		if after == 2 { // everything was saved by then
			if _, err := backup.Check(dir); err != nil {
				t.Error(err)
			}
			return
		}
		_, err = backup.Check(dir)
		wantCode(t, "interrupted", err, "no_backup")
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// Messages that are older than the stream's maximum age are not restored, and the summary counts them.
func TestExpired(t *testing.T) {
	t.Parallel()
	ctx, nc, to, dir := t.Context(), natstest.Connect(t), natstest.Connect(t), filepath.Join(t.TempDir(), "backup")
	fill(t, open(t, nc, 1))
	saved, err := backup.Backup(ctx, nc, joblog.Location{}, dir, logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	const age = time.Second
	polltest.Until(t, "the messages are older than their maximum age", func() bool { return time.Since(saved.Ended) > age })
	all := saved.Streams[0].Messages
	for _, test := range []struct {
		age     time.Duration
		expired uint64
	}{{age, all}, {time.Hour, 0}} {
		restored, err := backup.Restore(ctx, to, dir, backup.Options{MaxAge: test.age, Replace: true, Logger: logTo(t)})
		if err != nil {
			t.Fatal(err)
		}
		if n := restored.Streams[0].Expired; n != test.expired || all == 0 {
			t.Errorf("with %v, %d of %d expired", test.age, n, all)
		}
		if n := uint64(len(stored(t, to, defaultNS.LogStream()))); n != all-test.expired {
			t.Errorf("with %v, %d of %d are there", test.age, n, all)
		}
	}
	same(t, defaultNS.LogStream(), stored(t, nc, defaultNS.LogStream()), stored(t, to, defaultNS.LogStream()))
}

// The data folder of hark serve is for one process at a time.
func TestLocal(t *testing.T) {
	t.Parallel()
	data, dir := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	nc, stop, err := backup.Local(data, logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = backup.Local(data, logTo(t))
	wantCode(t, "twice", err, "data_in_use")
	fill(t, open(t, nc, 1))
	was := stored(t, nc, defaultNS.LogStream())
	stop()
	nc, stop, err = backup.Local(data, logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if _, err := backup.Backup(natstest.Context(t), nc, joblog.Location{}, dir, logTo(t)); err != nil {
		t.Fatal(err)
	}
	same(t, defaultNS.LogStream(), was, stored(t, nc, defaultNS.LogStream()))
}

// When any server of the cluster stops while the files are read, reading continues on another one.
func TestServerStops(t *testing.T) {
	t.Parallel()
	ctx, servers := t.Context(), natstest.Cluster(t, 3)
	nc := servers.Connect(t)
	q := open(t, nc, 3)
	fill(t, q)
	job, _, err := q.Enqueue(ctx, jobs.Request{Kind: "a", User: "ana"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.StoreFile(ctx, &job, io.LimitReader(rand.NewChaCha8([32]byte{}), 64<<20)); err != nil {
		t.Fatal(err)
	}
	var first backup.Summary
	for i := -1; i < 3; i++ { // the first one is undisturbed
		stopped := make(chan struct{})
		log := slog.New(slog.NewTextHandler(writer(func(p []byte) {
			if strings.Contains(string(p), "stream saved") && strings.Contains(string(p), "KV_") { // the files are next
				go func() {
					defer close(stopped)
					if i >= 0 {
						servers.Stop(i)
					}
				}()
			}
		}), nil))
		saved, err := backup.Backup(ctx, nc, joblog.Location{}, filepath.Join(t.TempDir(), "backup"), log)
		if err != nil { // maybe before a server was stopped
			t.Fatalf("without server %d: %v", i, err)
		}
		<-stopped
		if i < 0 {
			first = saved
			continue
		}
		for j, s := range saved.Streams {
			if s.Messages != first.Streams[j].Messages || s.LastSeq != first.Streams[j].LastSeq {
				t.Errorf("without server %d: %+v, not %+v", i, s, first.Streams[j])
			}
		}
		servers.Restart(i)
		whole(t, nc)
	}
}

// While a server is down, the consumers that a process had there cannot be described. Such are those of a notifier that
// compares, and of a backup that was killed.
func TestConsumerIsOffline(t *testing.T) {
	t.Parallel()
	ctx, servers := natstest.Context(t), natstest.Cluster(t, 3)
	nc := servers.Connect(t)
	fill(t, open(t, nc, 3))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range streams {
		for i := range 3 {
			consumerOn(t, js, name, i)
		}
	}
	servers.Lead(2)
	servers.Stop(2) // so that the first requests are lost
	saved, err := backup.Backup(ctx, nc, joblog.Location{}, filepath.Join(t.TempDir(), "backup"), logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := saved.Streams[0]; got.Consumers != 1 || got.Messages == 0 {
		t.Errorf("the log is backed up as %+v", got)
	}
}

// consumerOn creates an ephemeral consumer without replicas on one server.
func consumerOn(t *testing.T, js jetstream.JetStream, stream string, server int) {
	t.Helper()
	ctx := natstest.Context(t)
	polltest.Nil(t, fmt.Sprintf("a consumer of %s is on server %d", stream, server), func() error {
		c, err := js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, Replicas: 1, MemoryStorage: true, InactiveThreshold: time.Hour})
		if err != nil {
			return err
		}
		if got := c.CachedInfo().Cluster.Leader; !strings.HasSuffix(got, strconv.Itoa(server+1)) {
			return fmt.Errorf("it is on %s", got)
		}
		return nil
	})
}

// whole waits until each stream has a leader, and all its replicas have caught up.
func whole(t *testing.T, nc *nats.Conn) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	polltest.Nil(t, "the streams are whole", func() error {
		missing := 0
		for _, name := range []string{defaultNS.LogStream(), joblog.BucketStream(defaultNS.KindsBucket()), defaultNS.FilesStream()} {
			stream, err := js.Stream(t.Context(), name)
			if err != nil || stream.CachedInfo().Cluster == nil || stream.CachedInfo().Cluster.Leader == "" {
				missing++
				continue
			}
			for _, r := range stream.CachedInfo().Cluster.Replicas {
				if r.Offline || !r.Current {
					missing++
				}
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d replicas of the streams are not current", missing)
		}
		return nil
	})
}

// A backup is of one namespace, and is restored under it alone.
func TestNamespace(t *testing.T) {
	t.Parallel()
	ctx, nc, dir := t.Context(), natstest.Connect(t), t.TempDir()
	notify := func(at joblog.Location, title string) {
		t.Helper()
		q, err := joblog.Open(natstest.Context(t), nc, joblog.Options{Location: at, Logger: logTo(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		if _, _, err := q.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: title}); err != nil {
			t.Fatal(err)
		}
	}
	shop := joblog.Location{Namespace: "shop"}
	notify(joblog.Location{}, "of hark")
	_, err := backup.Backup(ctx, nc, shop, filepath.Join(dir, "none"), logTo(t))
	wantCode(t, "a namespace without streams", err, "no_hark")
	notify(shop, "of shop")
	saved, err := backup.Backup(ctx, nc, shop, filepath.Join(dir, "shop"), logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range saved.Streams {
		if !strings.Contains(s.Name, "shop_") {
			t.Errorf("the backup has the stream %s", s.Name)
		}
	}
	to := natstest.Connect(t)
	_, err = backup.Restore(ctx, to, filepath.Join(dir, "shop"), backup.Options{Logger: logTo(t)})
	wantCode(t, "under another namespace", err, "namespace_differs")
	if _, err := backup.Restore(ctx, to, filepath.Join(dir, "shop"), backup.Options{Location: shop, Logger: logTo(t)}); err != nil {
		t.Fatal(err)
	}
	log := joblog.Namespace("shop").LogStream()
	same(t, log, stored(t, nc, log), stored(t, to, log))
}
