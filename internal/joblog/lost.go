package joblog

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// keptStream is a stream that the process creates again if it was deleted or lost. Its methods, and those of [Bucket] and
// [Store], do that when the server says that there is no such stream, and then repeat the call once.
//
// Several processes may notice at once. The server lets one of them create the stream, and the others find it.
type keptStream struct {
	jetstream.Stream
	js   jetstream.JetStream
	name string
	lost string // what is lost with it, for the log
	log  *slog.Logger
	// change changes the last known configuration to that of the new stream.
	change func(*jetstream.StreamConfig)
	// seen is called with each info.
	seen func(*jetstream.StreamInfo)

	config atomic.Pointer[jetstream.StreamConfig] // last known
	store  *Store

	mu    sync.Mutex
	under *restoration // under way, or nil
}

// restoration is one try to create a stream again. Its err is set before done is closed.
type restoration struct {
	done chan struct{}
	err  error
}

// lostPause is the pause before a missing stream is created again. The server removes the files of a deleted stream in the
// background, and a stream of the same name that is created meanwhile may lose its own.
const lostPause = time.Second

// newLogStream returns stream i of the n of the log as one that is created again. Nothing is learned from its info yet.
func (q *Store) newLogStream(stream jetstream.Stream, i, n int) *keptStream {
	lost := "all jobs and notifications that are not in the inbox yet"
	if n > 1 {
		lost = fmt.Sprintf("all jobs and notifications of the users in the shards from %s to %s that are not in the inbox yet", firstShard(i, n), shards[(i+1)*Shards/n-1])
	}
	return q.keep(&keptStream{Stream: stream, lost: lost, change: q.newEpoch, seen: q.learnFrom})
}

// keepBucket returns the stream of a bucket as one that is created again. Lost says what is lost with it.
func (q *Store) keepBucket(stream jetstream.Stream, lost string) *keptStream {
	k := q.keep(&keptStream{Stream: stream, lost: lost, change: q.asReplicated, seen: func(*jetstream.StreamInfo) {}})
	k.remember(k.CachedInfo())
	return k
}

func (q *Store) keep(k *keptStream) *keptStream {
	k.js, k.log, k.store, k.name = q.js, q.logger, q, k.CachedInfo().Config.Name
	return k
}

func (k *keptStream) remember(info *jetstream.StreamInfo) {
	config := info.Config
	k.config.Store(&config)
	k.seen(info)
}

// Info returns the info of the stream. While the stream has no leader, it may be of a replica that lags: see [CheckLeader].
func (k *keptStream) Info(ctx context.Context, opts ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	return k.info(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return k.Stream.Info(ctx, opts...) })
}

// leaderInfo returns the info of the stream from its leader, or the error of [CheckLeader].
func (k *keptStream) leaderInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	return k.info(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) {
		info, err := k.Stream.Info(ctx)
		if err == nil {
			err = CheckLeader(info)
		}
		return info, err
	})
}

func (k *keptStream) info(ctx context.Context, read func(context.Context) (*jetstream.StreamInfo, error)) (*jetstream.StreamInfo, error) {
	info, err := again(ctx, k, func() (*jetstream.StreamInfo, error) { return tries(ctx, k.store.nc, read) })
	if err == nil {
		k.remember(info)
	}
	return info, err
}

// Consumer returns a consumer of the stream.
func (k *keptStream) Consumer(ctx context.Context, name string) (jetstream.Consumer, error) {
	return again(ctx, k, func() (jetstream.Consumer, error) {
		return tries(ctx, k.store.nc, func(ctx context.Context) (jetstream.Consumer, error) { return k.Stream.Consumer(ctx, name) })
	})
}

// again calls do, and calls it again if the stream was gone and was created.
func again[T any](ctx context.Context, k *keptStream, do func() (T, error)) (T, error) {
	result, err := do()
	if !isGone(err) {
		return result, err
	}
	if restoreErr := k.restore(ctx); restoreErr != nil {
		return result, restoreErr
	}
	return do()
}

