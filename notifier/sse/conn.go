package sse

import (
	"context"
	"errors"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// conn sends frames to one reader. Its methods are safe for concurrent use.
type conn interface {
	// send queues or writes a frame, with a position as its id unless that is zero. It does not block. It returns
	// errSlowConsumer if there is no room, and errGone or another error if the connection is closed. The frame must not be
	// changed afterwards: other streams have it, too.
	send(id jobs.Position, frame []byte) error
	// waitWritable blocks until half of the backlog is free and a frame of n bytes fits. It returns
	// errSlowConsumer after [Options.WriteTimeout] without progress, errGone if the connection is closed, and
	// ctx.Err if ctx ends. A poll session does not block: without room it returns errWaitForPoll.
	waitWritable(ctx context.Context, n int) error
	// replayEnded is called when the stream has stopped reading the log: it is live, paused or ended.
	replayEnded()
	// close closes the connection once the pending frames are written, and at the latest after closeTimeout. It
	// does not block, and may be called more than once.
	close()
}

var (
	errSlowConsumer = errors.New("sse: slow consumer")
	errGone         = errors.New("sse: connection closed")
)

// minProgressShare is the divisor of the backlog: a reader must take that part of it in each
// [Options.WriteTimeout], unless it takes all that is pending.
const minProgressShare = 4

// closeTimeout is the time for the pending frames after close.
const closeTimeout = time.Second
