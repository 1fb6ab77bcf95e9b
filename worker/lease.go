package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxLost is how many leases of one run may expire before the job fails as worker_lost: such a job probably kills its
// workers.
const maxLost = 10

// maxHeartbeat is the longest interval of heartbeats, however long the lease is: hark setup may shorten the lease, and
// the worker reads it once per leaseRefresh.
const maxHeartbeat = 10 * time.Second

// progressInterval is how often a running job's progress is written. Its state is read half as often.
const progressInterval = 250 * time.Millisecond

// errNothingToRun says that a delivery needs no run, and has been answered.
var errNothingToRun = errors.New("worker: nothing to run")

// lease is this worker's ownership of a running job: the revision of the state that only it may replace. One goroutine
// at a time uses it: first heartbeat, then commit. The mutex guards what the handler sets.
type lease struct {
	store    *joblog.Store
	delivery *delivery
	length   func() time.Duration // hark setup may change it while the job runs
	log      *slog.Logger

	owned       jobs.Job // when the lease was acquired; never changed
	job         jobs.Job // as last written
	seq         uint64   // sequence of that write
	confirmedAt time.Time

	mu       sync.Mutex
	progress *jobs.Progress // latest progress that is not written yet
	file     *jobs.File
}

// SetProgress implements [Host].
func (l *lease) SetProgress(p jobs.Progress) {
	l.mu.Lock()
	l.progress = &p
	l.mu.Unlock()
}

// StoreFile implements [Host].
func (l *lease) StoreFile(ctx context.Context, r io.Reader) (int64, error) {
	return l.store.StoreFile(ctx, &l.owned, r)
}

// FileRoom implements [Host].
func (l *lease) FileRoom(ctx context.Context) error { return l.store.FileRoom(ctx, &l.owned) }

func (l *lease) takeProgress() *jobs.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.progress
	l.progress = nil
	return p
}

// SetFile implements [Host].
func (l *lease) SetFile(f *jobs.File) error {
	if err := l.store.AfterStep(joblog.FileStored, &l.owned); err != nil {
		return err
	}
	l.mu.Lock()
	l.file = f
	l.mu.Unlock()
	return nil
}

// acquire takes the lease of a delivered job by writing the state running. It returns errNothingToRun if the job needs
// no run.
func (l *lease) acquire(ctx context.Context, worker string) error {
	d := l.delivery
	s := &joblog.Snapshot{Job: d.spec.Job()}
	read := !d.first || d.spec.Run > 1 // a first delivery has most likely no state yet
	for {
		if read {
			var err error
			if s, err = l.readDelivered(ctx); err != nil {
				return err
			}
			if s == nil {
				return nothingToRun(d.ack())
			}
		}
		job, err := l.transition(ctx, s)
		if err == nil {
			job.Worker = worker
			l.seq, err = l.store.PutState(ctx, &job, s.StateSeq)
		}
		if errors.Is(err, joblog.ErrConflict) {
			read = true
			continue
		}
		l.job, l.confirmedAt = job, time.Now()
		l.job.Revision = l.seq
		l.owned = l.job
		if err == nil && s.Job.State == jobs.Running {
			l.sweep(ctx, l.store.SweepFiles)
		}
		return err
	}
}

// staleReads is how often a job is read again when the server does not have the delivered message yet.
const staleReads = 20

// readDelivered returns the job of the delivery, or nil if the stream does not have it any more. It reads again while a
// server of the cluster lags.
func (l *lease) readDelivered(ctx context.Context) (*joblog.Snapshot, error) {
	d := l.delivery
	for range staleReads {
		s, err := l.store.ReadLeader(ctx, d.spec.User, d.spec.Kind, d.spec.ID)
		if err == nil && s.SpecSeq >= d.seq {
			return s, nil
		}
		if err != nil && !errors.Is(err, jobs.ErrNotFound) {
			return nil, err
		}
		first, last, err := l.store.Bounds(ctx, l.store.StreamOf(d.spec.User))
		if err != nil {
			return nil, err
		}
		if d.seq < first { // the spec has expired; the state may still be there
			return nil, nil
		}
		l.log.Debug("server lags behind the delivery; reading again", "delivered", d.seq, "last", last)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(progressInterval / 10):
		}
	}
	return nil, errors.New("worker: the servers do not have the delivered message yet")
}

// nothingToRun returns err, or errNothingToRun if it is nil.
func nothingToRun(err error) error {
	if err != nil {
		return err
	}
	return errNothingToRun
}

// transition decides from the state of a delivered job what to do. It returns the job to run, or does what else is
// needed and returns errNothingToRun.
func (l *lease) transition(ctx context.Context, s *joblog.Snapshot) (jobs.Job, error) {
	job, d := s.Job, l.delivery
	switch {
	case job.Run != d.spec.Run: // the spec of an earlier run
		return job, nothingToRun(d.ack())
	case job.State.Terminal():
		if err := l.store.EnsureNotified(ctx, &d.spec, d.seq); err != nil {
			return job, err
		}
		return job, nothingToRun(d.ack())
	case job.State == jobs.Retrying && untilRetry(&job) > 0:
		return job, nothingToRun(d.nak(untilRetry(&job)))
	case job.State == jobs.Running && job.CancelRequested:
		job.Error = &jobs.Error{Code: "cancelled", Message: "Cancelled while it ran."}
		return job, l.finish(ctx, job, jobs.Cancelled, s.StateSeq)
	case job.State == jobs.Running: // its worker died or was cut off
		job.Lost++
		if job.Lost > maxLost {
			job.Error = &jobs.Error{Code: "worker_lost", Message: "The job failed: the workers that ran it died, " + strconv.Itoa(job.Lost) + " times in a row."}
			return job, l.finish(ctx, job, jobs.Failed, s.StateSeq)
		}
		l.log.Warn("lease expired; job taken over from another worker", "was", job.Worker, "lost", job.Lost)
	default:
		job.Attempt++
	}
	job.State, job.StartedAt = jobs.Running, time.Now().UTC().Truncate(time.Millisecond)
	job.RetryAt, job.RetryDelay = time.Time{}, 0
	job.Progress, job.Error = jobs.Progress{}, nil
	return job, nil
}

