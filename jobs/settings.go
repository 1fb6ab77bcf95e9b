package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Settings say how JetStream keeps what hark stores. They belong to the stream and its buckets, not to a process:
// [Open] uses them only for what is missing and created by it, and [Setup] alone changes what exists. A zero field
// means the default where something is created, and "leave it as it is" everywhere else.
type Settings struct {
	// MaxAge is how long jobs and notifications stay in the stream. Defaults to 7 days.
	MaxAge time.Duration
	// FileAge is how long a file can be downloaded after its job ended. Defaults to 7 days.
	FileAge time.Duration
	// Lease is how long a running job stays with a worker that has stopped sending heartbeats. At least 1 s.
	// Defaults to 30 s.
	Lease time.Duration
	// Replicas is how many servers of a NATS cluster keep each message: 1, 3 or 5. Defaults to 1.
	Replicas int
}

// MinLease is the shortest lease.
const MinLease = time.Second

// fileGrace is what a file is kept longer than [Settings.FileAge]: its age counts from its first byte, and what is
// promised counts from the end of its job.
const fileGrace = 24 * time.Hour

// leaseKey is where the stream's metadata holds the lease of kinds whose consumer is yet to be created.
const leaseKey = "hark.lease"

// Check returns an error that names the field that cannot be used.
func (s *Settings) Check() error {
	switch {
	case s.MaxAge < 0 || s.FileAge < 0 || s.Lease < 0 || s.Replicas < 0:
		return errors.New("jobs: a setting is negative")
	case s.MaxAge > 0 && s.MaxAge < time.Second:
		return fmt.Errorf("jobs: a max age of %v is too short; one second is the least", s.MaxAge)
	case s.FileAge > 0 && s.FileAge < time.Second:
		return fmt.Errorf("jobs: a file age of %v is too short; one second is the least", s.FileAge)
	case s.Lease > 0 && s.Lease < MinLease:
		return fmt.Errorf("jobs: a lease of %v is too short; %v is the least", s.Lease, MinLease)
	case s.Replicas > 5:
		return fmt.Errorf("jobs: %d replicas are too many; JetStream keeps 5 at most", s.Replicas)
	}
	return nil
}

// or returns s with its zero fields taken from other.
func (s Settings) or(other Settings) Settings {
	if s.MaxAge == 0 {
		s.MaxAge = other.MaxAge
	}
	if s.FileAge == 0 {
		s.FileAge = other.FileAge
	}
	if s.Lease == 0 {
		s.Lease = other.Lease
	}
	if s.Replicas == 0 {
		s.Replicas = other.Replicas
	}
	return s
}

var defaultSettings = Settings{MaxAge: 7 * 24 * time.Hour, FileAge: 7 * 24 * time.Hour, Lease: 30 * time.Second, Replicas: 1}

// streamConfig is hark's stream as it is created with s, which has no zero field.
func (s *Settings) streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamName,
		Description: "hark: jobs, their states, and notifications",
		Subjects:    []string{storeRoot + ">"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		MaxAge:      s.MaxAge,
		Replicas:    s.Replicas,
		Duplicates:  min(DedupeWindow, s.MaxAge),
		AllowDirect: true,
		AllowRollup: true,
		RePublish:   &jetstream.RePublish{Source: storeRoot + ">", Destination: liveRoot + ">"},
		Metadata:    map[string]string{leaseKey: s.Lease.String()},
	}
}

// settingsOf returns what the stream and the bucket of files have been set to.
func settingsOf(stream, files *jetstream.StreamConfig) Settings {
	s := Settings{MaxAge: stream.MaxAge, Replicas: stream.Replicas, Lease: leaseOf(stream), FileAge: fileAgeOf(files)}
	return s
}

func leaseOf(stream *jetstream.StreamConfig) time.Duration {
	if lease, err := time.ParseDuration(stream.Metadata[leaseKey]); err == nil && lease >= MinLease {
		return lease
	}
	return defaultSettings.Lease
}

func fileAgeOf(files *jetstream.StreamConfig) time.Duration {
	if files.MaxAge > fileGrace {
		return files.MaxAge - fileGrace
	}
	return files.MaxAge
}

