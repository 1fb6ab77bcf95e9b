package sse_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const defaultNS = joblog.DefaultNamespace

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = time.Minute

// way is a way to serve streams: it has another conn, another HTTP version or another subscription of the hub.
type way struct {
	name     string
	start    func(http.Handler) *httptest.Server
	ordinary bool // by the handler, though the connection could be taken over
	hearAll  bool // [sse.Options.SubscribeAll]
	buffer   int  // bytes that the sockets of a reader who does not read take on its behalf, at either end
	polls    bool // its readers poll
	logs     int  // streams of the log; 0 means one
}

var ways = append(hearings, []way{
	{name: "four streams of the log", start: httptest.NewServer, logs: 4},
	{name: "http1", start: httptest.NewServer, ordinary: true},
	{name: "http2", start: func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.EnableHTTP2 = true
		s.StartTLS()
		return s
	}, ordinary: true},
	{name: "polled", start: httptest.NewServer, polls: true},
}...)

// hearings are the ways that differ in the subscription of the hub.
var hearings = []way{
	{name: "taken over", start: httptest.NewServer},
	{name: "taken over, hearing all", start: httptest.NewServer, hearAll: true},
}

// streams are the ways in which a reader has a connection.
var streams = ways[:len(ways)-1]

// each runs a test for every way.
func each(t *testing.T, test func(*testing.T, way)) { eachOf(t, ways, test) }

func eachOf(t *testing.T, ways []way, test func(*testing.T, way)) {
	t.Parallel() // ways of one test wait while those of others compute
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) { t.Parallel(); test(t, w) })
	}
}

// system is a hub with a NATS server before it and an HTTP server behind it.
type system struct {
	t        testing.TB
	way      way
	ns       *natsd.Server
	queue    *joblog.Store // what tests write with; not the hub's connection
	hubConn  *nats.Conn
	hubQueue *joblog.Store
	hub      *sse.Hub
	proxy    *proxy // between the hub and NATS
	server   *httptest.Server
	run      chan error  // what Run returned
	stop     func()      // ends Run's context
	wait     func()      // blocks until the hub may run
	served   chan error  // what each Serve returned
	mute     atomic.Bool // the hub does not notice lost messages
}

// newSystem starts a system; prepare, if any, sees it before the hub runs.
func newSystem(t testing.TB, w way, o sse.Options, prepare ...func(*system)) *system {
	t.Helper()
	return newSystemIn(t, w, t.TempDir(), o, prepare...)
}

func newSystemIn(t testing.TB, w way, dir string, o sse.Options, prepare ...func(*system)) *system {
	t.Helper()
	s := &system{t: t, way: w, wait: func() {}, run: make(chan error, 1), served: make(chan error, 1000)}
	var err error
	if s.ns, err = natsd.Start(natsd.Options{Dir: dir, Listen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ns.Stop() })
	s.begin(o, prepare...)
	return s
}

// another starts a second hub on the same NATS server.
func (s *system) another(o sse.Options, prepare ...func(*system)) *system {
	s.t.Helper()
	two := &system{t: s.t, way: s.way, ns: s.ns, wait: func() {}, run: make(chan error, 1), served: make(chan error, 1000)}
	two.begin(o, prepare...)
	return two
}

func (s *system) begin(o sse.Options, prepare ...func(*system)) {
	t, w := s.t, s.way
	t.Helper()
	var err error
	s.proxy = newProxy(t, strings.TrimPrefix(s.ns.URL(), "nats://"))
	s.queue = s.openQueue(s.ns.URL(), nil)
	o.Queue, o.SubscribeAll = s.openQueue("nats://"+s.proxy.addr(), o.Logger), w.hearAll
	s.hubQueue, s.hubConn = o.Queue, o.Queue.Conn()
	if w.polls && o.PollIdle == 0 {
		o.PollIdle = 5 * time.Second // some tests wait until the hub has no stream
	}
	if s.hub, err = sse.New(o); err != nil {
		t.Fatal(err)
	}
	if w.ordinary {
		s.hub.DisableTakeOver()
	}
	for _, p := range prepare {
		p(s)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.wait(); s.run <- s.hub.Run(ctx) }()
	s.server = w.start(http.HandlerFunc(s.serve))
	s.server.Client().Timeout = 0
	t.Cleanup(func() {
		stop()
		s.server.CloseClientConnections()
		s.server.Close()
		if err := <-s.run; err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			t.Error("Run:", err)
		}
		s.server.Client().CloseIdleConnections()
	})
}

func (s *system) openQueue(url string, log *slog.Logger) *joblog.Store {
	s.t.Helper()
	nc, err := nats.Connect(url, nats.Timeout(time.Minute), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrSlowConsumer) && s.hub != nil && !s.mute.Load() {
				s.hub.NotifySlowConsumer(sub)
			}
		}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	queue, err := joblog.Open(natstest.Context(s.t), nc, joblog.Options{Settings: joblog.Settings{Streams: s.way.logs}, Logger: log})
	if err != nil {
		s.t.Fatal(err)
	}
	return queue
}