// sweep removes the file that a dead worker has left. A file that is not removed expires.
func (l *lease) sweep(ctx context.Context, remove func(context.Context, *jobs.Job) error) {
	if err := remove(ctx, &l.job); err != nil {
		l.log.Warn("removing the file of a dead worker failed", "err", err)
	}
}

// untilRetry returns how long a delivered job in the state retrying must still wait. The server measures the delay and
// delivers the job when it has passed, but may deliver it earlier after a restart; then RetryAt counts. RetryAt is a
// time of another process's clock. If it is further away than the whole delay, one of the two clocks is wrong, and the
// job runs now.
func untilRetry(job *jobs.Job) time.Duration {
	wait := time.Until(job.RetryAt)
	if wait > job.RetryDelay {
		return 0
	}
	return wait
}

// finish ends a job whose worker died.
func (l *lease) finish(ctx context.Context, job jobs.Job, to jobs.State, expected uint64) error {
	if _, err := l.store.Finish(ctx, job, to, expected); err != nil {
		return err
	}
	l.job = job
	l.sweep(ctx, l.store.DeleteFile)
	return nothingToRun(l.delivery.ack())
}

// heartbeat keeps the lease while the handler runs, until done is closed. It renews the lease, writes progress, and ends
// the handler's context on a cancel or when the lease is lost.
func (l *lease) heartbeat(ctx context.Context, done <-chan struct{}, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	renewed := time.Now()
	var live chan *nats.Msg
	for {
		select {
		case <-done:
			return
		case m := <-live:
			if header := m.Header[jetstream.SequenceHeader]; len(header) > 0 { // the server appends its own value
				if seq, _ := strconv.ParseUint(header[len(header)-1], 10, 64); seq <= l.seq {
					continue
				}
			}
			l.pollState(ctx, cancel)
		case <-ticker.C:
			if live == nil { // short jobs get no subscription
				var unsubscribe func()
				if live, unsubscribe = l.subscribeState(); unsubscribe != nil {
					defer unsubscribe()
				}
			}
			if p := l.takeProgress(); p != nil {
				l.writeProgress(ctx, *p, cancel)
			} else if time.Since(l.confirmedAt) >= 2*progressInterval {
				l.pollState(ctx, cancel)
			}
			if time.Since(l.confirmedAt) > l.length() {
				cancel(ErrLeaseLost) // no read for a whole lease: another worker may have taken over
			} else if time.Since(renewed) >= min(l.length()/3, maxHeartbeat) {
				renewed = time.Now()
				if err := l.delivery.renew(); err != nil {
					l.log.Warn("heartbeat failed", "err", err)
				}
			}
		}
	}
}

// subscribeState subscribes to the job's live states, so that a cancel arrives at once. pollState finds a cancel that is
// lost live.
func (l *lease) subscribeState() (chan *nats.Msg, func()) {
	live := make(chan *nats.Msg, 8)
	sub, err := l.store.Conn().ChanSubscribe(l.store.Namespace().LiveStateSubject(l.job.User, l.job.ID), live)
	if err != nil {
		l.log.Warn("subscribing to the job's state failed; polling only", "err", err)
		return live, nil
	}
	return live, func() { sub.Unsubscribe() }
}

// writeProgress writes progress. After a conflict it is written again on the state that pollState reads.
func (l *lease) writeProgress(ctx context.Context, p jobs.Progress, cancel context.CancelCauseFunc) {
	job := l.job
	job.Progress = p
	seq, err := l.store.PutState(ctx, &job, l.seq)
	switch {
	case err == nil:
		job.Revision = seq
		l.job, l.seq, l.confirmedAt = job, seq, time.Now()
	case errors.Is(err, joblog.ErrConflict):
		l.mu.Lock()
		if l.progress == nil {
			l.progress = &p // written again on the state that pollState reads
		}
		l.mu.Unlock()
		l.pollState(ctx, cancel)
	case ctx.Err() == nil:
		l.log.Warn("writing progress failed", "err", err)
	}
}

// pollState reads the state, and ends the handler's context on a cancel or when the lease is lost.
func (l *lease) pollState(ctx context.Context, cancel context.CancelCauseFunc) {
	ended, err := l.refresh(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		l.log.Warn("reading the job's state failed", "err", err)
	case ended:
		cancel(ErrLeaseLost)
	case l.job.CancelRequested:
		cancel(ErrCancelled)
	}
}

// refresh reads the state and adopts a request to cancel, which is the only change that others may make. It reports
// whether the lease is lost.
func (l *lease) refresh(ctx context.Context) (lost bool, err error) {
	s, err := l.store.Read(ctx, l.job.User, l.job.ID)
	if errors.Is(err, jobs.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if s.StateSeq < l.seq { // the replica lags
		return false, nil
	}
	if !l.holds(&s.Job) {
		return true, nil
	}
	l.job, l.seq, l.confirmedAt = s.Job, s.StateSeq, time.Now()
	return false, nil
}

// holds reports whether job, as read, still belongs to this lease.
func (l *lease) holds(job *jobs.Job) bool {
	return job.State == jobs.Running && job.Worker == l.job.Worker &&
		job.Run == l.job.Run && job.Attempt == l.job.Attempt && job.Lost == l.job.Lost
}