// differences lists the settings that s asks for and that are otherwise in what exists, as names and values for the log.
func (s Settings) differences(exists Settings) (args []any) {
	add := func(name string, asked, is any) {
		args = append(args, name, fmt.Sprintf("%v, not %v", is, asked))
	}
	if s.MaxAge != 0 && s.MaxAge != exists.MaxAge {
		add("max_age", s.MaxAge, exists.MaxAge)
	}
	if s.FileAge != 0 && s.FileAge != exists.FileAge {
		add("file_age", s.FileAge, exists.FileAge)
	}
	if s.Lease != 0 && s.Lease != exists.Lease {
		add("lease", s.Lease, exists.Lease)
	}
	if s.Replicas != 0 && s.Replicas != exists.Replicas {
		add("replicas", s.Replicas, exists.Replicas)
	}
	return args
}

// bind returns what find finds, and if that is nothing, what create creates. Of several processes that do so at once one
// creates it and all others find it.
func bind[T any](ctx context.Context, find, create func(context.Context) (T, error)) (T, error) {
	found, err := find(ctx)
	if !errors.Is(err, jetstream.ErrStreamNotFound) && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return found, err
	}
	created, err := create(ctx)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return find(ctx)
	}
	return created, err
}

// BindBucket returns the key-value bucket that config names, and creates it if it is missing. It never changes one that
// exists. It blocks for one or two round trips.
func BindBucket(ctx context.Context, js jetstream.JetStream, config jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	return bind(ctx,
		func(ctx context.Context) (jetstream.KeyValue, error) { return js.KeyValue(ctx, config.Bucket) },
		func(ctx context.Context) (jetstream.KeyValue, error) { return js.CreateKeyValue(ctx, config) })
}

func bindStream(ctx context.Context, js jetstream.JetStream, s Settings) (jetstream.Stream, error) {
	return bind(ctx,
		func(ctx context.Context) (jetstream.Stream, error) { return js.Stream(ctx, StreamName) },
		func(ctx context.Context) (jetstream.Stream, error) { return js.CreateStream(ctx, s.streamConfig()) })
}

// bindFiles returns the stream of the object store.
func bindFiles(ctx context.Context, js jetstream.JetStream, s Settings) (jetstream.Stream, error) {
	find := func(ctx context.Context) (jetstream.Stream, error) { return js.Stream(ctx, filesStream) }
	return bind(ctx, find, func(ctx context.Context) (jetstream.Stream, error) {
		_, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: filesBucket, Description: "hark: what jobs leave to download",
			TTL: s.FileAge + fileGrace, Storage: jetstream.FileStorage, Replicas: s.Replicas,
		})
		if err != nil {
			return nil, err
		}
		return find(ctx)
	})
}

// checkStream returns an error if a stream that was found was not made by hark: what is stored there would not be heard.
func checkStream(c *jetstream.StreamConfig) error {
	var missing []string
	if len(c.Subjects) != 1 || c.Subjects[0] != storeRoot+">" {
		missing = append(missing, "the subjects "+storeRoot+">")
	}
	if c.RePublish == nil || c.RePublish.Source != storeRoot+">" || c.RePublish.Destination != liveRoot+">" || c.RePublish.HeadersOnly {
		missing = append(missing, "republishing to "+liveRoot+">")
	}
	if !c.AllowDirect {
		missing = append(missing, "direct gets")
	}
	if !c.AllowRollup {
		missing = append(missing, "rollups")
	}
	if len(missing) > 0 {
		return fmt.Errorf("jobs: stream %s lacks %s; run hark setup to mend it", StreamName, strings.Join(missing, ", "))
	}
	return nil
}

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
// is older at once. A shorter Lease reaches workers within 10 s; until then another worker may take over a job that
// runs. Setup blocks for some round trips. After an error it may be called again.
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
	changes []Change
}

// created notes that a stream is missing, and creates it unless this is a dry run.
func (s *setup) created(name string, create func() error) error {
	s.changes = append(s.changes, Change{What: name})
	if s.dryRun {
		return nil
	}
	return create()
}

