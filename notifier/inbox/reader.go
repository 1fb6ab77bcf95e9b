package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// noteSubjects matches what [jobs.NoteSubject] makes, for every user.
const noteSubjects = "hark.*.note"

// readBatch is how many messages go into one transaction at most.
const readBatch = 1000

// Messages may be of any size up to 1 MiB, and a thousand of those are more than the server keeps for a connection before
// it cuts it off. So a reader begins with firstBatch, doubles that while a batch has less than smallBatch bytes, and
// goes down to a quarter when it has more than largeBatch. One that was cut off begins anew, and gets on.
const (
	firstBatch = 16
	smallBatch = 1 << 20
	largeBatch = 4 << 20
)

// gather is how long the reader rests when a message came, unless a whole batch is there: a transaction costs
// by itself, whatever is in it, and messages that are fetched together cost the server and this process less
// than one by one. What is live has another way, and who waits for the log ends the rest.
const gather = 100 * time.Millisecond

// errReread says that a message was lost on its way here: reading must start again at the position.
var errReread = errors.New("a message was lost on the way; reading again")

// message is a stored notification as it was read.
type message struct {
	subject string
	seq     uint64
	stored  time.Time
	data    []byte
}

// reader reads the stream's notifications, in order and without gaps, from one sequence on.
//
// Its consumer acks nothing and lives in the server's memory, since the position is in the database: a
// message that was lost with a connection is not sent again, but seen to be missing, and the filler
// begins anew at its position. It is not safe for concurrent use.
type reader struct {
	stream    jetstream.Stream
	consumer  jetstream.Consumer
	gather    time.Duration
	wanted    <-chan struct{} // ends a rest
	batch     uint64          // how many messages are read next at most
	behind    uint64          // how many messages stood behind the last one when it was sent
	delivered uint64          // the consumer's sequence of the last message
	promised  uint64          // what the server said it had delivered when it was last asked
}

// openReader makes a reader of what stands behind the sequence after.
func openReader(ctx context.Context, stream jetstream.Stream, after uint64) (*reader, error) {
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Description:   "fills the inbox; its position is in the database",
		FilterSubject: noteSubjects,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
		AckPolicy: jetstream.AckNonePolicy,
		Replicas:  1, MemoryStorage: true,
		InactiveThreshold: time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("make a consumer: %w", err)
	}
	return &reader{stream: stream, consumer: consumer, batch: firstBatch}, nil
}

// close removes the consumer.
func (r *reader) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	// The server removes what this does not, after a minute.
	_ = r.stream.DeleteConsumer(ctx, r.consumer.CachedInfo().Name)
}

// next blocks until there are messages and returns them, readBatch at most. It returns none after wait.
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
	var msgs []message
	if r.behind < r.batch {
		first, err := r.first(ctx, wait)
		if err != nil {
			return nil, err
		}
		if len(first) == 0 {
			return nil, r.check(ctx)
		}
		msgs = append(make([]message, 0, min(r.behind+1, r.batch)), first...)
	}
	if r.behind < r.batch-1 {
		r.rest(ctx)
	}
	r.behind = 0 // until a message says otherwise
	there, err := r.consumer.FetchNoWait(int(r.batch) - len(msgs))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return r.take(ctx, msgs, there)
}

// first waits for one message; it returns none if none came.
func (r *reader) first(ctx context.Context, wait time.Duration) ([]message, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	one, err := r.consumer.Fetch(1, jetstream.FetchContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return r.take(ctx, nil, one)
}

// rest waits for more to come.
func (r *reader) rest(ctx context.Context) {
	timer := time.NewTimer(r.gather)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.wanted:
	case <-ctx.Done():
	}
}

// take adds to msgs what was fetched.
func (r *reader) take(ctx context.Context, msgs []message, fetched jetstream.MessageBatch) ([]message, error) {
	for m := range fetched.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		if r.delivered++; meta.Sequence.Consumer != r.delivered {
			return nil, errReread
		}
		r.behind = meta.NumPending
		msgs = append(msgs, message{m.Subject(), meta.Sequence.Stream, meta.Timestamp, m.Data()})
	}
	if err := fetched.Error(); err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return msgs, nil
}

// check asks the server, after nothing came for a while, whether that is because there was nothing. What
// it had delivered at the last check should have come by now.
func (r *reader) check(ctx context.Context) error {
	if r.delivered < r.promised {
		return errReread
	}
	ctx, cancel := context.WithTimeout(ctx, claimTick)
	defer cancel()
	info, err := r.consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("ask about the consumer: %w", err)
	}
	r.promised = info.Delivered.Consumer
	return nil
}
