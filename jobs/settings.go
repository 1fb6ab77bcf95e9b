package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

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
	// FileSpace is how many bytes all files may take together. A file for which there is no room fails its job. Defaults to
	// no limit but the disk's.
	FileSpace int64
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
	case s.MaxAge < 0 || s.FileAge < 0 || s.Lease < 0 || s.Replicas < 0 || s.FileSpace < 0:
		return errors.New("jobs: a setting is negative")
	case s.MaxAge > 0 && s.MaxAge < time.Second:
		return fmt.Errorf("jobs: a max age of %v is too short; one second is the least", s.MaxAge)
	case s.FileAge > 0 && s.FileAge < time.Second:
		return fmt.Errorf("jobs: a file age of %v is too short; one second is the least", s.FileAge)
	case s.Lease > 0 && s.Lease < MinLease:
		return fmt.Errorf("jobs: a lease of %v is too short; %v is the least", s.Lease, MinLease)
	case s.Replicas > 5 || s.Replicas != 0 && s.Replicas%2 == 0:
		return fmt.Errorf("jobs: %d replicas cannot be kept; it takes 1, 3 or 5", s.Replicas)
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
	if s.FileSpace == 0 {
		s.FileSpace = other.FileSpace
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
	return Settings{MaxAge: stream.MaxAge, Replicas: stream.Replicas, Lease: leaseOf(stream), FileAge: fileAgeOf(files), FileSpace: max(files.MaxBytes, 0)}
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
		args = append(args, name, fmt.Sprintf("%v (asked: %v)", is, asked))
	}
	if s.MaxAge != 0 && s.MaxAge != exists.MaxAge {
		add("max_age", s.MaxAge, exists.MaxAge)
	}
	if s.FileAge != 0 && s.FileAge != exists.FileAge {
		add("file_age", s.FileAge, exists.FileAge)
	}
	if s.FileSpace != 0 && s.FileSpace != exists.FileSpace {
		add("file_space", s.FileSpace, exists.FileSpace)
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
	// A cluster that is busy may say for a moment that what was just created, here or elsewhere, is not there.
	for errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		if created, err = find(ctx); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return created, err
		case <-time.After(bindPause):
		}
	}
	return created, err
}

// bindPause is the time between two looks for what was just created.
const bindPause = 50 * time.Millisecond

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
			TTL: s.FileAge + fileGrace, MaxBytes: s.FileSpace, Storage: jetstream.FileStorage, Replicas: s.Replicas,
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

// logDifferences says in one line how the settings that were asked for differ from those that are in effect.
func logDifferences(log *slog.Logger, asked, exists Settings) {
	if args := asked.differences(exists); len(args) > 0 {
		log.Warn("this process asks for other settings than the stream has; the stream keeps its own, and hark setup changes them", args...)
	}
}
