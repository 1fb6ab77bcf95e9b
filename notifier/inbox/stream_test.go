package inbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

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

// current is where connections go: tests put a new server in the place of one that is down.
type current struct {
	mu sync.Mutex
	*natsd
}

func (c *current) set(n *natsd) { c.mu.Lock(); defer c.mu.Unlock(); c.natsd = n }

// stream is the stream HARK as a test sees it.
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

// neighbour makes another stream, as every hark has some. Without one, the server
// removes the emptied folder of all streams in the background after a stream's deletion,
// and the creation of the next one may fail for it.
func (s *stream) neighbour() {
	s.t.Helper()
	if _, err := s.js.CreateStream(s.t.Context(), jetstream.StreamConfig{Name: "NEIGHBOUR"}); err != nil {
		s.t.Fatal(err)
	}
}

// connect makes a connection as another process has it.
func (s *stream) connect() jetstream.JetStream {
	s.t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s.at.Server), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
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
	_, err := s.js.CreateStream(s.t.Context(), jetstream.StreamConfig{Name: jobs.StreamName, Subjects: []string{"hark.>"}, AllowDirect: true})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stream) epoch(ctx context.Context) (jobs.Epoch, error) {
	stream, err := s.js.Stream(ctx, jobs.StreamName)
	if err != nil {
		return 0, err
	}
	return jobs.Epoch(stream.CachedInfo().Created.UnixMilli()), nil
}

func (s *stream) publish(subject string, body []byte) (seq uint64) {
	s.t.Helper()
	id := jetstream.WithMsgID(nuid.Next())
	eventually(s.t, "the stream to take a message", func() bool {
		ack, err := s.js.Publish(s.t.Context(), subject, body, id)
		if err == nil {
			seq = ack.Sequence
		}
		return err == nil
	})
	return seq
}

// notify stores a notification whose title is its number.
func (s *stream) notify(user string, number int) (seq uint64) {
	s.t.Helper()
	n := entry(user, 1).Notification
	n.Key, n.Title = fmt.Sprint("key-", number), fmt.Sprint(number)
	body, err := json.Marshal(&n)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.publish(jobs.NoteSubject(user), body)
}

// fill runs a filler until stop is called or the test ends. stop may be called more than once.
func (s *stream) fill(store *inbox.Store, more ...func(*inbox.FillerOptions)) (stop func()) {
	s.t.Helper()
	o := inbox.FillerOptions{Store: store, JetStream: s.connect(), Epoch: s.epoch, Logger: slog.New(slog.DiscardHandler)}
	for _, set := range more {
		set(&o)
	}
	f, err := inbox.NewFiller(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.run(f)
}

func (s *stream) run(f *inbox.Filler) (stop func()) {
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
	stream, err := s.js.Stream(s.t.Context(), jobs.StreamName)
	if err != nil {
		s.t.Fatal(err)
	}
	for name := range stream.ConsumerNames(s.t.Context()).Name() {
		names = append(names, name)
	}
	return names
}
