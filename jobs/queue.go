package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names of what hark keeps in JetStream.
const (
	StreamName  = "HARK"
	filesBucket = "hark_files"
	kindsBucket = "hark_kinds"
)

// DedupeWindow is how long JetStream itself remembers the key of a notification.
const DedupeWindow = 10 * time.Minute

// Config says how hark keeps what it is given. The zero value means the defaults.
type Config struct {
	MaxAge   time.Duration // how long jobs and notifications stay in the stream; 7 days
	FileAge  time.Duration // how long a file can be fetched after its job ended; 7 days
	Replicas int           // 1 embedded, 3 on a cluster; 1
	Log      *slog.Logger  // slog.Default()

	// Crash is a seam for tests: it is asked after each step of the commit rule whether this process dies
	// there. Whoever gets true back does nothing more for that job, as if it had.
	Crash func(Step, *Job) bool
}

// Step is a step of the commit rule.
type Step string

// The steps of the commit rule, in their order.
const (
	FileStored    Step = "file stored"
	StateWritten  Step = "state written"
	NotePublished Step = "notification published"
	Acked         Step = "acked"
)

// ErrCrashed is what stands for a crash in tests.
var ErrCrashed = errors.New("jobs: crashed, as the test wanted")

// After returns [ErrCrashed] if a test wants the process to die after this step.
func (q *Queue) After(step Step, job *Job) error {
	if q.config.Crash != nil && q.config.Crash(step, job) {
		return ErrCrashed
	}
	return nil
}

func (c *Config) defaults() {
	if c.MaxAge == 0 {
		c.MaxAge = 7 * 24 * time.Hour
	}
	if c.FileAge == 0 {
		c.FileAge = 7 * 24 * time.Hour
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

// Queue reads and writes jobs and notifications in JetStream. Its methods block for one or a few round
// trips to the server, unless they say more, end with their context, and are safe for concurrent use.
type Queue struct {
	nc     *nats.Conn
	writes *publisher
	js     jetstream.JetStream
	stream jetstream.Stream
	config Config
	kinds  kindCache
}

// Open finds or makes hark's stream and buckets on the server behind nc, and updates their settings to
// config. The queue does not close nc.
func Open(ctx context.Context, nc *nats.Conn, config Config) (*Queue, error) {
	config.defaults()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        StreamName,
		Description: "hark: jobs, their states, and notifications",
		Subjects:    []string{storeRoot + ">"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		MaxAge:      config.MaxAge,
		Replicas:    config.Replicas,
		Duplicates:  min(DedupeWindow, config.MaxAge),
		AllowDirect: true,
		AllowRollup: true,
		RePublish:   &jetstream.RePublish{Source: storeRoot + ">", Destination: liveRoot + ">"},
	})
	if err != nil {
		return nil, fmt.Errorf("jobs: stream %s: %w", StreamName, err)
	}
	writes, err := newPublisher(nc)
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	q := &Queue{nc: nc, writes: writes, js: js, stream: stream, config: config}
	if err := q.openFiles(ctx); err != nil {
		return nil, err
	}
	if err := q.openKinds(ctx); err != nil {
		return nil, err
	}
	return q, nil
}

// Conn returns the connection that the queue works on.
func (q *Queue) Conn() *nats.Conn { return q.nc }

// JetStream returns the JetStream context that the queue works on.
func (q *Queue) JetStream() jetstream.JetStream { return q.js }

// Epoch names the incarnation of the stream as it was when the queue was opened.
func (q *Queue) Epoch() Epoch {
	return Epoch(q.stream.CachedInfo().Created.UnixMilli())
}

// CurrentEpoch asks the server for the incarnation of the stream. It differs from [Queue.Epoch] when the
// stream was made anew since.
func (q *Queue) CurrentEpoch(ctx context.Context) (Epoch, error) {
	info, err := q.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("jobs: stream info: %w", err)
	}
	return Epoch(info.Created.UnixMilli()), nil
}

