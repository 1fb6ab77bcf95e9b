package inbox

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// IngesterOptions are the options of an [Ingester]. Store, JetStream, Epoch and BeginEpoch are required.
type IngesterOptions struct {
	Store *Store
	// JetStream should have a connection of its own: up to [readBatch] messages arrive at a time, and would delay live
	// messages.
	JetStream jetstream.JetStream
	// Namespace is that of the stream. Defaults to hark.
	Namespace joblog.Namespace
	// Stream is the number of the stream, of the Streams that the log has. Default to 0 and 1.
	Stream, Streams int
	// Epoch returns the current epoch of the log. BeginEpoch begins an epoch that is greater than the current one and
	// than after; the ingester calls it if the stream has lost messages that the inbox has.
	Epoch      func(context.Context) (jobs.Epoch, error)
	BeginEpoch func(ctx context.Context, after jobs.Epoch) (jobs.Epoch, error)
	// Alone says that no other process uses the database. Then the ingester does not wait for the lease of a dead process
	// to expire.
	Alone bool
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	// Skipped, if set, is called for each malformed message that the ingester skips. It must not block. Defaults to a
	// function that logs.
	Skipped func(subject string, seq uint64, err error)
}

// Ingester stores the notifications of a stream of the log in the inbox, in order. Of all ingesters of a stream in a database, one
// has the lease and works. If it crashes, another takes over within about 6 s; if it ends orderly, another takes over within a second.
type Ingester struct {
	o           IngesterOptions
	name        string
	stream      []byte // as [everyoneIn] names it
	batchDelay  time.Duration
	condition   condition
	leasesEnded bool   // the leases of dead ingesters are ended
	hasRead     bool   // serve has begun to read once
	lastStart   uint64 // the position where serve began to read the last time
}

