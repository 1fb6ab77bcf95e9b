package sse

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// catchUp is the state of a stream that reads the log. stream.mu guards it.
type catchUp struct {
	goal
	tries         int           // consecutive reads that did not find what was received live
	readTimeout   time.Duration // of one read of the log
	deferred      []update      // to be written after the notifications
	deferredBytes int           // the size of deferred
	missed        []string      // the topics in the deferred missed event
	full          bool          // there was no room for a live event: there is none until the stream is live
	hadRoom       bool          // half of the backlog was free after that
	cancel        func()        // stops the replay; nil before it starts
	paused        bool          // the replay waits for the next poll
	roomNeeded    int           // bytes that the replay waits to write
}

// goal is what must be read from the log.
type goal struct {
	// The greatest sequences that the log is known to hold: received live meanwhile, or named by its leader. So those
	// notifications need not be kept.
	ownHeard, broadcastHeard uint64
	upTo                     uint64 // the notifications up to this sequence; 0 means none
	jobsSince                uint64 // the jobs stored at or after this sequence, and all notifications up to the end; 0 means neither
}

// deferUpdate keeps an update until the stream is live. An update replaces an older one with the same key. Updates
// may come out of order, since they come live and from the log.
func (c *catchUp) deferUpdate(u update) {
	for i := range c.deferred {
		if have := &c.deferred[i]; u.key != "" && have.key == u.key {
			if u.seq >= have.seq {
				c.deferredBytes += len(u.frame) - len(have.frame)
				*have = u
			}
			return
		}
	}
	c.deferredBytes += len(u.frame)
	c.deferred = append(c.deferred, u)
}

// heard adds a notification that the log is known to hold.
func (g *goal) heard(everyone bool, seq uint64) {
	if everyone {
		g.broadcastHeard = max(g.broadcastHeard, seq)
	} else {
		g.ownHeard = max(g.ownHeard, seq)
	}
}

// request adds the jobs stored at or after a sequence, and all notifications up to the end of the log.
func (g *goal) request(jobsSince uint64) {
	if g.jobsSince == 0 || jobsSince < g.jobsSince {
		g.jobsSince = jobsSince
	}
}

// goLiveLocked makes the stream live if nothing is left to read and the deferred updates fit the connection. It
// reports whether the replay is over: the stream is live or has ended.
func (s *stream) goLiveLocked(c *catchUp) bool {
	if s.ended || c.full && !c.hadRoom || c.jobsSince > 0 || c.upTo > 0 || s.at.Own < c.ownHeard || s.at.All < c.broadcastHeard {
		return s.ended
	}
	for len(c.deferred) > 0 {
		if !s.writeLocked(jobs.Position{}, c.deferred[0].frame) {
			return false
		}
		if s.ended {
			return true
		}
		c.deferredBytes -= len(c.deferred[0].frame)
		s.hub.pendingBytes.Add(-int64(len(c.deferred[0].frame)))
		c.deferred[0].frame = nil
		c.deferred = c.deferred[1:]
	}
	s.catchUp = nil
	return true
}

