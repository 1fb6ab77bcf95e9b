package joblog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Change is one change that [Setup] made, or would make.
type Change struct {
	// What is the name of a stream or a consumer.
	What string
	// Setting is the setting that was changed. It is empty if What was created.
	Setting  string
	From, To string
}

func (c Change) String() string {
	if c.Setting == "" {
		return c.What + " created"
	}
	return fmt.Sprintf("%s: %s %s -> %s", c.What, c.Setting, c.From, c.To)
}

// Setup creates what is missing in JetStream, and changes what exists to the settings that are not zero. It returns its
// changes in order; with dryRun, it changes nothing and returns what it would change. A smaller MaxAge deletes older
// messages at once. A Lease shorter than 30 s may restart running jobs once: workers read the new lease within 10 s.
// Setup blocks for several round trips. After an error it can be called again.
func Setup(ctx context.Context, nc *nats.Conn, at Location, want Settings, dryRun bool) ([]Change, error) {
	if err := want.Check(); err != nil {
		return nil, err
	}
	if err := at.Check(); err != nil {
		return nil, err
	}
	js, err := at.JetStream(nc)
	if err != nil {
		return nil, fmt.Errorf("joblog: %w", err)
	}
	s := &setup{js: js, ns: at.WithDefaults().Namespace, want: want, dryRun: dryRun}
	for _, step := range []func(context.Context) error{s.logStreams, s.files, s.buckets, s.consumers} {
		if err := step(ctx); err != nil {
			return s.changes, fmt.Errorf("joblog: setup: %w", err)
		}
	}
	return s.changes, nil
}

type setup struct {
	js       jetstream.JetStream
	ns       Namespace
	want     Settings
	dryRun   bool
	changes  []Change // made, or in a dry run, to be made
	streams  int      // of the log
	respread bool     // that is another number than before
	// exists are the settings of the log if it existed. What is created gets them, unless others are wanted.
	exists Settings
}

// do calls make and records the changes, if there are any. In a dry run it only records them.
func (s *setup) do(changes []Change, make func() error) error {
	if len(changes) == 0 {
		return nil
	}
	if !s.dryRun {
		if err := make(); err != nil {
			return fmt.Errorf("%s: %w", changes[0].What, err)
		}
	}
	s.changes = append(s.changes, changes...)
	return nil
}

// create creates a missing stream or bucket.
func (s *setup) create(name string, make func(Settings) error) error {
	return s.do([]Change{{What: name}}, func() error { return make(s.want.or(s.exists).or(defaultSettings)) })
}

// stream returns a stream that exists.
func (s *setup) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	return untilAnswered(ctx, func(ctx context.Context) (jetstream.Stream, error) { return s.js.Stream(ctx, name) })
}

// update writes the configuration of a stream, if there are changes.
func (s *setup) update(ctx context.Context, config jetstream.StreamConfig, changes []Change) error {
	return s.do(changes, func() error { return s.write(ctx, config) })
}

func (s *setup) write(ctx context.Context, config jetstream.StreamConfig) error {
	_, err := untilAnswered(ctx, func(ctx context.Context) (jetstream.Stream, error) { return s.js.UpdateStream(ctx, config) })
	return err
}

// differ appends a change if from and to differ.
func differ(changes []Change, what, setting string, from, to any) []Change {
	if from == to {
		return changes
	}
	return append(changes, Change{what, setting, fmt.Sprint(from), fmt.Sprint(to)})
}

// logStreams creates the streams of the log that are missing, and changes those that exist.
func (s *setup) logStreams(ctx context.Context) error {
	n, err := s.countStreams(ctx)
	if err != nil {
		return err
	}
	if want := s.want.Streams; want != 0 && want != n {
		if err := s.spread(ctx, n, want); err != nil {
			return err
		}
		n, s.respread = want, true
	}
	s.streams = n
	for i := range n {
		if err := s.logStream(ctx, i, n); err != nil {
			return err
		}
	}
	return nil
}

// countStreams returns the number of streams of the log, or that of a new log.
func (s *setup) countStreams(ctx context.Context) (int, error) {
	// With two streams or more there is one that begins in the middle. The first one may have been lost.
	for _, name := range s.ns.LogStreams(2) {
		found, err := s.stream(ctx, name)
		if err == nil {
			return streamsIn(&found.CachedInfo().Config), nil
		}
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return 0, err
		}
	}
	return s.want.or(defaultSettings).Streams, nil
}

