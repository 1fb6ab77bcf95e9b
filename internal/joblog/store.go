package joblog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark/files"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// DedupeWindow is how long JetStream detects a duplicate key of a notification.
const DedupeWindow = 10 * time.Minute

// Options are the options of [Open]. The zero value means the defaults.
type Options struct {
	// Location says where the streams are.
	Location
	// Settings are for what [Open] creates. They do not change what exists.
	Settings
	// Bulk is a connection for bulk data that can wait: lists, replays of the log, and files. Live messages never queue up
	// after those. The store does not close it. Defaults to the connection of [Open].
	Bulk *nats.Conn
	// Files stores the files of jobs. Defaults to a bucket in JetStream.
	Files files.Store
	// Logger logs settings that differ from those that exist, and skipped messages. Defaults to slog.Default().
	Logger *slog.Logger

	// SimulateCrash is a test hook, called after each step of the commit rule. If it returns true, the caller stops
	// working on that job, as if the process had crashed.
	SimulateCrash func(Step, *jobs.Job) bool
}

// Step is a step of the commit rule.
type Step string

// The steps of the commit rule, in their order.
const (
	FileStored            Step = "file stored"
	StateWritten          Step = "state written"
	NotificationPublished Step = "notification published"
	Acked                 Step = "acked"
)

// ErrSimulatedCrash is the error of a crash that [Options.SimulateCrash] simulates.
var ErrSimulatedCrash = errors.New("joblog: simulated crash")

// AfterStep returns [ErrSimulatedCrash] if the test hook simulates a crash after this step.
func (q *Store) AfterStep(step Step, job *jobs.Job) error {
	if q.crash != nil && q.crash(step, job) {
		return ErrSimulatedCrash
	}
	return nil
}

// Store reads and writes jobs and notifications in JetStream. Unless documented otherwise, its methods block for one or
// a few round trips, end with their context, and are safe for concurrent use.
type Store struct {
	nc     *nats.Conn
	bulk   *nats.Conn
	places [2]chan struct{} // semaphores of the reads on nc and on bulk
	writes *publisher
	chunks *publisher // on bulk
	js     jetstream.JetStream
	ns     Namespace
	api    string                        // prefix of JetStream's API
	log    atomic.Pointer[[]*keptStream] // the streams of the log, see streams.go
	files  *keptStream                   // of the bucket of files
	// fileStore is where files are: in the bucket, or elsewhere.
	fileStore files.Store
	logger    *slog.Logger

	life      context.Context // until Close
	end       context.CancelFunc
	closing   sync.Mutex     // guards end and the start of restoring
	restoring sync.WaitGroup // of the streams that are created again

	crash func(Step, *jobs.Job) bool
	kinds kindCache
	skips *skips

	epoch     atomic.Int64 // Epoch, last known
	replicas  atomic.Int64 // of the first stream, last known
	spreading atomic.Bool  // the number of streams has changed, and the store binds to them
	settings  Settings     // when the store was opened
	fileAge   atomic.Int64 // time.Duration; newer than that of settings
}

