package worker

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxLost is how many leases of one run may end without a word before the job is taken for one that kills
// its workers.
const maxLost = 10

// maxHeartbeat is the longest pause between two heartbeats of a running job, however long the lease is: hark setup may
// make it shorter, and the worker learns of that within leaseRefresh.
const maxHeartbeat = 10 * time.Second

// tick is how often a running job's progress is written, and half as often as its state is read.
const tick = 250 * time.Millisecond

// errDone says that a delivery needs no run: what it needed was done on the way.
var errDone = errors.New("worker: nothing to run")

// lease is this worker's ownership of a running job: the revision of the state that only it may write on.
// One goroutine at a time works on it, first the keeper, then whoever commits; what the handler hands in
// lies under the mutex.
type lease struct {
	queue    *jobs.Queue
	delivery *delivery
	length   func() time.Duration // hark setup may change it while the job runs
	log      *slog.Logger

	job       jobs.Job // as written last
	seq       uint64   // of that write
	confirmed time.Time

	mu       sync.Mutex
	progress *jobs.Progress // the newest word, until it is written
	file     *jobs.File
}

func (l *lease) setProgress(p jobs.Progress) {
	l.mu.Lock()
	l.progress = &p
	l.mu.Unlock()
}

func (l *lease) takeProgress() *jobs.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.progress
	l.progress = nil
	return p
}

func (l *lease) setFile(f *jobs.File) {
	l.mu.Lock()
	l.file = f
	l.mu.Unlock()
}

// acquire takes the lease of a delivered job by writing that it runs here. It returns errDone when there
// is nothing to run; the delivery has been answered then.
func (l *lease) acquire(ctx context.Context, worker string) error {
	d := l.delivery
	s := &jobs.Snapshot{Job: d.order.Job()}
	read := !d.first || d.order.Run > 1 // otherwise there is no state yet, most likely
	for {
		if read {
			var err error
			if s, err = l.read(ctx); err != nil {
				return err
			}
			if s == nil {
				return orDone(d.ack())
			}
		}
		job, err := l.next(ctx, s)
		if err == nil {
			job.Worker = worker
			l.seq, err = l.queue.Put(ctx, &job, s.StateSeq)
		}
		if errors.Is(err, jobs.ErrConflict) {
			read = true
			continue
		}
		l.job, l.confirmed = job, time.Now()
		l.job.Revision = l.seq
		return err
	}
}

// staleReads bounds how often a job is read that the server which answers does not have yet as it was delivered.
const staleReads = 20

// read returns the job of the delivery as the stream has it, nil if the stream has forgotten it. A server of a cluster may
// have less than was delivered: then it is asked again.
func (l *lease) read(ctx context.Context) (*jobs.Snapshot, error) {
	d := l.delivery
	for range staleReads {
		s, err := l.queue.ReadLeader(ctx, d.order.User, d.order.ID)
		if err == nil && s.OrderSeq >= d.seq {
			return s, nil
		}
		if err != nil && !errors.Is(err, jobs.ErrNotFound) {
			return nil, err
		}
		first, last, err := l.queue.Bounds(ctx)
		if err != nil {
			return nil, err
		}
		if d.seq < first { // the state may have outlived it
			return nil, nil
		}
		l.log.Debug("read again: the server has less than was delivered", "delivered", d.seq, "last", last)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(tick / 10):
		}
	}
	return nil, errors.New("worker: the servers do not have yet what was delivered")
}

// orDone is errDone, unless answering the delivery failed.
func orDone(err error) error {
	if err != nil {
		return err
	}
	return errDone
}

// next decides what to do with a delivered job by how it stands: run it, as the job it returns, or what
// else needs doing, and errDone.
func (l *lease) next(ctx context.Context, s *jobs.Snapshot) (jobs.Job, error) {
	job, d := s.Job, l.delivery
	switch {
	case job.Run != d.order.Run: // an older order of a job that was asked for again
		return job, orDone(d.ack())
	case job.State.Terminal():
		if err := l.queue.Repair(ctx, &d.order, d.seq); err != nil {
			return job, err
		}
		return job, orDone(d.ack())
	case job.State == jobs.Retrying && time.Until(job.RetryAt) > 0:
		return job, orDone(d.nak(time.Until(job.RetryAt)))
	case job.State == jobs.Running && job.CancelRequested:
		job.Error = &jobs.Error{Code: "cancelled", Message: "Cancelled while it ran."}
		return job, l.finish(ctx, job, jobs.Cancelled, s.StateSeq)
	case job.State == jobs.Running: // its worker is gone, or was cut off
		if job.Lost++; job.Lost > maxLost {
			job.Error = &jobs.Error{Code: "worker_lost", Message: "The job failed: the workers that ran it died, " + strconv.Itoa(job.Lost) + " times in a row."}
			return job, l.finish(ctx, job, jobs.Failed, s.StateSeq)
		}
		l.log.Warn("job taken over from a worker that went silent", "was", job.Worker, "lost", job.Lost)
	default:
		job.Attempt++
	}
	job.State, job.StartedAt, job.RetryAt = jobs.Running, time.Now().UTC().Truncate(time.Millisecond), time.Time{}
	job.Progress, job.Error = jobs.Progress{}, nil
	return job, nil
}

