package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// noteSubjects matches what [jobs.NoteSubject] makes, for every user.
const noteSubjects = "hark.*.note"

// readBatch is how many messages are read ahead, and how many go into one transaction at most.
const readBatch = 1000

// gather is how long a batch that is not full is waited for after its first message, since each transaction
// costs by itself, whatever is in it. Nobody notices: what is live has another way, and to a user who reads
// and marks a notification at once the answer comes so much later at worst.
const gather = 20 * time.Millisecond

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
	it        jetstream.MessagesContext
	delivered uint64 // the consumer's sequence of the last message
	promised  uint64 // what the server said it had delivered when it was last asked
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
	it, err := consumer.Messages(jetstream.PullMaxMessages(readBatch))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return &reader{stream: stream, consumer: consumer, it: it}, nil
}

// close stops reading and removes the consumer.
func (r *reader) close(ctx context.Context) {
	r.it.Stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	// The server removes what this does not, after a minute.
	_ = r.stream.DeleteConsumer(ctx, r.consumer.CachedInfo().Name)
}

// next blocks until there are messages and returns them, readBatch at most. It returns none after wait.
func (r *reader) next(ctx context.Context, wait time.Duration) ([]message, error) {
	msgs, err := r.take(ctx, nil, 1, wait)
	if err == nil && len(msgs) == 0 {
		return nil, r.check(ctx)
	}
	if err == nil {
		msgs, err = r.take(ctx, msgs, readBatch, gather)
	}
	return msgs, err
}

// take adds to msgs what comes within this time, until there are so many.
func (r *reader) take(ctx context.Context, msgs []message, most int, within time.Duration) ([]message, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for len(msgs) < most {
		m, err := r.one(ctx)
		if err != nil {
			return nil, err
		}
		if m == nil {
			break
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		if r.delivered++; meta.Sequence.Consumer != r.delivered {
			return nil, errReread
		}
		msgs = append(msgs, message{m.Subject(), meta.Sequence.Stream, meta.Timestamp, m.Data()})
	}
	return msgs, nil
}

// one returns the next message, or nil if none came before the deadline of ctx.
func (r *reader) one(ctx context.Context) (jetstream.Msg, error) {
	m, err := r.it.Next(jetstream.NextContext(ctx))
	switch {
	case err == nil:
		return m, nil
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return nil, nil
	}
	return nil, fmt.Errorf("read: %w", err)
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