// Open binds to hark's streams and buckets, and creates those that are missing. It never changes what exists; [Setup]
// does. Open logs one line if config's settings differ from those that exist. The store does not close nc. The caller
// must call [Store.Close].
func Open(ctx context.Context, nc *nats.Conn, config Options) (_ *Store, err error) {
	if err := config.Settings.Check(); err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Bulk == nil {
		config.Bulk = nc
	}
	if err := config.Location.Check(); err != nil {
		return nil, err
	}
	js, err := config.Location.JetStream(nc)
	if err != nil {
		return nil, fmt.Errorf("joblog: %w", err)
	}
	q := &Store{nc: nc, bulk: config.Bulk, js: js, ns: config.Location.WithDefaults().Namespace, api: apiPrefix(js), crash: config.SimulateCrash, logger: config.Logger, skips: newSkips(config.Logger)}
	q.fileStore = config.Files
	if q.fileStore == nil {
		q.fileStore = bucketFiles{q}
	}
	q.life, q.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			q.endRestoring()
		}
	}()
	q.places = [2]chan struct{}{make(chan struct{}, smallReads), make(chan struct{}, bulkReads)}
	create := config.Settings.or(defaultSettings)
	streamConfig, err := q.openLog(ctx, create)
	if err != nil {
		return nil, err
	}
	create.Replicas = streamConfig.Replicas // the buckets get as many replicas as the stream
	fileStream, err := bindFiles(ctx, js, q.ns, create)
	if err != nil {
		return nil, fmt.Errorf("joblog: files: %w", err)
	}
	q.files = q.keepBucket(fileStream, "the files of all jobs")
	if q.kinds.bucket, err = q.BindBucket(ctx, kindsConfig(q.ns), "the kinds, until their workers publish them again"); err != nil {
		return nil, fmt.Errorf("joblog: kinds: %w", err)
	}
	q.kinds.kinds = make(map[string]cachedKind)
	q.settings = settingsOf(streamConfig, &fileStream.CachedInfo().Config)
	q.fileAge.Store(int64(q.settings.FileAge))
	logDifferences(config.Logger, config.Settings, q.settings)
	if q.writes, err = newPublisher(nc, q.ns); err != nil {
		return nil, fmt.Errorf("joblog: %w", err)
	}
	q.writes.restore, q.writes.stored = q.restoreFor, q.storedLast
	q.chunks = q.writes
	if q.bulk != q.nc {
		if q.chunks, err = newPublisher(q.bulk, q.ns); err != nil {
			return nil, errors.Join(fmt.Errorf("joblog: %w", err), q.writes.close())
		}
		q.chunks.restore = q.restoreFor
	}
	return q, nil
}

// Close ends the subscriptions of the store. Calls in progress get no response any more and end with their contexts.
func (q *Store) Close() error {
	q.endRestoring()
	err := q.writes.close()
	if q.chunks != q.writes {
		err = errors.Join(err, q.chunks.close())
	}
	return err
}

// Namespace returns the namespace of the store.
func (q *Store) Namespace() Namespace { return q.ns }

// Settings returns the settings in effect when the store was opened.
func (q *Store) Settings() Settings { return q.settings }

// Conn returns the connection of the store.
func (q *Store) Conn() *nats.Conn { return q.nc }

// Bulk returns the connection for bulk data, which may be the same one.
func (q *Store) Bulk() *nats.Conn { return q.bulk }

// JetStream returns the JetStream context of the store.
func (q *Store) JetStream() jetstream.JetStream { return q.js }

// Writable returns an error if a stream of the log cannot be reached, or has no leader. On a cluster without a majority a
// stream still has an info, so the leader is checked too.
func (q *Store) Writable(ctx context.Context) error {
	infos, err := q.infos(ctx)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if err := CheckLeader(info); err != nil {
			return fmt.Errorf("joblog: %s: %w", info.Config.Name, err)
		}
	}
	return nil
}

// Get returns a user's job, or [jobs.ErrNotFound]. On a cluster it may be some milliseconds old; ErrNotFound is
// confirmed by the leader.
func (q *Store) Get(ctx context.Context, user, id string) (jobs.Job, error) {
	return q.getSince(ctx, user, id, 0)
}

// getSince is Get for a job that is known to have a revision. It returns that revision or a later one.
func (q *Store) getSince(ctx context.Context, user, id string, revision uint64) (jobs.Job, error) {
	s, err := q.readShown(ctx, user, id)
	if err == nil && s.Job.Revision < revision {
		s, err = q.ReadLeader(ctx, user, "*", id)
	}
	if err != nil {
		return jobs.Job{}, err
	}
	return s.Job, nil
}

