package hark

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/jobs"
)

// positionTime is the timeout for the position of the inbox, which is compared with the log.
const positionTime = 5 * time.Second

// lossPeriod is how often the embedded server is checked for losses at its restarts.
const lossPeriod = time.Second

// losses are the known losses of the log, for the health check.
type losses struct {
	mu    sync.Mutex
	known []error
}

func (l *losses) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = append(l.known, err)
}

func (l *losses) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.known...)
}

// settleLog compares the log of this process's own server with what it had, before anything is accepted: nobody else can
// connect yet. A log that went back, or may have, gives sequences to messages that others had. So a new epoch begins, in
// which the ids of before mean nothing.
func (s *Server) settleLog(ctx context.Context) error {
	if s.natsd == nil {
		return nil
	}
	s.health.Add(health.Check{Part: "log", Optional: true, Check: func(context.Context) error { return s.lost() },
		Public: func(error) string { return "damaged" }})
	if err := s.settleOnce(ctx, true); err != nil {
		return err
	}
	if err := s.warnOfNewInbox(ctx); err != nil {
		return err
	}
	s.run("log", func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(lossPeriod):
			}
			if lost, _ := s.natsd.Unsettled(); len(lost) == 0 {
				continue
			}
			if err := s.settleOnce(ctx, false); err != nil && ctx.Err() == nil {
				s.log.Error("beginning a new epoch after a loss failed; retrying", "err", err)
			}
		}
	})
	return s.natsd.Listen()
}

// lost returns an error that lists the known losses of the log, or nil.
func (s *Server) lost() error {
	err := s.losses.err()
	for _, l := range s.natsd.Losses() {
		if l.Certain {
			err = errors.Join(err, errors.New(l.String()))
		}
	}
	return err
}

// settleOnce begins a new epoch if one is needed. If starting is true, it compares the inbox with the log too.
func (s *Server) settleOnce(ctx context.Context, starting bool) error {
	seen, before := s.natsd.Unsettled()
	lost := len(seen) > 0
	epoch, err := s.store.CurrentEpoch(ctx)
	if err != nil {
		return err
	}
	after := jobs.Epoch(before)
	if epoch < after {
		lost = true
		s.losses.add(fmt.Errorf("the description of the log went back from epoch %d to %d", after, epoch))
		s.log.Error("the description of the log went back", "epoch", epoch, "had", after)
	}
	if starting && s.inbox != nil {
		at, ahead, err := s.inboxAhead(ctx, epoch)
		if err != nil {
			return err
		}
		lost, after = lost || ahead, max(after, at.Epoch)
	}
	if lost {
		if epoch, err = s.store.BeginEpoch(ctx, after); err != nil {
			return err
		}
		s.log.Warn("a new epoch of the log has begun; streams that resume get a reset", "epoch", epoch)
	}
	return s.natsd.Settle(int64(epoch), seen)
}

// inboxAhead reports whether the inbox has what the log does not have any more, and how far the inbox has come. An inbox
// that does not answer has nothing to say: its ingester compares again when it does.
func (s *Server) inboxAhead(ctx context.Context, epoch jobs.Epoch) (at jobs.NotificationID, ahead bool, err error) {
	s.inbox.SetStreams(s.store.Streams())
	ask, cancel := context.WithTimeout(ctx, positionTime)
	defer cancel()
	for i := range s.store.Streams() {
		in, before, err := s.streamAhead(ctx, ask, i, epoch)
		if err != nil {
			return at, false, err
		}
		ahead = ahead || before
		if in.Epoch >= at.Epoch {
			at = in
		}
	}
	return at, ahead, nil
}

// streamAhead is inboxAhead for one stream of the log.
func (s *Server) streamAhead(ctx, ask context.Context, stream int, epoch jobs.Epoch) (at jobs.NotificationID, ahead bool, err error) {
	_, last, err := s.store.Bounds(ctx, stream)
	if err != nil {
		return at, false, err
	}
	if at, err = s.inbox.PositionIn(ask, stream); err != nil {
		s.log.Warn("the inbox cannot be compared with the log at the start", "err", err)
		return jobs.NotificationID{}, false, ctx.Err()
	}
	if at.Epoch < epoch || at.Epoch == epoch && at.Seq <= last {
		return at, false, nil
	}
	s.losses.add(fmt.Errorf("the inbox has come to %s, and the log of epoch %d ends at %d", at, epoch, last))
	s.log.Error("something that was stored is lost: the inbox has what the log does not have any more",
		"inbox", at, "inbox_epoch", at.Epoch, "epoch", epoch, "last", last)
	return at, true, nil
}

// warnOfNewInbox logs that the inbox is missing or empty although there is a log: a power cut leaves an empty file.
func (s *Server) warnOfNewInbox(ctx context.Context) error {
	if s.inboxLacks == "" {
		return nil
	}
	for i := range s.store.Streams() {
		_, last, err := s.store.Bounds(ctx, i)
		if err != nil {
			return err
		}
		if last > 0 {
			s.log.Warn("there is a log, and the inbox.db beside it is "+s.inboxLacks+
				"; it is filled again from the log, without what was read, deleted, or is no longer in the log", "last", last)
			return nil
		}
	}
	return nil
}
