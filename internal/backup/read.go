package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// readBatch is how many messages are asked for at once. They are in memory together, and a chunk of a file has
	// 128 KiB.
	readBatch = 100
	// progressEvery is how often the log hears how far it is.
	progressEvery = 5 * time.Second
)

// errLost says that a message did not arrive: reading goes on behind the last one that did.
var errLost = errors.New("a message was lost on the way")

// streamReader reads a stream to its end.
type streamReader struct {
	nc     *nats.Conn
	stream jetstream.Stream
	w      *messageWriter

	consumer  jetstream.Consumer // nil when there is to be another one
	delivered uint64             // the consumer's sequence of the last message
	pending   uint64             // how many messages stood behind the last one when it was sent
	at        uint64             // the stream's sequence of the last message
}

// readAll writes all messages of stream. It ends when it has caught up with what is written meanwhile: at that moment,
// each message that is not in w, or is there no more, had been replaced by one in w, had been deleted, or had expired.
func readAll(ctx context.Context, nc *nats.Conn, stream jetstream.Stream, w *messageWriter, log *slog.Logger) error {
	r := &streamReader{nc: nc, stream: stream, w: w}
	defer r.closeConsumer(ctx)
	// The consumer may read from a replica that lags. The leader says how far it has to read at least.
	target, err := r.lastSeq(ctx, log)
	if err != nil {
		return err
	}
	moved, told, caughtUp := time.Now(), time.Now(), false
	for {
		n, err := r.batch(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n > 0 {
			moved = time.Now()
		}
		if time.Since(told) > progressEvery {
			told = time.Now()
			log.Info("backup: reading", "stream", stream.CachedInfo().Config.Name, "messages", w.messages, "bytes", w.bytes, "to_read", r.pending)
		}
		var bad *writeError
		switch {
		case errors.As(err, &bad):
			return bad.err
		case err != nil && time.Since(moved) > patience:
			return err
		case err != nil:
			log.Warn("backup: reading again", "stream", stream.CachedInfo().Config.Name, "after", r.at, "err", err)
			r.closeConsumer(ctx)
			sleep(ctx, 500*time.Millisecond)
		case n == 0:
			// Nothing came, which may be since nothing is there, or was too slow.
			last, err := r.lastSeq(ctx, log)
			if err != nil {
				return err
			}
			if last <= r.at {
				return nil
			}
			if time.Since(moved) > patience {
				return fmt.Errorf("no message comes after %d, and the last is %d", r.at, last)
			}
			sleep(ctx, 100*time.Millisecond)
		case r.at < target:
		case caughtUp:
			return nil
		case r.pending == 0:
			// The server counts what is pending a moment after it has stored it. One more look covers that moment.
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

// writeError is an error of the disk: nothing to try again.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }

// batch reads some messages, and none if there are none.
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
		if r.delivered++; meta.Sequence.Consumer != r.delivered {
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
		return fmt.Errorf("make a consumer: %w", err)
	}
	return nil
}

func (r *streamReader) closeConsumer(ctx context.Context) {
	if r.consumer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	// The server removes what this does not, after five minutes.
	_ = r.stream.DeleteConsumer(ctx, r.consumer.CachedInfo().Name)
	r.consumer = nil
}

// lastSeq asks the stream's leader for the sequence of the last message that is there; 0 if there is none.
func (r *streamReader) lastSeq(ctx context.Context, log *slog.Logger) (uint64, error) {
	var answer struct {
		Message struct {
			Seq uint64 `json:"seq"`
		} `json:"message"`
	}
	err := persist(ctx, log, func() error {
		return call(ctx, r.nc, callTimeout, "STREAM.MSG.GET."+r.stream.CachedInfo().Config.Name, map[string]string{"last_by_subj": ">"}, &answer)
	})
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == errNoMessage {
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