// Cancel cancels a waiting job at once, and asks the worker of a running one to stop. The returned job is cancelled, or
// running with CancelRequested. Cancelling a job twice is not an error.
//
// Errors: [jobs.ErrNotFound], [jobs.ErrEnded].
func (q *Store) Cancel(ctx context.Context, user, id string) (jobs.Job, error) {
	for {
		s, err := q.ReadLeader(ctx, user, "*", id) // whether the job has ended is decided here
		if err != nil {
			return jobs.Job{}, err
		}
		job := s.Job
		switch {
		case job.State.Terminal():
			return job, jobs.ErrEnded
		case job.State == jobs.Running && job.CancelRequested:
			return job, nil
		case job.State == jobs.Running:
			job.CancelRequested = true
			job.Revision, err = q.PutState(ctx, &job, s.StateSeq)
		default:
			job.Error = &jobs.Error{Code: "cancelled", Message: "Cancelled before it ran."}
			job, err = q.Finish(ctx, job, jobs.Cancelled, s.StateSeq)
		}
		if !errors.Is(err, ErrConflict) {
			return job, err
		}
	}
}

// Retry runs a failed or cancelled job again, as a new run with all its attempts, for the same user. Claims are the
// current verified claims of that user. If they are nil the job keeps its claims, for a retry by an admin.
//
// Errors: [jobs.ErrNotFound], [jobs.ErrNotEnded].
func (q *Store) Retry(ctx context.Context, user, id string, claims map[string]any) (jobs.Job, error) {
	for {
		s, err := q.ReadLeader(ctx, user, "*", id) // whether the job has ended is decided here
		if err != nil {
			return jobs.Job{}, err
		}
		if s.Job.State != jobs.Failed && s.Job.State != jobs.Cancelled {
			return s.Job, jobs.ErrNotEnded
		}
		if s.Spec == nil { // the spec has expired
			return jobs.Job{}, jobs.ErrNotFound
		}
		// The spec is published again with a greater run. That one write is the whole retry: the state of an earlier run is
		// ignored.
		spec := *s.Spec
		spec.Run++
		if claims != nil {
			kind, err := q.Kind(ctx, spec.Kind)
			if err != nil {
				return jobs.Job{}, err
			}
			if spec.Claims, err = kind.TakeClaims(claims, spec.Params); err != nil {
				return jobs.Job{}, err
			}
		}
		seq, err := q.replaceSpec(ctx, &spec, s.SpecSeq)
		if isConflict(err) {
			continue
		}
		if err != nil {
			return jobs.Job{}, fmt.Errorf("joblog: retry: %w", err)
		}
		job := spec.Job()
		job.Revision = seq
		return job, nil
	}
}

// Requeue puts a delivered job at the end of its queue. Unlike a nak it survives a restart of the server. The caller
// must ack the old delivery.
func (q *Store) Requeue(ctx context.Context, spec *Spec, specSeq uint64) error {
	_, err := q.replaceSpec(ctx, spec, specSeq)
	if err != nil {
		return fmt.Errorf("joblog: requeue: %w", err)
	}
	return nil
}

// replaceSpec replaces the spec if it still has the sequence expected, and returns its new sequence.
func (q *Store) replaceSpec(ctx context.Context, spec *Spec, expected uint64) (uint64, error) {
	ack, err := q.publishSpec(ctx, spec, replaceLast(expected))
	return ack.seq, err
}

func (q *Store) publishSpec(ctx context.Context, spec *Spec, header nats.Header) (ack, error) {
	m, err := q.specMessage(spec, header)
	if err != nil {
		return ack{}, err
	}
	return q.writes.publish(ctx, m)
}

// specMessage returns the message that stores a job request under the conditions in the header.
func (q *Store) specMessage(spec *Spec, header nats.Header) (*nats.Msg, error) {
	body, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	return &nats.Msg{Subject: q.ns.SpecSubject(spec.User, spec.Kind, spec.ID), Header: header, Data: body}, nil
}
