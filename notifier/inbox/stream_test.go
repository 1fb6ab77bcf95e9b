package inbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

const defaultNS = joblog.DefaultNamespace

// natsd is an embedded server with a stream, without a port.
type natsd struct {
	dir string
	*server.Server
}

func startNATS(t testing.TB, dir string) *natsd {
	t.Helper()
	s, err := server.NewServer(&server.Options{ServerName: "test", DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("NATS does not start")
	}
	n := &natsd{dir, s}
	t.Cleanup(n.stop)
	return n
}

func (n *natsd) stop() {
	n.Shutdown()
	n.WaitForShutdown()
}

// current is the server that connections use. Tests replace a server that is down.
type current struct {
	mu sync.Mutex
	*natsd
}

func (c *current) set(n *natsd) { c.mu.Lock(); defer c.mu.Unlock(); c.natsd = n }

// stream is the stream of the log for a test.
type stream struct {
	t  testing.TB
	at *current
	js jetstream.JetStream
}

func newStream(t testing.TB) *stream {
	t.Helper()
	s := &stream{t: t, at: &current{natsd: startNATS(t, t.TempDir())}}
	s.js = s.connect()
	s.neighbour()
	s.create()
	return s
}

// neighbour creates another stream, since every hark has several. Without one the server removes the empty folder of all streams
// in the background after a stream is deleted, and creating the next stream may fail.
func (s *stream) neighbour() {
	s.t.Helper()
	if _, err := s.js.CreateStream(natstest.Context(s.t), jetstream.StreamConfig{Name: "NEIGHBOUR"}); err != nil {
		s.t.Fatal(err)
	}
}

// connect opens a connection like that of another process.
func (s *stream) connect() jetstream.JetStream {
	s.t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s.at.Server), nats.Timeout(time.Minute), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	return js
}

func (s *stream) create() {
	s.t.Helper()
	_, err := s.js.CreateStream(natstest.Context(s.t), jetstream.StreamConfig{Name: defaultNS.LogStream(), Subjects: []string{defaultNS.LogSubjects()}, AllowDirect: true})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stream) epoch(ctx context.Context) (jobs.Epoch, error) {
	stream, err := s.js.Stream(ctx, defaultNS.LogStream())
	if err != nil {
		return 0, err
	}
	info := stream.CachedInfo()
	begun, _ := strconv.ParseInt(info.Config.Metadata["hark.epoch"], 10, 64) // 0 if none was begun
	return jobs.Epoch(max(info.Created.UnixMilli(), begun)), nil
}

// beginEpoch does what [joblog.Store.BeginEpoch] does.
func (s *stream) beginEpoch(ctx context.Context, after jobs.Epoch) (jobs.Epoch, error) {
	now, err := s.epoch(ctx)
	if err != nil {
		return 0, err
	}
	begun := max(jobs.Epoch(time.Now().UnixMilli()), now+1, after+1)
	stream, err := s.js.Stream(ctx, defaultNS.LogStream())
	if err != nil {
		return 0, err
	}
	config := stream.CachedInfo().Config
	config.Metadata = map[string]string{"hark.epoch": strconv.FormatInt(int64(begun), 10)}
	_, err = s.js.UpdateStream(ctx, config)
	return begun, err
}

func (s *stream) publish(subject string, body []byte) (seq uint64) {
	s.t.Helper()
	id := jetstream.WithMsgID(nuid.Next())
	polltest.Until(s.t, "the stream to take a message", func() bool {
		ack, err := s.js.Publish(s.t.Context(), subject, body, id) // NATS may restart meanwhile
		if err == nil {
			seq = ack.Sequence
		}
		return err == nil
	})
	return seq
}

// notify stores a notification with its number as title.
func (s *stream) notify(user string, number int) (seq uint64) {
	s.t.Helper()
	n := entry(user, 1).Notification
	n.Key, n.Title = fmt.Sprint("key-", number), fmt.Sprint(number)
	body, err := json.Marshal(&n)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.publish(defaultNS.NotificationSubject(user), body)
}

// ofToken returns the subject of the notifications of a user with this token, which may be malformed.
func ofToken(token string) string {
	return "hark.log." + joblog.Shard(token) + "." + token + ".notification"
}

// ingest runs an ingester until stop is called or the test ends. stop may be called more than once.
func (s *stream) ingest(store *inbox.Store, more ...func(*inbox.IngesterOptions)) (stop func()) {
	s.t.Helper()
	o := inbox.IngesterOptions{Store: store, JetStream: s.connect(), Epoch: s.epoch, BeginEpoch: s.beginEpoch, Logger: slog.New(slog.DiscardHandler)}
	for _, set := range more {
		set(&o)
	}
	f, err := inbox.NewIngester(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.run(f)
}

func (s *stream) run(f *inbox.Ingester) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("Run: %v", err)
		}
	})
	s.t.Cleanup(stop)
	return stop
}

func (s *stream) consumers() (names []string) {
	s.t.Helper()
	stream, err := s.js.Stream(natstest.Context(s.t), defaultNS.LogStream())
	if err != nil {
		s.t.Fatal(err)
	}
	for name := range stream.ConsumerNames(natstest.Context(s.t)).Name() {
		names = append(names, name)
	}
	return names
}