// Enqueue accepts a job durably and returns it. With an idempotency key that the user has used before it
// returns that first job, and created is false.
//
// Errors: an [*InvalidError] for a request that can never be accepted, [ErrKindUnknown], [ErrKeyReused],
// or what went wrong with the server.
func (q *Queue) Enqueue(ctx context.Context, r Request) (job Job, created bool, err error) {
	if err := r.check(); err != nil {
		return Job{}, false, err
	}
	kind, err := q.Kind(ctx, r.Kind)
	if err != nil {
		return Job{}, false, err
	}
	params, err := kind.Check(r.Params)
	if err != nil {
		return Job{}, false, err
	}
	order := Order{
		ID: newID(), Kind: r.Kind, Title: r.Title, User: r.User, Params: params,
		MaxAttempts: r.MaxAttempts, CreatedAt: time.Now().UTC().Truncate(time.Millisecond), Run: 1,
	}
	if order.Title == "" {
		order.Title = kind.title(params)
	}
	if order.MaxAttempts == 0 {
		order.MaxAttempts = max(kind.MaxAttempts, 1)
	}
	header := expectLast(0)
	if r.IdempotencyKey != "" {
		order.ID = keyedID(r.User, r.IdempotencyKey)
		// The same key with another kind is another subject: none may be there of any kind.
		header = expectLastOn(orderSubject(r.User, "*", order.ID), 0)
	}
	ack, err := q.publishOrder(ctx, &order, header)
	if isConflict(err) {
		return q.sameOrder(ctx, order)
	}
	if err != nil {
		return Job{}, false, fmt.Errorf("jobs: enqueue: %w", err)
	}
	job = order.Job()
	job.Revision = ack.seq
	return job, true, nil
}

// sameOrder returns the job that was asked for before under the id of o, if it was the same one.
func (q *Queue) sameOrder(ctx context.Context, o Order) (Job, bool, error) {
	s, err := q.Read(ctx, o.User, o.ID)
	if err != nil {
		return Job{}, false, err
	}
	first := s.Order
	if first == nil || first.Kind != o.Kind || first.Title != o.Title ||
		first.MaxAttempts != o.MaxAttempts || string(first.Params) != string(o.Params) {
		return Job{}, false, ErrKeyReused
	}
	return s.Job, false, nil
}

// Get returns a user's job, or [ErrNotFound].
func (q *Queue) Get(ctx context.Context, user, id string) (Job, error) {
	s, err := q.Read(ctx, user, id)
	if err != nil {
		return Job{}, err
	}
	return s.Job, nil
}

// Cancel ends a job that waits at once, and asks the worker of a running one to stop: the job returned
// is cancelled, or running with CancelRequested. Cancelling twice is no error.
//
// Errors: [ErrNotFound], [ErrEnded].
func (q *Queue) Cancel(ctx context.Context, user, id string) (Job, error) {
	for {
		s, err := q.Read(ctx, user, id)
		if err != nil {
			return Job{}, err
		}
		job := s.Job
		switch {
		case job.State.Terminal():
			return job, ErrEnded
		case job.State == Running && job.CancelRequested:
			return job, nil
		case job.State == Running:
			job.CancelRequested = true
			job.Revision, err = q.Put(ctx, &job, s.StateSeq)
		default:
			job.Error = &Error{Code: "cancelled", Message: "Cancelled before it ran."}
			job, err = q.Finish(ctx, job, Cancelled, s.StateSeq)
		}
		if !errors.Is(err, ErrConflict) {
			return job, err
		}
	}
}

// Retry runs a job again that failed or was cancelled, as a new run with all its attempts.
//
// Errors: [ErrNotFound], [ErrNotEnded].
func (q *Queue) Retry(ctx context.Context, user, id string) (Job, error) {
	for {
		s, err := q.Read(ctx, user, id)
		if err != nil {
			return Job{}, err
		}
		if s.Job.State != Failed && s.Job.State != Cancelled {
			return s.Job, ErrNotEnded
		}
		if s.Order == nil { // the stream has outlived it
			return Job{}, ErrNotFound
		}
		// The order is published again with a greater run. That one write is the whole retry: a state of
		// an earlier run counts no more.
		order := *s.Order
		order.Run++
		seq, err := q.reorder(ctx, &order, s.OrderSeq)
		if isConflict(err) {
			continue
		}
		if err != nil {
			return Job{}, fmt.Errorf("jobs: retry: %w", err)
		}
		job := order.Job()
		job.Revision = seq
		return job, nil
	}
}

// Requeue puts a job that was delivered, and is not run, behind those that wait: at once, also when the server
// is restarted meanwhile, which forgets a negative ack. The old delivery is to be acked.
func (q *Queue) Requeue(ctx context.Context, order *Order, orderSeq uint64) error {
	_, err := q.reorder(ctx, order, orderSeq)
	if err != nil {
		return fmt.Errorf("jobs: requeue: %w", err)
	}
	return nil
}

// reorder replaces an order, provided that it is the one with sequence expected, and returns its new sequence.
func (q *Queue) reorder(ctx context.Context, order *Order, expected uint64) (uint64, error) {
	ack, err := q.publishOrder(ctx, order, replaceLast(expected))
	return ack.seq, err
}

func (q *Queue) publishOrder(ctx context.Context, order *Order, header nats.Header) (ack, error) {
	body, err := json.Marshal(order)
	if err != nil {
		return ack{}, err
	}
	return q.writes.publish(ctx, &nats.Msg{Subject: orderSubject(order.User, order.Kind, order.ID), Header: header, Data: body})
}