func (l *lease) finish(ctx context.Context, job jobs.Job, to jobs.State, expected uint64) error {
	if _, err := l.queue.Finish(ctx, job, to, expected); err != nil {
		return err
	}
	return orDone(l.delivery.ack())
}

// keep holds the lease while the handler runs: it renews it, writes progress, and listens for a cancel and
// for the loss of the lease, which end the handler's context. It returns when done is closed.
func (l *lease) keep(ctx context.Context, done <-chan struct{}, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	renewed := time.Now()
	var live chan *nats.Msg
	for {
		select {
		case <-done:
			return
		case m := <-live:
			if seq, _ := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64); seq <= l.seq {
				continue
			}
			l.look(ctx, cancel)
		case <-ticker.C:
			if live == nil { // only jobs that take a while are worth a subscription
				var unsubscribe func()
				if live, unsubscribe = l.listen(); unsubscribe != nil {
					defer unsubscribe()
				}
			}
			if p := l.takeProgress(); p != nil {
				l.write(ctx, *p, cancel)
			} else if time.Since(l.confirmed) >= 2*tick {
				l.look(ctx, cancel)
			}
			if time.Since(l.confirmed) > l.length() {
				cancel(ErrLeaseLost) // nobody could be asked for so long: others may have taken over
			} else if time.Since(renewed) >= min(l.length()/3, maxHeartbeat) {
				renewed = time.Now()
				if err := l.delivery.renew(); err != nil {
					l.log.Warn("lease not renewed", "err", err)
				}
			}
		}
	}
}

// listen hears the job's states live, so that a cancel arrives at once. The regular look finds it anyway.
func (l *lease) listen() (chan *nats.Msg, func()) {
	live := make(chan *nats.Msg, 8)
	sub, err := l.queue.Conn().ChanSubscribe(jobs.LiveStateSubject(l.job.User, l.job.ID), live)
	if err != nil {
		l.log.Warn("job's state not heard live", "err", err)
		return live, nil
	}
	return live, func() { sub.Unsubscribe() }
}

// write writes progress.
func (l *lease) write(ctx context.Context, p jobs.Progress, cancel context.CancelCauseFunc) {
	job := l.job
	job.Progress = p
	seq, err := l.queue.Put(ctx, &job, l.seq)
	switch {
	case err == nil:
		job.Revision = seq
		l.job, l.seq, l.confirmed = job, seq, time.Now()
	case errors.Is(err, jobs.ErrConflict):
		l.mu.Lock()
		if l.progress == nil {
			l.progress = &p // once more, on the state that look finds
		}
		l.mu.Unlock()
		l.look(ctx, cancel)
	case ctx.Err() == nil:
		l.log.Warn("progress not written", "err", err)
	}
}

// look reads the state: is the lease still this worker's, and was a cancel asked for?
func (l *lease) look(ctx context.Context, cancel context.CancelCauseFunc) {
	ended, err := l.refresh(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		l.log.Warn("job's state not read", "err", err)
	case ended:
		cancel(ErrLeaseLost)
	case l.job.CancelRequested:
		cancel(ErrCancelled)
	}
}

// refresh adopts what others may write into a leased job's state, which is the request to cancel it. It
// reports whether the lease is lost.
func (l *lease) refresh(ctx context.Context) (lost bool, err error) {
	s, err := l.queue.Read(ctx, l.job.User, l.job.ID)
	if errors.Is(err, jobs.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if s.StateSeq < l.seq { // read from a replica that lags
		return false, nil
	}
	if !l.holds(&s.Job) {
		return true, nil
	}
	l.job, l.seq, l.confirmed = s.Job, s.StateSeq, time.Now()
	return false, nil
}

// holds reports whether job, as read, runs under this lease.
func (l *lease) holds(job *jobs.Job) bool {
	return job.State == jobs.Running && job.Worker == l.job.Worker &&
		job.Run == l.job.Run && job.Attempt == l.job.Attempt && job.Lost == l.job.Lost
}
