package joblog

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// EpochOf returns the epoch of a stream from its creation time and metadata. All processes read it there, so they agree.
func EpochOf(created time.Time, metadata map[string]string) jobs.Epoch {
	begun, err := strconv.ParseInt(metadata[epochKey], 10, 64)
	if err != nil {
		begun = 0 // no epoch was begun since the stream was created
	}
	return jobs.Epoch(max(created.UnixMilli(), begun))
}

func epochOf(info *jetstream.StreamInfo) jobs.Epoch {
	return EpochOf(info.Created, info.Config.Metadata)
}

// Epoch returns the last known epoch of the log: each call that asks for a stream of it learns its epoch. It does not
// block.
func (q *Store) Epoch() jobs.Epoch { return jobs.Epoch(q.epoch.Load()) }

// CurrentEpoch asks the server for the epoch of the log, the greatest one of its streams. The epoch changes when a stream
// is created again or goes back: then it changes for all users. It blocks for one round trip.
func (q *Store) CurrentEpoch(ctx context.Context) (jobs.Epoch, error) {
	infos, err := q.infos(ctx)
	if err != nil {
		return 0, err
	}
	return greatestEpoch(infos), nil
}

// EpochIn asks the server for a stream of the log, by its number, and returns the epoch of the log as far as it is known then:
// with the epochs that other calls have learned from other streams. It blocks for one round trip.
func (q *Store) EpochIn(ctx context.Context, number int) (jobs.Epoch, error) {
	if q.Streams() == 1 {
		return q.CurrentEpoch(ctx)
	}
	stream, err := q.stream(number)
	if err == nil {
		_, err = stream.Info(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("joblog: stream info: %w", err)
	}
	return q.Epoch(), nil
}

func greatestEpoch(infos []*jetstream.StreamInfo) (epoch jobs.Epoch) {
	for _, info := range infos {
		epoch = max(epoch, epochOf(info))
	}
	return epoch
}

// BeginEpoch begins a new epoch of the log, which is greater than the current one and than after. It is for a log that went
// back: new messages get the sequences of lost ones, so ids of the old epoch must not be valid any more. Each event
// stream that resumes with an old id gets a reset. It blocks for two round trips. A login that may not change the stream gets a
// [*NotPermittedError]; [BeginEpoch] is then for an operator.
func (q *Store) BeginEpoch(ctx context.Context, after jobs.Epoch) (jobs.Epoch, error) {
	infos, err := q.infos(ctx)
	if err != nil {
		return 0, err
	}
	epoch, err := beginEpoch(ctx, q.js, infos, after)
	if err != nil {
		return 0, err
	}
	return q.learn(epoch), nil
}

// BeginEpoch begins a new epoch of the log at a location, and returns the change. It is for a log that has lost messages, where
// notifiers may not change the stream; [Store.BeginEpoch] is what they do themselves otherwise. It blocks for two round trips.
func BeginEpoch(ctx context.Context, nc *nats.Conn, at Location) (Change, error) {
	js, err := at.JetStream(nc)
	if err != nil {
		return Change{}, fmt.Errorf("joblog: %w", err)
	}
	name := at.WithDefaults().Namespace.LogStream()
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return Change{}, fmt.Errorf("joblog: stream %s: %w", name, err)
	}
	infos := []*jetstream.StreamInfo{stream.CachedInfo()}
	for _, name := range at.WithDefaults().Namespace.LogStreams(streamsIn(&infos[0].Config))[1:] {
		more, err := js.Stream(ctx, name)
		if err != nil {
			return Change{}, fmt.Errorf("joblog: stream %s: %w", name, err)
		}
		infos = append(infos, more.CachedInfo())
	}
	before := greatestEpoch(infos)
	epoch, err := beginEpoch(ctx, js, infos, 0)
	return Change{name, "epoch", fmt.Sprint(before), fmt.Sprint(epoch)}, err
}

// beginEpoch writes a new epoch, greater than after, to the first of the log's streams.
func beginEpoch(ctx context.Context, js jetstream.JetStream, infos []*jetstream.StreamInfo, after jobs.Epoch) (jobs.Epoch, error) {
	epoch := max(jobs.Epoch(time.Now().UnixMilli()), greatestEpoch(infos)+1, after+1)
	config := infos[0].Config
	config.Metadata = withMetadata(config.Metadata, epochKey, strconv.FormatInt(int64(epoch), 10))
	if _, err := js.UpdateStream(ctx, config); err != nil {
		return 0, fmt.Errorf("joblog: begin an epoch: %w", notPermitted(js, updateOf, config.Name, err))
	}
	return epoch, nil
}

// learn updates [Store.Epoch], unless a later epoch is known.
func (q *Store) learn(epoch jobs.Epoch) jobs.Epoch {
	for {
		known := q.epoch.Load()
		if int64(epoch) <= known || q.epoch.CompareAndSwap(known, int64(epoch)) {
			return epoch
		}
	}
}
