package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Change is one thing that [Setup] did, or would do.
type Change struct {
	// What is a stream's or a consumer's name, as JetStream has it.
	What string
	// Setting is what was changed of it. It is empty if What was missing and has been created.
	Setting  string
	From, To string
}

func (c Change) String() string {
	if c.Setting == "" {
		return c.What + " created"
	}
	return fmt.Sprintf("%s: %s %s -> %s", c.What, c.Setting, c.From, c.To)
}

// Setup creates what hark needs in JetStream and is missing, and changes what exists to the settings that are not zero.
// It returns what it changed, in the order of doing so; with dryRun, what it would change. A smaller MaxAge deletes what
// is older at once. A Lease shorter than 30 s may make jobs that run start again, once: workers learn of it within 10 s.
// Setup blocks for some round trips. After an error it may be called again.
func Setup(ctx context.Context, nc *nats.Conn, want Settings, dryRun bool) ([]Change, error) {
	if err := want.Check(); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	s := &setup{js: js, want: want, dryRun: dryRun}
	for _, step := range []func(context.Context) error{s.stream, s.files, s.kinds, s.buckets, s.consumers} {
		if err := step(ctx); err != nil {
			return s.changes, fmt.Errorf("jobs: setup: %w", err)
		}
	}
	return s.changes, nil
}

type setup struct {
	js      jetstream.JetStream
	want    Settings
	dryRun  bool
	changes []Change // that were made, or in a dry run would be
}

// do makes the changes, if there are any.
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

// create creates what is missing.
func (s *setup) create(name string, make func(Settings) error) error {
	return s.do([]Change{{What: name}}, func() error { return make(s.want.or(defaultSettings)) })
}

// update writes the configuration of a stream.
func (s *setup) update(ctx context.Context, config jetstream.StreamConfig, changes []Change) error {
	return s.do(changes, func() error {
		_, err := s.js.UpdateStream(ctx, config)
		return err
	})
}

// differ appends a change, if it is one.
func differ(changes []Change, what, setting string, from, to any) []Change {
	if from == to {
		return changes
	}
	return append(changes, Change{what, setting, fmt.Sprint(from), fmt.Sprint(to)})
}

func (s *setup) stream(ctx context.Context) error {
	found, err := s.js.Stream(ctx, StreamName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s.create(StreamName, func(settings Settings) error {
			_, err := bindStream(ctx, s.js, settings)
			return err
		})
	}
	if err != nil {
		return err
	}
	config := found.CachedInfo().Config
	was := Settings{MaxAge: config.MaxAge, Lease: leaseOf(&config), Replicas: config.Replicas}
	wanted := s.want.or(was)
	ours := wanted.streamConfig()
	var changes []Change
	if checkStream(&config) != nil {
		changes = differ(changes, StreamName, "layout", "of something else", "of hark")
		config.Subjects, config.RePublish, config.AllowDirect, config.AllowRollup = ours.Subjects, ours.RePublish, true, true
	}
	changes = differ(changes, StreamName, "max_age", was.MaxAge, wanted.MaxAge)
	changes = differ(changes, StreamName, "replicas", was.Replicas, wanted.Replicas)
	changes = differ(changes, StreamName, "lease", was.Lease, wanted.Lease)
	config.MaxAge, config.Replicas, config.Duplicates = wanted.MaxAge, wanted.Replicas, ours.Duplicates
	config.Metadata = withLease(config.Metadata, wanted.Lease)
	return s.update(ctx, config, changes)
}

// withLease returns the metadata with the lease, and without what the server adds by itself.
func withLease(metadata map[string]string, lease time.Duration) map[string]string {
	with := map[string]string{leaseKey: lease.String()}
	for key, value := range metadata {
		if key != leaseKey && !strings.HasPrefix(key, "_nats.") {
			with[key] = value
		}
	}
	return with
}

func (s *setup) files(ctx context.Context) error {
	found, err := s.js.Stream(ctx, filesStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s.create(filesStream, func(settings Settings) error {
			_, err := bindFiles(ctx, s.js, settings)
			return err
		})
	}
	if err != nil {
		return err
	}
	config := found.CachedInfo().Config
	was := Settings{FileAge: fileAgeOf(&config), FileSpace: max(config.MaxBytes, 0), Replicas: config.Replicas}
	wanted := s.want.or(was)
	changes := differ(nil, filesStream, "file_age", was.FileAge, wanted.FileAge)
	changes = differ(changes, filesStream, "file_space", was.FileSpace, wanted.FileSpace)
	changes = differ(changes, filesStream, "replicas", was.Replicas, wanted.Replicas)
	if wanted.FileSpace > 0 {
		config.MaxBytes = wanted.FileSpace
	}
	if wanted.FileAge != was.FileAge {
		config.MaxAge = wanted.FileAge + fileGrace
	}
	config.Replicas = wanted.Replicas
	return s.update(ctx, config, changes)
}

func (s *setup) kinds(ctx context.Context) error {
	_, err := s.js.Stream(ctx, kindsStream)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err // buckets does the rest
	}
	return s.create(kindsStream, func(settings Settings) error {
		_, err := bindKinds(ctx, s.js, settings)
		return err
	})
}

// buckets changes the replicas of all of hark's key-value buckets, those of other packages too.
func (s *setup) buckets(ctx context.Context) error {
	var names []string
	list := s.js.StreamNames(ctx)
	for name := range list.Name() {
		if strings.HasPrefix(name, "KV_hark_") {
			names = append(names, name)
		}
	}
	if err := list.Err(); err != nil {
		return err
	}
	for _, name := range names {
		bucket, err := s.js.Stream(ctx, name)
		if err != nil {
			return err
		}
		config := bucket.CachedInfo().Config
		wanted := s.want.or(Settings{Replicas: config.Replicas})
		changes := differ(nil, name, "replicas", config.Replicas, wanted.Replicas)
		config.Replicas = wanted.Replicas
		if err := s.update(ctx, config, changes); err != nil {
			return err
		}
	}
	return nil
}

// consumers changes the lease of the kinds that have a consumer.
func (s *setup) consumers(ctx context.Context) error {
	if s.want.Lease == 0 {
		return nil
	}
	stream, err := s.js.Stream(ctx, StreamName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // in a dry run
	}
	if err != nil {
		return err
	}
	// By their names: right after replicas were added, servers may describe one twice and another one not at all.
	var leases []jetstream.ConsumerConfig
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		if !strings.HasPrefix(name, workerPrefix) {
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