// Times of the lease and of retries.
const (
	// leaseTime is the term of a lease.
	leaseTime = 6 * time.Second
	// leaseTick is the interval at which an idle ingester renews its lease and verifies that nothing is missing. Others try to
	// acquire the lease twice as often.
	leaseTick = 2 * time.Second
	// The pauses between retries, before jitter.
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// NewIngester checks the options and returns an Ingester. It starts nothing.
func NewIngester(o IngesterOptions) (*Ingester, error) {
	if o.Store == nil || o.JetStream == nil || o.Epoch == nil || o.BeginEpoch == nil {
		return nil, errors.New("inbox: an ingester needs Store, JetStream, Epoch and BeginEpoch")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Namespace == "" {
		o.Namespace = joblog.DefaultNamespace
	}
	if o.Skipped == nil {
		o.Skipped = func(subject string, seq uint64, err error) {
			o.Logger.Warn("inbox: malformed notification skipped", "subject", subject, "seq", seq, "err", err)
		}
	}
	o.Streams = max(o.Streams, 1)
	if o.Stream < 0 || o.Stream >= o.Streams || joblog.Shards%o.Streams != 0 {
		return nil, fmt.Errorf("inbox: an ingester of stream %d of %d", o.Stream, o.Streams)
	}
	o.Store.SetStreams(o.Streams)
	return &Ingester{o: o, name: crand.Text(), stream: everyoneIn(o.Stream, o.Streams), batchDelay: batchDelay}, nil
}

// Run ingests until ctx ends, and then returns nil. It retries all failures, so the stream and the database may be down. It must
// not be called concurrently.
func (f *Ingester) Run(ctx context.Context) error {
	defer f.release(ctx)
	pause := minPause
	for {
		began := time.Now()
		err := f.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		f.report(err)
		if time.Since(began) > maxPause {
			pause = minPause // it worked for a while
		}
		wait := pause
		switch {
		case errors.Is(err, errNotLeader):
			wait = leaseTick / 2
		case !errors.Is(err, errReread):
			pause = min(2*pause, maxPause)
		}
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return nil
		}
	}
}

// serve ingests until this ingester loses the lease or something fails. The next call begins at the position in the database.
func (f *Ingester) serve(ctx context.Context) error {
	epoch, err := f.o.Epoch(ctx)
	if err != nil {
		return fmt.Errorf("%w: epoch: %w", errStream, err)
	}
	if f.o.Alone && !f.leasesEnded {
		if err := f.o.Store.endLeases(ctx, f.stream); err != nil {
			return err
		}
		f.leasesEnded = true
	}
	at, err := f.o.Store.acquireLease(ctx, f.stream, epoch, f.name, leaseTime)
	if err != nil {
		return err
	}
	stream, err := f.o.JetStream.Stream(ctx, f.streamName())
	if err != nil {
		return fmt.Errorf("%w: %w", errStream, err)
	}
	if err := joblog.CheckLeader(stream.CachedInfo()); err != nil {
		return fmt.Errorf("%w: %w", errStream, err)
	}
	if err := f.checkPosition(ctx, epoch, at, stream.CachedInfo().State.LastSeq); err != nil {
		return err
	}
	if f.hasRead && f.lastStart == at { // the last call has read nothing
		if at, err = f.skipUnreadable(ctx, epoch, at); err != nil {
			return err
		}
	}
	f.hasRead, f.lastStart = true, at
	r, err := openReader(ctx, stream, f.o.Namespace.NotificationSubjects(), at)
	if err != nil {
		return fmt.Errorf("%w: %w", errStream, err)
	}
	defer r.close(ctx)
	r.batchDelay, r.flush = f.batchDelay, f.o.Store.flush[f.o.Stream]
	// If the stream was created again meanwhile, the consumer belongs to another epoch.
	if now, err := f.o.Epoch(ctx); err != nil || now != epoch {
		return fmt.Errorf("%w: epoch %d, then %d: %w", errStream, epoch, now, errors.Join(err, errReread))
	}
	f.report(nil)
	return f.ingest(ctx, r, epoch, at)
}

// checkPosition begins a new epoch if the inbox is ahead of the stream: a stream that lost its end, as in a power cut, assigns
// the lost sequences to new messages. It returns errReread then.
func (f *Ingester) checkPosition(ctx context.Context, epoch jobs.Epoch, at, last uint64) error {
	newest, err := f.o.Store.PositionIn(ctx, f.o.Stream)
	if err != nil || newest.Epoch <= epoch && at <= last {
		return err
	}
	begun, err := f.o.BeginEpoch(ctx, max(epoch, newest.Epoch))
	if err != nil {
		return fmt.Errorf("%w: begin an epoch: %w", errStream, err)
	}
	f.o.Logger.Error("inbox: the stream has lost messages; a new epoch has begun, and clients that reconnect get a reset",
		"position", at, "last", last, "epoch", epoch, "newest_epoch", newest.Epoch, "begun", begun)
	return errReread
}

// ingest stores what r reads until something fails, or the epoch ends.
func (f *Ingester) ingest(ctx context.Context, r *reader, epoch jobs.Epoch, at uint64) error {
	run := func(f func()) { f() }
	if f.o.Store.dialect.embedded {
		thread := startOSThread()
		defer thread.stop()
		run = thread.run
	}
	truncated := time.Now()
	undelivered := uint64(0) // a notification of the log that the last idle check found
	for checked := time.Now(); ; {
		msgs, err := r.next(ctx, leaseTick)
		if err != nil {
			return fmt.Errorf("%w: %w", errStream, err)
		}
		if len(msgs) == 0 || time.Since(truncated) > truncateInterval {
			truncated = time.Now()
			if err := f.o.Store.truncateWAL(ctx); err != nil && ctx.Err() == nil {
				f.o.Logger.Warn("inbox: truncating the write-ahead log failed; retrying", "err", err)
			}
		}
		if time.Since(checked) > leaseTick {
			if now, err := f.o.Epoch(ctx); err != nil || now != epoch {
				return fmt.Errorf("%w: epoch %d, then %d: %w", errStream, epoch, now, errors.Join(err, errReread))
			}
			checked = time.Now()
		}
		if len(msgs) == 0 {
			if _, err := f.o.Store.acquireLease(ctx, f.stream, epoch, f.name, leaseTime); err != nil {
				return err
			}
			if undelivered, err = f.checkDelivery(ctx, at, undelivered); err != nil {
				return err
			}
			continue
		}
		undelivered = 0
		run(func() {
			b := f.decode(msgs, epoch, at)
			err, at = f.o.Store.ingest(ctx, b, f.name, leaseTime), b.to
		})
		if err != nil {
			return err
		}
	}
}

// checkDelivery returns the sequence of the first notification that the log has after a position, or 0. If it is the same as at the
// last check, the error is errReread: the reader's consumer is on a server whose replica of the log lags, as it does for minutes
// after that server led the log and was cut off. The next consumer is most likely on another server.
func (f *Ingester) checkDelivery(ctx context.Context, at, before uint64) (uint64, error) {
	next, err := f.nextOnLeader(ctx, at)
	if err != nil {
		return 0, nil // an election; the reader reports what lasts
	}
	if next.Seq != 0 && next.Seq == before {
		f.o.Logger.Warn("inbox: a notification of the log is not delivered; reading with another consumer", "stream", f.streamName(), "seq", next.Seq)
		return 0, errReread
	}
	return next.Seq, nil
}

// decode returns the entries of messages. It skips malformed ones, which must not block the others.
func (f *Ingester) decode(msgs []message, epoch jobs.Epoch, from uint64) batch {
	b := batch{stream: f.stream, epoch: epoch, from: from, entries: make([]Entry, 0, len(msgs))}
	for _, m := range msgs {
		b.to = m.seq
		e, err := f.decodeOne(m)
		if err != nil {
			f.o.Skipped(m.subject, m.seq, err)
			continue
		}
		e.ID = jobs.NotificationID{Epoch: epoch, Seq: m.seq}
		b.entries = append(b.entries, e)
	}
	return b
}

// streamName returns the name of the stream.
func (f *Ingester) streamName() string { return f.o.Namespace.LogStreams(f.o.Streams)[f.o.Stream] }

func (f *Ingester) decodeOne(m message) (Entry, error) {
	if m.subject == f.o.Namespace.BroadcastSubject(f.o.Stream, f.o.Streams) {
		return decodeFor(Entry{User: jobs.Everyone, stream: f.stream}, m)
	}
	token, class, ok := joblog.ParseSubject(m.subject)
	if !ok || class != joblog.ClassNotification || token == jobs.Everyone {
		return Entry{}, errors.New("not the subject of a notification")
	}
	user, err := joblog.UnescapeUser(token)
	if err == nil {
		err = jobs.CheckUser(user)
	}
	if err != nil {
		return Entry{}, err
	}
	return decodeFor(Entry{User: user}, m)
}

// decodeFor sets the notification of an entry.
func decodeFor(e Entry, m message) (_ Entry, err error) {
	// No other checks: the inbox accepts what the stream has accepted and sent live.
	if e.Notification, err = joblog.DecodeNotification(m.data); err != nil {
		return e, err
	}
	n := &e.Notification
	if n.Key != "" && !n.CreatedAt.IsZero() && n.ID == "" && n.Status == "" && n.ReadAt.IsZero() {
		e.body = m.data // hark published it in the stored form
	}
	if n.CreatedAt.IsZero() {
		n.CreatedAt = m.stored.UTC()
	}
	return e, nil
}

// release releases the lease, so that another process can take over early. If that fails, the lease expires.
func (f *Ingester) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = f.o.Store.releaseLease(ctx, f.name)
}

