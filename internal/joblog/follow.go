package joblog

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Follower reads which messages a stream of the log has stored, in order and without their bodies. It uses a consumer of its own
// in the server's memory, which exists only while there are messages to read. A Follower is for one goroutine at a time.
type Follower struct {
	store     *Store
	stream    int
	at        uint64             // the last message that was read
	consumer  jetstream.Consumer // nil until there is something to read
	delivered uint64             // the consumer's sequence of that message
	silent    int                // fetches in a row without an expected message
	answerErr error              // nil if the leader has answered the last call of Read
}

const (
	// followBatch is how many messages one fetch reads.
	followBatch = 1024
	// followAsk is the timeout of the request for the end of the log.
	followAsk = time.Second
	// followSilent is how many fetches in a row may return nothing of what the stream has, before the consumer is
	// replaced.
	followSilent = 10
	// followPause is the pause after a fetch that returned nothing.
	followPause = 50 * time.Millisecond
	// followIdle is how long the server keeps an idle consumer.
	followIdle = time.Minute
)

// Follow returns a Follower of the messages of a stream, by its number, after a sequence. It does not block.
func (q *Store) Follow(stream int, after uint64) *Follower {
	return &Follower{store: q, stream: stream, at: after}
}

// At returns the sequence of the last message that was read.
func (f *Follower) At() uint64 { return f.at }

// AnswerErr returns nil if the leader of the stream has answered the last call of Read, also if that then failed. Otherwise the error
// says why not, such as [ErrCutOff].
func (f *Follower) AnswerErr() error { return f.answerErr }

// Read calls each for every message that was stored since the last call, with its live subject. It blocks for one round
// trip if there is none, and for several if there are. After an error, the next call continues after the last message
// that was read. When a server lags, some messages are returned by a later call.
func (f *Follower) Read(ctx context.Context, each func(liveSubject string, seq uint64)) error {
	last, err := f.last(ctx)
	f.answerErr = err
	if err != nil || last <= f.at {
		return err
	}
	if err := f.open(ctx); err != nil {
		return fmt.Errorf("joblog: follow: %w", err)
	}
	for f.at < last && ctx.Err() == nil {
		n, err := f.fetch(each)
		if err != nil {
			f.consumer = nil // the server removes it when it is idle
			return fmt.Errorf("joblog: follow: %w", err)
		}
		if n > 0 {
			f.silent = 0
			continue
		}
		f.silent++
		if f.silent > followSilent {
			f.consumer = nil
			break
		}
		select { // a new consumer may not be on all servers yet, or its server lags
		case <-ctx.Done():
		case <-time.After(followPause):
		}
	}
	return ctx.Err()
}

// last returns the last sequence of the stream. The timeout is short: a request that is lost on a route between two servers
// is never answered.
func (f *Follower) last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, followAsk)
	defer cancel()
	_, last, err := f.store.Bounds(ctx, f.stream)
	return last, err
}

// open creates the consumer if there is none.
func (f *Follower) open(ctx context.Context) (err error) {
	if f.consumer != nil {
		return nil
	}
	stream, err := f.store.stream(f.stream)
	if err != nil {
		return err
	}
	f.delivered, f.silent = 0, 0
	f.consumer, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Description:   "hark: stored sequences, for a notifier to find lost live messages",
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: f.at + 1,
		AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true,
		Replicas: 1, MemoryStorage: true, InactiveThreshold: followIdle,
	})
	return err
}

func (f *Follower) fetch(each func(liveSubject string, seq uint64)) (n int, err error) {
	batch, err := f.consumer.FetchNoWait(followBatch)
	if err != nil {
		return 0, err
	}
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return n, err
		}
		f.delivered++
		if meta.Sequence.Consumer != f.delivered {
			return n, errGap
		}
		f.at = meta.Sequence.Stream
		n++
		each(LiveOf(m.Subject()), f.at)
	}
	return n, batch.Error()
}

// Close deletes the consumer. It blocks for one round trip, at most a second.
func (f *Follower) Close() {
	if f.consumer == nil || !f.store.nc.IsConnected() {
		return // the server removes it when it is idle
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	info := f.consumer.CachedInfo()
	_ = f.store.js.DeleteConsumer(ctx, info.Stream, info.Name)
	f.consumer = nil
}