// replay reads the log and writes what the stream has missed, until the stream is live or ends, or the replay is
// paused. It retries with a growing pause while the log cannot be read.
func (s *stream) replay(ctx context.Context, c *catchUp) {
	defer s.conn.replayEnded()
	defer c.cancel()
	for pause := 20 * time.Millisecond; ; {
		// A request that was lost with its connection gets no answer. A busy server answers late, so the timeout grows.
		c.readTimeout = max(c.readTimeout, time.Second)
		err := s.replayOnce(ctx, c)
		s.mu.Lock()
		over := s.ended || err == nil && s.goLiveLocked(c)
		var next int // bytes of the next frame
		if len(c.deferred) > 0 {
			next = len(c.deferred[0].frame)
		}
		s.mu.Unlock()
		if over {
			return
		}
		if err == nil {
			c.readTimeout = 0
			err = s.waitWritable(ctx, next)
			if err == nil {
				s.mu.Lock()
				c.hadRoom = true
				s.mu.Unlock()
				pause = 20 * time.Millisecond
				continue // more has come meanwhile, or the connection had no room
			}
			if !errors.Is(err, errWaitForPoll) {
				return
			}
		}
		if errors.Is(err, errWaitForPoll) {
			if s.pauseReplay(c) {
				return
			}
			continue
		}
		if ctx.Err() == nil && !errors.Is(err, errReplicaLagging) {
			s.hub.failedReads.warn(s.hub.log, err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, 2*time.Second)
		c.readTimeout = min(2*c.readTimeout, 8*time.Second)
	}
}

// failedReads logs that streams cannot read the log. When they cannot, all of them try again within a second or two, so there is
// one line per second at most. It is safe for concurrent use.
type failedReads struct {
	mu       sync.Mutex
	logged   time.Time // the last line
	unlogged int       // failures since then
}

func (f *failedReads) warn(log *slog.Logger, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unlogged++
	if time.Since(f.logged) < time.Second {
		return
	}
	log.Warn("catch up failed: log not readable; retrying", "err", err, "failures", f.unlogged)
	f.logged, f.unlogged = time.Now(), 0
}

// replayOnce reads the log once, up to the goal that there is when it begins. A request that arrives meanwhile is left
// for the next call. If the read fails, so is the one that it began with.
func (s *stream) replayOnce(ctx context.Context, c *catchUp) error {
	s.mu.Lock()
	todo := c.goal
	c.jobsSince, c.upTo = 0, 0
	s.mu.Unlock()
	err := s.replayTo(ctx, c, todo)
	if err != nil {
		s.mu.Lock()
		if c.upTo = max(c.upTo, todo.upTo); todo.jobsSince > 0 {
			c.request(todo.jobsSince)
		}
		s.mu.Unlock()
	}
	return err
}

// replayTo defers the jobs that may have been missed, and writes the notifications.
func (s *stream) replayTo(ctx context.Context, c *catchUp, todo goal) error {
	if todo.jobsSince > 0 {
		_, last, err := s.hub.sourceOf(s.user.token).bounds.get(ctx)
		if err != nil {
			return err
		}
		todo.upTo = max(todo.upTo, last)
		if err := s.replayJobs(ctx, c, todo.jobsSince); err != nil {
			return err
		}
	}
	return s.replayNotifications(ctx, c, todo)
}

// errReplicaLagging says that the log does not hold a message that was received live. The replica that answered
// may lag behind.
var errReplicaLagging = errors.New("sse: the log does not hold a message that was received live")

// replayNotifications writes the notifications after the stream's marks: the user's and the broadcasts, merged
// by sequence. It stops at a sequence that was known before it began. Both logs are read up to there, so that they are
// written in order.
func (s *stream) replayNotifications(ctx context.Context, c *catchUp, todo goal) error {
	upTo := max(todo.ownHeard, todo.broadcastHeard, todo.upTo)
	s.mu.Lock()
	own := &cursor{hub: s.hub, user: s.user.name(), readTimeout: c.readTimeout, after: s.at.Own, more: s.at.Own < upTo}
	all := &cursor{hub: s.hub, user: s.user.name(), everyone: true, readTimeout: c.readTimeout, after: s.at.All, more: s.at.All < upTo}
	s.mu.Unlock()
	for {
		next, err := earlierCursor(ctx, own, all)
		if err != nil {
			return err
		}
		if next == nil || next.page[0].Seq > upTo {
			break
		}
		if n := s.writeStored(next.page[0], next == all); n > 0 {
			// The wait for a slow reader may be long, and there may be many: pages are not kept meanwhile.
			own.discardPage()
			all.discardPage()
			if err := s.waitWritable(ctx, n); err != nil {
				return err
			}
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		next.advance()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lagging := own.after < todo.ownHeard || all.after < todo.broadcastHeard
	if lagging && c.tries < 6 {
		c.tries++
		return errReplicaLagging
	}
	c.tries = 0
	if lagging { // after six tries the message has been deleted since
		s.at.Own, s.at.All = max(s.at.Own, todo.ownHeard), max(s.at.All, todo.broadcastHeard)
	}
	return nil
}

// writeStored writes a notification from the log. Without room it returns the bytes that it needs.
func (s *stream) writeStored(n joblog.StoredNotification, everyone bool) (needs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := jobs.Everyone
	if !everyone {
		of = s.user.name()
	}
	frame := s.hub.notificationFrame(s.hub.ns.NotificationSubject(of), jobs.NotificationID{Epoch: s.at.Epoch, Seq: n.Seq}, n.Data)
	if !s.writeNotificationLocked(everyone, n.Seq, frame) {
		return maxIDLine + len(frame)
	}
	return 0
}

// waitWritable blocks until the connection has room for n bytes. It cuts the stream if the reader is too slow or
// gone. It returns errWaitForPoll if the replay must be paused.
func (s *stream) waitWritable(ctx context.Context, n int) error {
	err := s.conn.waitWritable(ctx, n)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if errors.Is(err, errWaitForPoll) {
			s.catchUp.roomNeeded = n
		} else {
			s.cutLocked(err)
		}
	}
	return err
}

// pauseReplay pauses the replay until resumeReplay. It returns false if there is room by now: a poll may have come
// before the pause.
func (s *stream) pauseReplay(c *catchUp) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended && s.conn.waitWritable(context.Background(), c.roomNeeded) == nil {
		return false
	}
	c.paused = true
	return true
}

// resumeReplay resumes a paused replay if there is room now.
func (s *stream) resumeReplay() {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.catchUp
	if s.ended || c == nil || !c.paused || s.conn.waitWritable(context.Background(), c.roomNeeded) != nil {
		return
	}
	c.paused = false
	s.startReplayLocked()
}

// replayIdle reports whether no replay is running.
func (s *stream) replayIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended || s.catchUp == nil || s.catchUp.paused
}

// replayJobs defers the user's jobs stored at or after a sequence. A reader compares revisions and drops the states
// that it has.
func (s *stream) replayJobs(ctx context.Context, c *catchUp, since uint64) error {
	ctx, done, err := s.hub.acquireLogReader(ctx, c.readTimeout)
	if err != nil {
		return err
	}
	defer done()
	return s.hub.queue.JobMessages(ctx, s.user.name(), since-1, func(subject string, seq uint64, data []byte) error {
		s.sendUpdate(s.hub.jobUpdate(subject, seq, data))
		return nil
	})
}