// errStream marks a failure of the stream, as opposed to one of the database.
var errStream = errors.New("inbox: stream")

// condition is the state of an ingester that was logged last; empty at first.
type condition string

const (
	ingesting     condition = "ingesting"
	standingBy    condition = "standing by"
	streamFails   condition = "the stream fails"
	databaseFails condition = "the database fails"
)

// report logs the condition of the ingester when it changes.
func (f *Ingester) report(err error) {
	now := ingesting
	switch {
	case errors.Is(err, errReread):
		return // serve continues soon
	case errors.Is(err, errNotLeader):
		now = standingBy
	case errors.Is(err, errStream):
		now = streamFails
	case err != nil:
		now = databaseFails
	}
	before := f.condition
	f.condition = now
	if now == before {
		return
	}
	switch now {
	case ingesting:
		f.o.Logger.Info("inbox: ingesting notifications from the stream", "stream", f.streamName())
	case standingBy:
		f.o.Logger.Info("inbox: another process has the lease; standing by", "stream", f.streamName())
	default:
		const message = "inbox: notifications not ingested; retrying: "
		if advice := f.o.Store.advice(err); now == databaseFails && advice != "" {
			f.o.Logger.Error(message+string(now), "err", err, "do", advice)
			return
		}
		f.o.Logger.Warn(message+string(now), "err", err)
	}
}

// sleep blocks for d. It returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