// isGone reports whether an error may mean that a stream does not exist.
func isGone(err error) bool {
	for _, e := range []error{
		jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound, jetstream.ErrNoStreamResponse,
		nats.ErrStreamNotFound, nats.ErrNoStreamResponse, nats.ErrNoResponders,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamNotFound
}

// creatorKey is the metadata of a stream that was created again: a value that only the process knows that has created it.
const creatorKey = "hark.creator"

// restoreTime is the timeout of one try to create a stream again.
const restoreTime = 30 * time.Second

// restore creates the stream, empty, if it does not exist, and returns nil if it exists then. It blocks for a round trip, and
// for lostPause and two more if the stream is created. A stream is created also if ctx ends before.
func (k *keptStream) restore(ctx context.Context) error {
	k.mu.Lock()
	r := k.under
	if r == nil {
		r = &restoration{done: make(chan struct{})}
		if k.under = r; !k.store.goRestore(k.run) {
			k.under = nil
			k.mu.Unlock()
			return errClosed
		}
	}
	k.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errClosed is returned by calls of a closed store that would create a stream.
var errClosed = errors.New("joblog: the store is closed")

// goRestore runs f on a goroutine that [Store.Close] waits for. It returns false if the store is closed.
func (q *Store) goRestore(f func()) bool {
	q.closing.Lock()
	defer q.closing.Unlock()
	if q.life.Err() != nil {
		return false
	}
	q.restoring.Go(f)
	return true
}

// endRestoring stops what goRestore has started, and waits for it.
func (q *Store) endRestoring() {
	q.closing.Lock()
	q.end()
	q.closing.Unlock()
	q.restoring.Wait()
}

// run does the restoration under way.
func (k *keptStream) run() {
	ctx, cancel := context.WithTimeout(k.store.life, restoreTime)
	defer cancel()
	err := k.recreate(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.under.err = err
	close(k.under.done)
	k.under = nil
}

// recreate creates the stream if it does not exist.
func (k *keptStream) recreate(ctx context.Context) error {
	exists, err := k.exists(ctx)
	if err != nil || exists {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(lostPause + rand.N(lostPause)): // so that mostly one process creates it, and the others find it
	}
	if exists, err := k.exists(ctx); err != nil || exists {
		return err
	}
	config := *k.config.Load()
	k.change(&config)
	// The server takes a stream with the same configuration for created. Two processes may choose the same epoch.
	config.Metadata = withMetadata(config.Metadata, creatorKey, crand.Text())
	// On a cluster the server does not answer some requests that come while another process creates the stream.
	short, cancel := context.WithTimeout(ctx, callTimeout)
	_, err = k.js.CreateStream(short, config)
	cancel()
	err = notPermitted(k.js, createOf, k.name, err)
	unanswered := errors.Is(err, context.DeadlineExceeded)
	switch {
	case err == nil:
		k.logLoss()
	case !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) && !unanswered:
		return fmt.Errorf("joblog: the stream %s was deleted or lost, and cannot be created again: %w", k.name, err)
	}
	for { // a busy cluster may report for a moment that a new stream does not exist
		if exists, err := k.exists(ctx); err != nil || exists {
			if exists && unanswered && k.config.Load().Metadata[creatorKey] == config.Metadata[creatorKey] {
				k.logLoss() // this process has created it
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(bindPause):
		}
	}
}

func (k *keptStream) logLoss() {
	k.log.Error("a stream was deleted or lost; it was created again, empty", "stream", k.name, "lost", k.lost)
}

// exists reports whether the server has the stream.
func (k *keptStream) exists(ctx context.Context) (bool, error) {
	info, err := tries(ctx, k.store.nc, func(ctx context.Context) (*jetstream.StreamInfo, error) { return k.Stream.Info(ctx) })
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, nil
	}
	if err == nil {
		k.remember(info)
	}
	return err == nil, err
}

// newEpoch makes the configuration that of a stream that begins a new epoch of the log, so that no id of the lost one is
// valid. The epoch of the log is the greatest one of its streams.
func (q *Store) newEpoch(c *jetstream.StreamConfig) {
	epoch := max(jobs.Epoch(time.Now().UnixMilli()), q.Epoch()+1)
	c.Metadata = withMetadata(c.Metadata, epochKey, strconv.FormatInt(int64(epoch), 10))
}

// asReplicated gives the stream of a bucket at least as many replicas as the log has now.
func (q *Store) asReplicated(c *jetstream.StreamConfig) {
	c.Replicas = max(c.Replicas, int(q.replicas.Load()))
	c.Metadata = ownMetadata(c.Metadata)
}

// restoreStream creates the stream with this name if it does not exist.
func (q *Store) restoreStream(ctx context.Context, name string) error {
	if name == q.files.name {
		return q.files.restore(ctx)
	}
	for _, k := range q.streams() {
		if k.name == name {
			return k.restore(ctx)
		}
	}
	return ErrSpread
}

// restoreFor creates the stream that stores messages on the subject if it does not exist.
func (q *Store) restoreFor(ctx context.Context, subject string) error {
	if strings.HasPrefix(subject, "$O.") {
		return q.files.restore(ctx)
	}
	return q.streamOfSubject(subject).restore(ctx)
}
