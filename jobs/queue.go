package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names of what hark keeps in JetStream.
const (
	StreamName  = "HARK"
	filesBucket = "hark_files"
	kindsBucket = "hark_kinds"
	kindsStream = "KV_" + kindsBucket
)

// DedupeWindow is how long JetStream itself remembers the key of a notification.
const DedupeWindow = 10 * time.Minute

// Config says how a queue is opened. The zero value means the defaults.
type Config struct {
	// Settings are for what is missing and created by [Open]. What exists stays as it is.
	Settings
	// Bulk is a connection for what is large and can wait: lists, replays of the log, and files. What is live never
	// waits behind those. Nil means the same one as for all else. The queue does not close it.
	Bulk *nats.Conn
	// Log gets one line about settings that differ from what exists. Defaults to slog.Default().
	Log *slog.Logger

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
	if q.crash != nil && q.crash(step, job) {
		return ErrCrashed
	}
	return nil
}

// Queue reads and writes jobs and notifications in JetStream. Its methods block for one or a few round
// trips to the server, unless they say more, end with their context, and are safe for concurrent use.
type Queue struct {
	nc     *nats.Conn
	bulk   *nats.Conn
	places [2]chan struct{} // one for each read under way on nc, and on bulk
	writes *publisher
	chunks *publisher // on bulk
	js     jetstream.JetStream
	stream jetstream.Stream
	crash  func(Step, *Job) bool
	kinds  kindCache

	settings Settings     // as they were when the queue was opened
	fileAge  atomic.Int64 // time.Duration; newer than that of settings
}

// Open binds to hark's stream and buckets on the server behind nc, and creates those that are missing. It never changes
// what exists: that is for [Setup] alone. Where config asks for something else, that is one line in the log. The queue
// does not close nc; call [Queue.Close] when it is not needed any more.
func Open(ctx context.Context, nc *nats.Conn, config Config) (_ *Queue, err error) {
	if err := config.Settings.Check(); err != nil {
		return nil, err
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Bulk == nil {
		config.Bulk = nc
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	q := &Queue{nc: nc, bulk: config.Bulk, js: js, crash: config.Crash}
	q.places = [2]chan struct{}{make(chan struct{}, smallReads), make(chan struct{}, bulkReads)}
	create := config.Settings.or(defaultSettings)
	if q.stream, err = bindStream(ctx, js, create); err != nil {
		return nil, fmt.Errorf("jobs: stream %s: %w", StreamName, err)
	}
	streamConfig := &q.stream.CachedInfo().Config
	if err := checkStream(streamConfig); err != nil {
		return nil, err
	}
	create.Replicas = streamConfig.Replicas // what is created beside a stream is kept as safely
	files, err := bindFiles(ctx, js, create)
	if err != nil {
		return nil, fmt.Errorf("jobs: files: %w", err)
	}
	if q.kinds.bucket, err = bindKinds(ctx, js, create); err != nil {
		return nil, fmt.Errorf("jobs: kinds: %w", err)
	}
	q.kinds.kinds = make(map[string]cachedKind)
	q.settings = settingsOf(streamConfig, &files.CachedInfo().Config)
	q.fileAge.Store(int64(q.settings.FileAge))
	logDifferences(config.Log, config.Settings, q.settings)
	if q.writes, err = newPublisher(nc); err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	q.chunks = q.writes
	if q.bulk != q.nc {
		if q.chunks, err = newPublisher(q.bulk); err != nil {
			return nil, errors.Join(fmt.Errorf("jobs: %w", err), q.writes.close())
		}
	}
	return q, nil
}

// Close ends what the queue has subscribed to. Calls under way get no answer any more and end with their contexts.
func (q *Queue) Close() error {
	err := q.writes.close()
	if q.chunks != q.writes {
		err = errors.Join(err, q.chunks.close())
	}
	return err
}

// Settings returns the settings that were in effect when the queue was opened, whatever its config asked for.
func (q *Queue) Settings() Settings { return q.settings }

// Conn returns the connection that the queue works on.
func (q *Queue) Conn() *nats.Conn { return q.nc }

// Bulk returns the connection for what is large and can wait, which may be the same one.
func (q *Queue) Bulk() *nats.Conn { return q.bulk }

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

// Writable returns an error if the stream cannot be reached, or has no leader to store anything: on a cluster that has lost
// its majority the stream is still described.
func (q *Queue) Writable(ctx context.Context) error {
	info, err := q.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("jobs: stream info: %w", err)
	}
	if info.Cluster != nil && info.Cluster.Leader == "" {
		return errors.New("jobs: the stream has no leader; most of the NATS servers that keep it are not there")
	}
	return nil
}

// Enqueue accepts a job durably and returns it. With an idempotency key that the user has used before it
// returns that first job, and created is false.
//
// Errors: an [*InvalidError] for a request that can never be accepted, [ErrKindUnknown], [ErrKeyReused],
// or what went wrong with the server.
func (q *Queue) Enqueue(ctx context.Context, r Request) (job Job, created bool, err error) {
	if err := r.Check(); err != nil {
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
	claims, err := kind.take(r.Claims, params)
	if err != nil {
		return Job{}, false, err
	}
	order := Order{
		ID: newID(), Kind: r.Kind, Title: r.Title, User: r.User, Params: params, Claims: claims,
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
	s, err := q.look(ctx, user, id)
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

// Retry runs a job again that failed or was cancelled, as a new run with all its attempts. It runs as its user. Claims are
// the verified claims of that user as they are now; nil leaves the job those that it has, for others who retry it.
//
// Errors: [ErrNotFound], [ErrNotEnded].
func (q *Queue) Retry(ctx context.Context, user, id string, claims map[string]any) (Job, error) {
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
		if claims != nil {
			kind, err := q.Kind(ctx, order.Kind)
			if err != nil {
				return Job{}, err
			}
			if order.Claims, err = kind.take(claims, order.Params); err != nil {
				return Job{}, err
			}
		}
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