func (s *system) serve(w http.ResponseWriter, r *http.Request) {
	sub := sse.Subscriber{User: r.Header.Get("User"), LastEventID: r.Header.Get("Last-Event-ID")}
	if topics := r.Header.Get("Topics"); topics != "" {
		sub.Topics = strings.Split(topics, " ")
	}
	if at := r.Header.Get("Expires"); at != "" {
		sub.Expires, _ = time.Parse(time.RFC3339Nano, at)
	}
	serve := s.hub.Serve
	if s.way.polls {
		serve = s.servePolled
	}
	err := serve(w, r, sub)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
	s.served <- err
}

// servePolled polls for its client, and writes what it is answered as a stream. It polls again after an answer that
// came too late, as a client does after a 503: on a busy machine the session may be over and the log not readable.
func (s *system) servePolled(w http.ResponseWriter, r *http.Request, sub sse.Subscriber) error {
	p := sse.Poll{Subscriber: sub, Wait: 5 * time.Second}
	for first := true; ; first = false {
		a, err := s.hub.Poll(r.Context(), p)
		if first && err != nil {
			return err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if err != nil {
			return nil
		}
		if first {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		p.Stream, p.LastEventID = a.Stream, a.ID
		for _, e := range a.Events {
			if e.Retry > 0 {
				fmt.Fprintf(w, "retry: %d\n\n", e.Retry)
			}
			fmt.Fprintf(w, "event: %s\n", e.Event)
			if e.ID != "" {
				fmt.Fprintf(w, "id: %s\n", e.ID)
			}
			fmt.Fprintf(w, "data: %s\n\n", e.Data)
			if e.Event == "bye" {
				return nil
			}
		}
		w.(http.Flusher).Flush()
	}
}

// within returns a context for a call to NATS. Without a deadline of its own a call may take 5 s, which is little on a
// busy machine.
func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// notify stores a notification.
func (s *system) notify(user, title string) jobs.NotificationID {
	s.t.Helper()
	ctx, cancel := within()
	defer cancel()
	n, _, err := s.queue.Notify(ctx, user, jobs.Notification{Type: "test", Title: title})
	if err != nil {
		s.t.Fatal(err)
	}
	id, err := jobs.ParseNotificationID(n.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// after is the position of a reader that has everything up to and including a notification.
func after(id jobs.NotificationID) string { return id.Position().String() }

// fill stores n notifications for user, fast.
func (s *system) fill(user string, n int) {
	s.t.Helper()
	js, err := jetstream.New(s.queue.Conn(), jetstream.WithPublishAsyncMaxPending(1<<17))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range n {
		if _, err := js.PublishAsync(defaultNS.NotificationSubject(user), fmt.Appendf(nil, `{"key":"%d","type":"test","title":"fill"}`, i)); err != nil {
			s.t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		s.t.Fatal("publishing took too long")
	}
}

// publish publishes a live event with a number as its data.
func (s *system) publish(topic string, number int) {
	s.t.Helper()
	ctx, cancel := within()
	defer cancel()
	if err := s.queue.PublishEvent(ctx, jobs.LiveEvent{Topic: topic, Type: "test", Data: strconv.AppendInt(nil, int64(number), 10)}); err != nil {
		s.t.Fatal(err)
	}
}

// put writes the state of a job and returns its revision.
func (s *system) put(job *jobs.Job, before uint64) uint64 {
	s.t.Helper()
	ctx, cancel := within()
	defer cancel()
	revision, err := s.queue.PutState(ctx, job, before)
	if err != nil {
		s.t.Fatal(err)
	}
	return revision
}

// log returns the ids of what the log holds for a user after a sequence, broadcasts among it.
func (s *system) log(user string, after uint64) []string {
	s.t.Helper()
	ctx, cancel := within()
	defer cancel()
	var seqs []uint64
	read := func(read func(context.Context, string, uint64, int) ([]joblog.StoredNotification, bool, error)) (got []uint64) {
		for at := after; ; {
			page, more, err := read(ctx, user, at, 256)
			if err != nil {
				s.t.Fatal(err)
			}
			for _, n := range page {
				got, at = append(got, n.Seq), n.Seq
			}
			if !more {
				return got
			}
		}
	}
	own, all := read(s.queue.NotificationsPage), read(s.queue.BroadcastsPage)
	for len(own)+len(all) > 0 {
		if len(all) == 0 || len(own) > 0 && own[0] < all[0] {
			seqs, own = append(seqs, own[0]), own[1:]
		} else {
			seqs, all = append(seqs, all[0]), all[1:]
		}
	}
	ids := make([]string, len(seqs))
	for i, seq := range seqs {
		ids[i] = jobs.NotificationID{Epoch: s.queue.Epoch(), Seq: seq}.String()
	}
	return ids
}

// same compares what a reader got with the log.
func same(t testing.TB, who string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("%s: %d got, %d stored, first difference at %d:\ngot  %v\nwant %v", who, len(got), len(want), i,
				got[min(i, len(got)):min(i+5, len(got))], want[min(i, len(want)):min(i+5, len(want))])
			return
		}
	}
}

func decode[T any](t testing.TB, data string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}
