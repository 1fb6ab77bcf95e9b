package joblog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// spread changes the number of streams of a log that never had a message. It begins a new epoch: a user may live in another
// stream then, which has other sequences. Streams that are new in the log are left to [setup.logStream].
//
// Errors: an [*InvalidError] if the log had messages.
func (s *setup) spread(ctx context.Context, from, to int) error {
	configs, epoch, err := s.emptyStreams(ctx, from, to)
	if err != nil {
		return err
	}
	change := Change{s.ns.LogStream(), "streams", strconv.Itoa(from), strconv.Itoa(to)}
	return s.do([]Change{change}, func() error {
		if to < from { // the subjects of these are given to others
			for _, name := range s.ns.LogStreams(from) {
				if slices.Contains(s.ns.LogStreams(to), name) {
					continue
				}
				if err := s.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
					return fmt.Errorf("delete the stream %s: %w", name, err)
				}
			}
		}
		for i, name := range s.ns.LogStreams(to) {
			config, exists := configs[name]
			if !exists {
				continue
			}
			config.Subjects = s.ns.streamSubjects(i, to)
			config.Metadata = withMetadata(config.Metadata, streamsKey, strconv.Itoa(to))
			if to == 1 {
				delete(config.Metadata, streamsKey)
			}
			if i == 0 {
				config.Metadata[epochKey] = strconv.FormatInt(epoch, 10)
			}
			if err := s.write(ctx, config); err != nil {
				return fmt.Errorf("give the stream %s other shards: %w", name, err)
			}
		}
		return s.checkPlaces(ctx, to)
	})
}

// emptyStreams returns the configurations of the log's streams that exist, by name, and an epoch that is greater than the
// current one. It returns an [*InvalidError] if one had messages: the inbox has some of them, with the ids of their streams.
func (s *setup) emptyStreams(ctx context.Context, from, to int) (configs map[string]jetstream.StreamConfig, epoch int64, err error) {
	configs, epoch = make(map[string]jetstream.StreamConfig), time.Now().UnixMilli()
	for _, name := range s.ns.LogStreams(from) {
		stream, err := s.stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		info := stream.CachedInfo()
		configs[name], epoch = info.Config, max(epoch, int64(epochOf(info))+1)
		if info.State.LastSeq > 0 {
			return nil, 0, &InvalidError{"Streams", fmt.Sprintf("is %d, and the log has %d and has had messages; the number can be changed only before the first one, "+
				"so leave it, or set up a hark with another namespace", to, from)}
		}
	}
	return configs, epoch, nil
}

// checkPlaces returns an error if a message was stored, while the number of streams was changed, in a stream that no longer has
// its subject.
func (s *setup) checkPlaces(ctx context.Context, n int) error {
	for i, name := range s.ns.LogStreams(n) {
		stream, err := s.stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if stream.CachedInfo().State.Msgs == 0 {
			continue
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(s.ns.LogSubjects()))
		if err != nil {
			return err
		}
		for subject := range info.State.Subjects {
			shard, _, _ := splitSubject(subject)
			if number, err := strconv.Atoi(shard); err != nil || number*n/Shards != i {
				return fmt.Errorf("a message was stored on %s while the number of streams was changed, and no stream of the log has it now; "+
					"send it again, and stop every hark before the number of streams is changed", subject)
			}
		}
	}
	return nil
}
