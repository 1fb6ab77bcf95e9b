package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// readBatch is the largest number of messages in a transaction.
const readBatch = 1000

// Messages have up to 1 MiB, and the server cuts a connection as a slow consumer before it has sent a thousand of those. So a
// reader begins with firstBatch messages, doubles the number while a batch has less than smallBatch bytes, and quarters it when
// a batch has more than largeBatch bytes. After a cut it begins with firstBatch again.
const (
	firstBatch = 16
	smallBatch = 1 << 20
	largeBatch = 4 << 20
)

// batchDelay is how long the reader waits for more messages after the first, unless a whole batch is pending. A
// transaction has a fixed cost, and a message in a batch costs the server and this process less. Live messages take
// another path, and callers that wait for the inbox end the delay.
const batchDelay = 100 * time.Millisecond

// errReread says that a message has not come from the server to this process: reading must start again at the position.
var errReread = errors.New("a message has not arrived; reading again")

// message is a stored notification.
type message struct {
	subject string
	seq     uint64
	stored  time.Time
	data    []byte
}

// reader reads the stream's notifications from a sequence on, in order and without gaps.
//
// Its consumer has no acks and is in the server's memory, since the position is in the database. A message that was lost with a
// connection is not redelivered. The reader notices the gap, and the ingester starts again at its position. A reader is not safe
// for concurrent use.
type reader struct {
	stream     jetstream.Stream
	consumer   jetstream.Consumer
	batchDelay time.Duration
	flush      <-chan struct{} // ends a delay
	batch      uint64          // the largest number of messages of the next read
	pending    uint64          // the messages after the last one, when the server sent it
	delivered  uint64          // the consumer's sequence of the last message
	expected   uint64          // the consumer's sequence of the last message, as the server reported at the last check
	err        error           // ends the reading
}

// openReader returns a reader of the messages on the subjects after a sequence. It creates a consumer.
func openReader(ctx context.Context, stream jetstream.Stream, subjects string, after uint64) (*reader, error) {
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Description:   "fills the inbox; its position is in the database",
		FilterSubject: subjects,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
		AckPolicy: jetstream.AckNonePolicy,
		Replicas:  1, MemoryStorage: true,
		InactiveThreshold: time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("create a consumer: %w", err)
	}
	return &reader{stream: stream, consumer: consumer, batch: firstBatch}, nil
}

// close removes the consumer.
func (r *reader) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	// If this fails, the server deletes the consumer after a minute.
	_ = r.stream.DeleteConsumer(ctx, r.consumer.CachedInfo().Name)
}

// next blocks until there are messages and returns up to readBatch of them. After wait it returns none.
func (r *reader) next(ctx context.Context, wait time.Duration) ([]message, error) {
	msgs, err := r.read(ctx, wait)
	size := 0
	for _, m := range msgs {
		size += len(m.data)
	}
	switch {
	case size > largeBatch:
		r.batch = max(r.batch/4, firstBatch)
	case size < smallBatch:
		r.batch = min(2*r.batch, readBatch)
	}
	return msgs, err
}

func (r *reader) read(ctx context.Context, wait time.Duration) ([]message, error) {
	if r.err != nil {
		return nil, r.err
	}
	var msgs []message
	if r.pending < r.batch {
		first, err := r.first(ctx, wait)
		if err != nil {
			return nil, err
		}
		if len(first) == 0 {
			return nil, r.verifyIdle(ctx)
		}
		if r.err != nil {
			return first, nil
		}
		msgs = append(make([]message, 0, min(r.pending+1, r.batch)), first...)
	}
	if r.pending < r.batch-1 {
		r.waitBatch(ctx)
	}
	r.pending = 0 // until a message has another number
	fetched, err := r.consumer.FetchNoWait(int(r.batch) - len(msgs))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return r.receive(ctx, msgs, fetched)
}

// first waits for one message. After wait it returns none.
func (r *reader) first(ctx context.Context, wait time.Duration) ([]message, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	one, err := r.consumer.Fetch(1, jetstream.FetchContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return r.receive(ctx, nil, one)
}

// waitBatch waits for more messages: for the batch delay, or until a flush is requested.
func (r *reader) waitBatch(ctx context.Context) {
	timer := time.NewTimer(r.batchDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.flush:
	case <-ctx.Done():
	}
}

// receive appends the fetched messages to msgs. It checks that there is no gap.
func (r *reader) receive(ctx context.Context, msgs []message, fetched jetstream.MessageBatch) ([]message, error) {
	for m := range fetched.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		r.delivered++
		if meta.Sequence.Consumer != r.delivered {
			return r.end(msgs, errReread)
		}
		r.pending = meta.NumPending
		msgs = append(msgs, message{m.Subject(), meta.Sequence.Stream, meta.Timestamp, m.Data()})
	}
	if err := fetched.Error(); err != nil && ctx.Err() == nil {
		return r.end(msgs, fmt.Errorf("read: %w", err))
	}
	return msgs, nil
}

// end returns the messages that were read before a failure. Without messages it returns the error, else the next read does.
func (r *reader) end(msgs []message, err error) ([]message, error) {
	if len(msgs) == 0 {
		return nil, err
	}
	r.err = err
	return msgs, nil
}

// verifyIdle asks the server, when no message has come for a while, whether it has delivered any. It returns errReread if a
// message that was delivered before the last call has not arrived.
func (r *reader) verifyIdle(ctx context.Context) error {
	if r.delivered < r.expected {
		return errReread
	}
	ctx, cancel := context.WithTimeout(ctx, leaseTick)
	defer cancel()
	info, err := r.consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("read the state of the consumer: %w", err)
	}
	r.expected = info.Delivered.Consumer
	return nil
}