func (s *setup) stream(ctx context.Context) error {
	found, err := s.js.Stream(ctx, StreamName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s.created(StreamName, func() error {
			_, err := bindStream(ctx, s.js, s.want.or(defaultSettings))
			return err
		})
	}
	if err != nil {
		return err
	}
	was := found.CachedInfo().Config
	wanted := s.want.or(Settings{MaxAge: was.MaxAge, Lease: leaseOf(&was), Replicas: was.Replicas})
	ours, is := wanted.streamConfig(), was
	if checkStream(&was) != nil {
		is.Subjects, is.RePublish, is.AllowDirect, is.AllowRollup = ours.Subjects, ours.RePublish, true, true
		s.note(StreamName, "layout", "of something else", "of hark")
	}
	s.note(StreamName, "max_age", was.MaxAge, wanted.MaxAge)
	s.note(StreamName, "replicas", was.Replicas, wanted.Replicas)
	s.note(StreamName, "lease", leaseOf(&was), wanted.Lease)
	is.MaxAge, is.Replicas, is.Duplicates = wanted.MaxAge, wanted.Replicas, ours.Duplicates
	is.Metadata = withLease(was.Metadata, wanted.Lease)
	return s.update(ctx, is)
}

// withLease returns the metadata without what the server adds by itself.
func withLease(metadata map[string]string, lease time.Duration) map[string]string {
	with := map[string]string{leaseKey: lease.String()}
	for key, value := range metadata {
		if key != leaseKey && !strings.HasPrefix(key, "_nats.") {
			with[key] = value
		}
	}
	return with
}

// note notes a change, if it is one.
func (s *setup) note(what, setting string, from, to any) {
	if from != to {
		s.changes = append(s.changes, Change{what, setting, fmt.Sprint(from), fmt.Sprint(to)})
	}
}

// update writes the configuration of a stream of which something was noted.
func (s *setup) update(ctx context.Context, config jetstream.StreamConfig) error {
	if len(s.changes) == 0 || s.changes[len(s.changes)-1].What != config.Name || s.dryRun {
		return nil
	}
	_, err := s.js.UpdateStream(ctx, config)
	if err != nil {
		return fmt.Errorf("stream %s: %w", config.Name, err)
	}
	return nil
}

func (s *setup) files(ctx context.Context) error {
	found, err := s.js.Stream(ctx, filesStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s.created(filesStream, func() error {
			_, err := bindFiles(ctx, s.js, s.want.or(defaultSettings))
			return err
		})
	}
	if err != nil {
		return err
	}
	config := found.CachedInfo().Config
	was := Settings{FileAge: fileAgeOf(&config), Replicas: config.Replicas}
	wanted := s.want.or(was)
	s.note(filesStream, "file_age", was.FileAge, wanted.FileAge)
	s.note(filesStream, "replicas", was.Replicas, wanted.Replicas)
	if wanted.FileAge != was.FileAge {
		config.MaxAge = wanted.FileAge + fileGrace
	}
	config.Replicas = wanted.Replicas
	return s.update(ctx, config)
}

func (s *setup) kinds(ctx context.Context) error {
	_, err := s.js.Stream(ctx, kindsStream)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err // buckets does the rest
	}
	return s.created(kindsStream, func() error {
		_, err := bindKinds(ctx, s.js, s.want.or(defaultSettings))
		return err
	})
}

// buckets changes the replicas of all of hark's key-value buckets, those of other packages too.
func (s *setup) buckets(ctx context.Context) error {
	streams := s.js.ListStreams(ctx)
	for info := range streams.Info() {
		if !strings.HasPrefix(info.Config.Name, "KV_hark_") {
			continue
		}
		config := info.Config
		wanted := s.want.or(Settings{Replicas: config.Replicas})
		s.note(config.Name, "replicas", config.Replicas, wanted.Replicas)
		config.Replicas = wanted.Replicas
		if err := s.update(ctx, config); err != nil {
			return err
		}
	}
	return streams.Err()
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
	consumers := stream.ListConsumers(ctx)
	for info := range consumers.Info() {
		if !strings.HasPrefix(info.Name, workerPrefix) || info.Config.AckWait == s.want.Lease {
			continue
		}
		s.note(info.Name, "lease", info.Config.AckWait, s.want.Lease)
		if s.dryRun {
			continue
		}
		config := info.Config
		config.AckWait = s.want.Lease
		config.Metadata = nil // the server's own
		if _, err := stream.UpdateConsumer(ctx, config); err != nil {
			return fmt.Errorf("consumer %s: %w", info.Name, err)
		}
	}
	return consumers.Err()
}

// logDifferences says in one line how the settings that were asked for differ from those that are in effect.
func logDifferences(log *slog.Logger, asked, exists Settings) {
	if args := asked.differences(exists); len(args) > 0 {
		log.Warn("settings of this process are not those of the stream, which stay as they are; hark setup changes them", args...)
	}
}
