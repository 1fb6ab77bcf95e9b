package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	whole "github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
)

const harkKind = "noop"

// Names of hark in NATS, of docs/architecture.md.
const (
	logStream         = "hark_log"
	states            = "hark.log.*.*.state.*"
	notifications     = "hark.log.*.*.notification"
	liveNotifications = "hark.live.*.*.notification"
	harkConsumer      = "hark-worker-" + harkKind
)

// hark runs in this process, as hark serve does: an embedded server that stores on disk, and one connection for both
// the queue and the worker.
type hark struct {
	s      *settings
	dir    string
	server *whole.Server // its parts are never run, but for NATS
	queue  *queue.Client
	watch  *nats.Conn // the benchmark's own connection, over loopback, which receives the ends
}

func openHark(_ context.Context, s *settings) (system, error) { return &hark{s: s}, nil }

func (h *hark) about() string {
	sync := "synced to disk every 2 minutes (default)"
	if h.s.strict {
		sync = "synced to disk before each answer"
	}
	return fmt.Sprintf("embedded NATS, file storage, %s; %d slots", sync, h.s.slots)
}

// reset starts a new server on a new folder.
func (h *hark) reset(ctx context.Context) (err error) {
	if err := h.close(); err != nil {
		return err
	}
	if h.dir, err = os.MkdirTemp(h.s.dir, "hark-"); err != nil {
		return err
	}
	if h.server, err = whole.New(ctx, whole.Options{
		Only: whole.Worker, Data: h.dir, NATSListen: "127.0.0.1:0", SyncAlways: h.s.strict, Handlers: []worker.Handler{h.handler()}, Logger: h.s.log,
	}); err != nil {
		return err
	}
	h.queue = h.server.Queue()
	if h.watch, err = nats.Connect(h.server.NATSURL()); err != nil {
		return err
	}
	w, err := h.worker()
	if err != nil {
		return err
	}
	return w.PublishKinds(ctx)
}

// worker returns a worker that ends before the server does, so that check can look.
func (h *hark) worker() (*worker.Worker, error) {
	return worker.New(worker.Options{Queue: h.queue, Logger: h.s.log, Handlers: []worker.Handler{h.handler()}})
}

func (h *hark) handler() worker.Handler {
	noop := func(context.Context, *worker.Job, struct{}) (jobs.Result, error) { return jobs.Result{}, nil }
	return worker.Handle(jobs.Define[struct{}](jobs.Kind{Name: harkKind}), noop, worker.Concurrency(h.s.slots))
}

func (h *hark) enqueuer(context.Context) (func(context.Context, int) (string, error), error) {
	users := make([]string, h.s.users)
	for i := range users {
		users[i] = "user-" + strconv.Itoa(i)
	}
	return func(ctx context.Context, i int) (string, error) {
		job, err := h.queue.Enqueue(ctx, jobs.Request{User: users[i%len(users)], Kind: harkKind, Title: "No-op"})
		return job.ID, err
	}, nil
}

// work receives the end of a job by its notification, which the server publishes live after it is stored.
func (h *hark) work(ctx context.Context, finished func(string)) (func() error, error) {
	sub, err := h.watch.Subscribe(liveNotifications, func(m *nats.Msg) {
		if _, rest, ok := bytes.Cut(m.Data, []byte(`"job_id":"`)); ok && bytes.Contains(m.Data, []byte(`"type":"job.succeeded"`)) {
			id, _, _ := bytes.Cut(rest, []byte(`"`))
			finished(string(id))
		}
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(sub.SetPendingLimits(-1, -1), h.watch.Flush()); err != nil {
		return nil, err
	}
	w, err := h.worker()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	return func() error {
		cancel()
		return errors.Join(<-ended, sub.Unsubscribe())
	}, nil
}

// check counts the messages of the stream: a state for each job, and a notification, which is stored only after succeeded. It also waits for
// the acks, since redeliveries would cost hark later.
func (h *hark) check(ctx context.Context, n int) error {
	js, err := jetstream.New(h.watch)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, logStream)
	if err != nil {
		return err
	}
	for _, subject := range []string{states, notifications} {
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subject))
		if err != nil {
			return err
		}
		stored := uint64(0)
		for _, messages := range info.State.Subjects {
			stored += messages
		}
		if stored != uint64(n) {
			return fmt.Errorf("the stream holds %d messages on %s, not %d", stored, subject, n)
		}
	}
	for { // the last acks may be in transit
		c, err := stream.Consumer(ctx, harkConsumer)
		if err != nil {
			return err
		}
		info := c.CachedInfo()
		if info.NumRedelivered > 0 || info.NumPending > 0 {
			return fmt.Errorf("%d jobs redelivered, %d never delivered", info.NumRedelivered, info.NumPending)
		}
		if info.NumAckPending == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d jobs were never acked: %w", info.NumAckPending, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (h *hark) serverCPU() (time.Duration, error) { return 0, nil }

func (h *hark) close() error {
	if h.server == nil {
		return nil
	}
	if h.watch != nil {
		h.watch.Close()
		h.watch = nil
	}
	h.server.Close()
	h.server = nil
	return os.RemoveAll(h.dir)
}