func (s *setup) logStream(ctx context.Context, i, n int) error {
	name := s.ns.LogStreams(n)[i]
	found, err := s.stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s.create(name, func(settings Settings) error {
			_, err := bindStream(ctx, s.js, s.ns, settings, i, n)
			return err
		})
	}
	if err != nil {
		return err
	}
	config := found.CachedInfo().Config
	was := Settings{MaxAge: config.MaxAge, Lease: leaseOf(&config), Replicas: config.Replicas}
	wanted := s.want.or(was)
	s.exists = s.exists.or(Settings{MaxAge: wanted.MaxAge, Lease: wanted.Lease, Replicas: wanted.Replicas})
	ours := wanted.streamConfig(s.ns, i, n)
	var changes []Change
	if checkStream(s.ns, &config, i, n) != nil && !(s.dryRun && s.respread) {
		changes = differ(changes, name, "layout", "another", "hark's")
		config.Subjects, config.RePublish = ours.Subjects, ours.RePublish
		config.AllowDirect, config.AllowRollup, config.AllowAtomicPublish = true, true, true
	}
	changes = differ(changes, name, "max_age", was.MaxAge, wanted.MaxAge)
	changes = differ(changes, name, "replicas", was.Replicas, wanted.Replicas)
	changes = differ(changes, name, "lease", was.Lease, wanted.Lease)
	config.MaxAge, config.Replicas, config.Duplicates = wanted.MaxAge, wanted.Replicas, ours.Duplicates
	config.Metadata = withMetadata(config.Metadata, leaseKey, wanted.Lease.String())
	return s.update(ctx, config, changes)
}

// withMetadata returns the metadata with one value set, and without the server's own keys.
func withMetadata(metadata map[string]string, key, value string) map[string]string {
	with := ownMetadata(metadata)
	with[key] = value
	return with
}

// ownMetadata returns a copy of the metadata without the server's own keys.
func ownMetadata(metadata map[string]string) map[string]string {
	own := make(map[string]string)
	for k, v := range metadata {
		if !strings.HasPrefix(k, "_nats.") {
			own[k] = v
		}
	}
	return own
}

func (s *setup) files(ctx context.Context) error {
	found, err := s.stream(ctx, s.ns.FilesStream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s.create(s.ns.FilesStream(), func(settings Settings) error {
			_, err := bindFiles(ctx, s.js, s.ns, settings)
			return err
		})
	}
	if err != nil {
		return err
	}
	config := found.CachedInfo().Config
	was := fileSettingsOf(&config)
	wanted := s.want.or(was)
	changes := differ(nil, s.ns.FilesStream(), "file_age", was.FileAge, wanted.FileAge)
	changes = differ(changes, s.ns.FilesStream(), "file_space", was.FileSpace, wanted.FileSpace)
	changes = differ(changes, s.ns.FilesStream(), "user_file_space", was.UserFileSpace, wanted.UserFileSpace)
	changes = differ(changes, s.ns.FilesStream(), "replicas", was.Replicas, wanted.Replicas)
	config.Metadata = withMetadata(config.Metadata, userSpaceKey, strconv.FormatInt(wanted.UserFileSpace, 10))
	if wanted.FileSpace > 0 {
		config.MaxBytes = wanted.FileSpace
	}
	if wanted.FileAge != was.FileAge {
		config.MaxAge = wanted.FileAge + fileGrace
	}
	config.Replicas = wanted.Replicas
	return s.update(ctx, config, changes)
}

// buckets creates the key-value buckets, including those of other packages, and changes their replicas.
func (s *setup) buckets(ctx context.Context) error {
	for _, config := range bucketConfigs(s.ns) {
		if err := s.bucket(ctx, config); err != nil {
			return err
		}
	}
	return nil
}

func (s *setup) bucket(ctx context.Context, bucket jetstream.KeyValueConfig) error {
	name := BucketStream(bucket.Bucket)
	found, err := s.stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s.create(name, func(settings Settings) error {
			bucket.Replicas = settings.Replicas
			_, err := bindBucket(ctx, s.js, bucket)
			return err
		})
	}
	if err != nil {
		return err
	}
	config := found.CachedInfo().Config
	wanted := s.want.or(Settings{Replicas: config.Replicas})
	changes := differ(nil, name, "replicas", config.Replicas, wanted.Replicas)
	config.Replicas = wanted.Replicas
	return s.update(ctx, config, changes)
}

// consumers changes the lease of the kinds that have a consumer.
func (s *setup) consumers(ctx context.Context) error {
	if s.want.Lease == 0 {
		return nil
	}
	for _, name := range s.ns.LogStreams(s.streams) {
		stream, err := s.stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue // in a dry run
		}
		if err == nil {
			err = s.consumersOf(ctx, stream)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *setup) consumersOf(ctx context.Context, stream jetstream.Stream) error {
	// Listed by name: right after replicas were added, a list of infos may have one consumer twice and lack another one.
	var leases []jetstream.ConsumerConfig
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		if !strings.HasPrefix(name, s.ns.workerPrefix()) {
			continue
		}
		consumer, err := stream.Consumer(ctx, name)
		if err != nil {
			return err
		}
		leases = append(leases, consumer.CachedInfo().Config)
	}
	if err := names.Err(); err != nil {
		return err
	}
	for _, config := range leases {
		changes := differ(nil, config.Durable, "lease", config.AckWait, s.want.Lease)
		config.AckWait, config.Metadata = s.want.Lease, nil // the metadata is the server's own
		err := s.do(changes, func() error {
			_, err := stream.UpdateConsumer(ctx, config)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
