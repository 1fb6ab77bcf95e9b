package sse

import (
	"context"
	"errors"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// behind is what a stream that is not live has to reach before it is.
type behind struct {
	own, all uint64        // the greatest sequences heard live of the user's notifications, and of everyone's
	upTo     uint64        // the log is to be read up to here at least
	ask      bool          // and up to where it stands
	since    uint64        // the jobs written after sequence since-1 are to be read too; 0 means none
	tries    int           // how often the log did not hold what was heard
	patience time.Duration // with one read of the log
	held     []news        // what waits until the notifications before it are written
	size     int           // bytes held
	cancel   func()        // ends the reading; nil before it
}

// hold keeps news until the stream is live. It may come live and from the log, so it may come out of order.
func (b *behind) hold(n news) {
	for i := range b.held {
		if have := &b.held[i]; n.key != "" && have.key == n.key {
			if n.seq >= have.seq {
				b.size += len(n.frame) - len(have.frame)
				*have = n
			}
			return
		}
	}
	b.size += len(n.frame)
	b.held = append(b.held, n)
}

// look has the log read up to where it stands now, and the jobs written after a sequence.
func (b *behind) look(after uint64) {
	b.ask = true
	if b.since == 0 || after+1 < b.since {
		b.since = after + 1
	}
}

// rejoin makes the stream live if nothing is left to be read. The lock is held.
func (s *stream) rejoin(b *behind) bool {
	if s.ended || b.ask || s.own < max(b.own, b.upTo) || s.all < max(b.all, b.upTo) {
		return s.ended
	}
	for len(b.held) > 0 {
		if !s.write(b.held[0].frame) {
			return false
		}
		if s.ended {
			return true // and let go of what was held
		}
		b.size -= len(b.held[0].frame)
		s.hub.owed.Add(-int64(len(b.held[0].frame)))
		b.held[0].frame = nil
		b.held = b.held[1:]
	}
	s.behind = nil
	return true
}

// readLog writes what the stream has missed until it is live again, or its reader is gone.
func (s *stream) readLog(ctx context.Context, b *behind) {
	defer b.cancel()
	for pause := 20 * time.Millisecond; ; {
		// A question that was lost with a connection is not answered; one to a busy server is, later.
		b.patience = max(b.patience, time.Second)
		err := s.readOnce(ctx, b)
		s.mu.Lock()
		over := s.ended || err == nil && s.rejoin(b)
		var next int // bytes to be written next
		if len(b.held) > 0 {
			next = len(b.held[0].frame)
		}
		s.mu.Unlock()
		if over {
			return
		}
		if err == nil {
			b.patience = 0
			if s.waitRoom(ctx, next) != nil {
				return
			}
			pause = 20 * time.Millisecond
			continue // more has come meanwhile, or the reader had no room
		}
		if ctx.Err() == nil && !errors.Is(err, errNotYet) {
			s.hub.log.Warn("log not read; trying again", "err", err, "in", pause)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, 5*time.Second)
		b.patience = min(2*b.patience, 8*time.Second)
	}
}

// readOnce writes what the log holds that the stream has not, up to where the log is known to stand, and
// holds the jobs that may have been missed. What is asked for while it reads is left for the next time.
func (s *stream) readOnce(ctx context.Context, b *behind) (err error) {
	s.mu.Lock()
	todo := *b
	b.ask, b.since = false, 0
	s.mu.Unlock()
	defer func() {
		if err != nil && todo.ask {
			s.mu.Lock()
			b.look(todo.since - 1)
			s.mu.Unlock()
		}
	}()
	if todo.ask {
		_, last, err := s.hub.bounds.get(ctx)
		if err != nil {
			return err
		}
		todo.upTo = max(todo.upTo, last)
		if err := s.readJobs(ctx, todo); err != nil {
			return err
		}
	}
	return s.readNotes(ctx, b, todo)
}

// errNotYet says that the log, as one of its replicas has it, does not hold what was heard live.
var errNotYet = errors.New("sse: the log does not hold what was heard")

// readNotes writes the notifications that the log holds after the stream's marks, its user's and everyone's
// merged by their sequences. It stops at what was known of before: up to there both were read whole, so the
// id of what is written last speaks for both.
func (s *stream) readNotes(ctx context.Context, b *behind, todo behind) error {
	upTo := max(todo.own, todo.all, todo.upTo)
	s.mu.Lock()
	own := &cursor{hub: s.hub, user: s.feed.user(), patience: todo.patience, after: s.own, more: s.own < upTo}
	all := &cursor{hub: s.hub, user: jobs.Everyone, patience: todo.patience, after: s.all, more: s.all < upTo}
	s.mu.Unlock()
	for {
		next, err := nearer(ctx, own, all)
		if err != nil {
			return err
		}
		if next == nil || next.page[0].Seq > upTo {
			break
		}
		if n := s.writeStored(next.page[0], next == all); n > 0 {
			// A slow reader may be waited for long, and there may be many of them: they hold no pages.
			own.drop()
			all.drop()
			if err := s.waitRoom(ctx, n); err != nil {
				return err
			}
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		next.pass()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if (own.after < todo.own || all.after < todo.all) && b.tries < 6 {
		b.tries++ // a replica that lags behind; if it stays so, what was heard has been deleted since
		return errNotYet
	}
	b.tries = 0
	s.own, s.all = max(s.own, upTo), max(s.all, upTo)
	return nil
}

// writeStored writes a notification from the log, or says how many bytes of room it needs.
func (s *stream) writeStored(n jobs.Note, everyone bool) (needs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	frame := noteFrame(jobs.EventID{Epoch: s.hub.currentEpoch(), Seq: n.Seq}, max(s.own, s.all), n.Data)
	if !s.write(frame) {
		return len(frame)
	}
	*s.mark(everyone) = n.Seq
	return 0
}

// waitRoom blocks until the reader has room for n bytes, and ends the stream if it takes nothing for too long.
func (s *stream) waitRoom(ctx context.Context, n int) error {
	err := s.wire.room(ctx, n)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cut(err)
	}
	return err
}

// readJobs holds the user's jobs that were written after sequence since-1, to be written after the
// notifications. A reader drops the states it knows, by their revisions.
func (s *stream) readJobs(ctx context.Context, todo behind) error {
	ctx, done, err := s.hub.reading(ctx, todo.patience)
	if err != nil {
		return err
	}
	defer done()
	return s.hub.queue.News(ctx, s.feed.user(), todo.since-1, func(topic jobs.Topic, seq uint64, data []byte) error {
		s.send(jobFrame(topic, seq, data))
		return nil
	})
}
