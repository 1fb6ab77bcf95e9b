package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// readBatch is the number of messages of a fetch. They are in memory together; a chunk of a file has 128 KiB.
	readBatch = 100
	// progressInterval is the interval of log lines about the progress.
	progressInterval = 5 * time.Second
)

// errLost says that a message was lost. Reading continues after the last one that has arrived.
var errLost = errors.New("a message was lost on the way")

// streamReader reads a stream to its end.
type streamReader struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	w      *messageWriter

	consumer  jetstream.Consumer // nil before the next one is opened
	delivered uint64             // the consumer's sequence of the last message
	pending   uint64             // the number of messages after the last one, when the server sent it
	at        uint64             // the stream's sequence of the last message
}

// readAll writes all messages of stream to w. It ends when it has caught up with the writers: at that moment each message that
// is not in w was replaced by one in w, or was deleted, or has expired.
func readAll(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, w *messageWriter, log *slog.Logger) error {
	r := &streamReader{js: js, stream: stream, w: w}
	defer r.closeConsumer(ctx)
	// The consumer may read from a lagging replica. It must read at least up to the leader's last sequence.
	target, err := r.lastSeq(ctx, log)
	if err != nil {
		return err
	}
	moved, logged, caughtUp := time.Now(), time.Now(), false
	for {
		n, err := r.batch(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n > 0 {
			moved = time.Now()
		}
		if time.Since(logged) > progressInterval {
			logged = time.Now()
			log.Info("backup: reading", "stream", stream.CachedInfo().Config.Name, "messages", w.messages, "bytes", w.bytes, "to_read", r.pending)
		}
		var bad *writeError
		switch {
		case errors.As(err, &bad):
			return bad.err
		case err != nil && time.Since(moved) > retryTimeout:
			return err
		case err != nil:
			log.Warn("backup: reading failed; retrying", "stream", stream.CachedInfo().Config.Name, "after", r.at, "err", err)
			r.closeConsumer(ctx)
			sleep(ctx, 500*time.Millisecond)
		case n == 0:
			// No message came: either there is none, or the server was too slow.
			last, err := r.lastSeq(ctx, log)
			if err != nil {
				return err
			}
			if last <= r.at {
				return nil
			}
			if time.Since(moved) > retryTimeout {
				return fmt.Errorf("no message arrives after %d, and the last one is %d", r.at, last)
			}
			sleep(ctx, 100*time.Millisecond)
		case r.at < target:
		case caughtUp:
			return nil
		case r.pending == 0:
			// The server counts a pending message a moment after it has stored it. Another check covers that moment.
			caughtUp = true
			if target, err = r.lastSeq(ctx, log); err != nil {
				return err
			}
			if target <= r.at {
				return nil
			}
		}
	}
}

// writeError is an error of the disk, which is not retried.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }

// batch reads up to readBatch messages. It does not wait for messages.
func (r *streamReader) batch(ctx context.Context) (n int, err error) {
	if r.consumer == nil {
		if err := r.openConsumer(ctx); err != nil {
			return 0, err
		}
	}
	fetched, err := r.consumer.FetchNoWait(readBatch)
	if err != nil {
		return 0, err
	}
	for m := range fetched.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return n, err
		}
		r.delivered++
		if meta.Sequence.Consumer != r.delivered {
			return n, errLost
		}
		if err := r.w.write(m.Subject(), meta.Sequence.Stream, meta.Timestamp, m.Headers(), m.Data()); err != nil {
			return n, &writeError{err}
		}
		r.at, r.pending = meta.Sequence.Stream, meta.NumPending
		n++
	}
	return n, fetched.Error()
}

func (r *streamReader) openConsumer(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r.consumer, err = r.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Description:   "reads a backup",
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.at + 1,
		AckPolicy: jetstream.AckNonePolicy, Replicas: 1, MemoryStorage: true,
		InactiveThreshold: 5 * time.Minute, // longer than any disk blocks
	})
	r.delivered = 0
	if err != nil {
		r.consumer = nil
		return fmt.Errorf("create a consumer: %w", err)
	}
	return nil
}

func (r *streamReader) closeConsumer(ctx context.Context) {
	if r.consumer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	// If this fails, the server deletes the consumer after five minutes.
	_ = r.stream.DeleteConsumer(ctx, r.consumer.CachedInfo().Name)
	r.consumer = nil
}

// lastSeq asks the stream's leader for the sequence of the last stored message; 0 if there is none.
func (r *streamReader) lastSeq(ctx context.Context, log *slog.Logger) (uint64, error) {
	var answer struct {
		Message struct {
			Seq uint64 `json:"seq"`
		} `json:"message"`
	}
	err := retry(ctx, log, func() error {
		return call(ctx, r.js, callTimeout, "STREAM.MSG.GET."+r.stream.CachedInfo().Config.Name, map[string]string{"last_by_subj": ">"}, &answer)
	})
	if isAPIError(err, errNoMessage) {
		return 0, nil
	}
	return answer.Message.Seq, err
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
