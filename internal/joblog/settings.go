package joblog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Settings say how JetStream keeps hark's data. They belong to the stream and its buckets, not to a process: [Open] uses
// them only for what it creates, and [Setup] alone changes what exists. A zero field means the default for what is
// created, and no change for what exists.
type Settings struct {
	// MaxAge is how long jobs and notifications stay in the stream. Defaults to 7 days.
	MaxAge time.Duration
	// FileAge is how long a file can be downloaded after its job ended. Defaults to 7 days.
	FileAge time.Duration
	// FileSpace is how many bytes all files may take together. A file that does not fit fails its job. Defaults to no
	// limit.
	FileSpace int64
	// UserFileSpace is how many bytes the files of one user may take together, at least 128 KiB. A file that does not fit
	// fails its job with a [*jobs.UserFullError]. Each file counts in whole blocks of 128 KiB, from its first byte until
	// it is removed, up to a day after it has expired. Defaults to 5 GiB.
	UserFileSpace int64
	// Lease is how long a running job stays with a worker that has stopped sending heartbeats. At least 1 s.
	// Defaults to 30 s.
	Lease time.Duration
	// Replicas is how many servers of a NATS cluster keep each message: 1, 3 or 5. Defaults to 1.
	Replicas int
	// Streams is the number of streams of the log: 1, 2, 4, 8, 16, 32 or 64. It can be changed before the first message is
	// stored. Defaults to 1.
	Streams int
}

// MinLease is the shortest lease.
const MinLease = time.Second

// fileGrace is how much longer than [Settings.FileAge] the bucket keeps a file: the age counts from the first byte, and
// FileAge from the end of the job.
const fileGrace = 24 * time.Hour

// leaseKey is the key in the stream's metadata for the lease of new consumers.
const leaseKey = "hark.lease"

// userSpaceKey is the key in the metadata of the bucket of files for [Settings.UserFileSpace], in bytes.
const userSpaceKey = "hark.user-file-space"

// epochKey is the key in the stream's metadata for the epoch that [Store.BeginEpoch] has begun, in Unix milliseconds.
const epochKey = "hark.epoch"

// InvalidError is an invalid field of [Settings] or [Location].
type InvalidError struct {
	// Field has the name that the options of the packages hark and queue have for it, such as MaxAge or JSDomain.
	Field string
	// Problem continues a sentence that begins with the field: "is 1ms; it must be at least 1s".
	Problem string
}

func (e *InvalidError) Error() string { return "joblog: " + e.Field + " " + e.Problem }

// Check returns an [*InvalidError] if a field is invalid.
func (s *Settings) Check() error {
	for _, d := range []struct {
		field        string
		value, least time.Duration
	}{{"MaxAge", s.MaxAge, time.Second}, {"FileAge", s.FileAge, time.Second}, {"Lease", s.Lease, MinLease}} {
		if d.value != 0 && d.value < d.least {
			return &InvalidError{d.field, fmt.Sprintf("is %v; it must be at least %v", d.value, d.least)}
		}
	}
	switch {
	case s.FileSpace < 0:
		return &InvalidError{"FileSpace", fmt.Sprintf("is %d bytes; it must not be negative", s.FileSpace)}
	case s.UserFileSpace != 0 && s.UserFileSpace < chunkSize:
		return &InvalidError{"UserFileSpace", fmt.Sprintf("is %d bytes; it must be at least %d", s.UserFileSpace, chunkSize)}
	case s.Replicas != 0 && s.Replicas != 1 && s.Replicas != 3 && s.Replicas != 5:
		return &InvalidError{"Replicas", fmt.Sprintf("is %d; it must be 1, 3 or 5", s.Replicas)}
	case s.Streams != 0 && !validStreams(s.Streams):
		return &InvalidError{"Streams", fmt.Sprintf("is %d; it must be 1, 2, 4, 8, 16, 32 or 64", s.Streams)}
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
	if s.UserFileSpace == 0 {
		s.UserFileSpace = other.UserFileSpace
	}
	if s.Lease == 0 {
		s.Lease = other.Lease
	}
	if s.Replicas == 0 {
		s.Replicas = other.Replicas
	}
	if s.Streams == 0 {
		s.Streams = other.Streams
	}
	return s
}

var defaultSettings = Settings{
	MaxAge: 7 * 24 * time.Hour, FileAge: 7 * 24 * time.Hour, UserFileSpace: 5 << 30, Lease: 30 * time.Second, Replicas: 1, Streams: 1,
}

// streamConfig returns the configuration of a new stream, i of the n of the log. s must have no zero field.
func (s *Settings) streamConfig(ns Namespace, i, n int) jetstream.StreamConfig {
	metadata := map[string]string{leaseKey: s.Lease.String()}
	if n > 1 {
		metadata[streamsKey] = strconv.Itoa(n)
	}
	return jetstream.StreamConfig{
		Name:               ns.LogStreams(n)[i],
		Description:        "hark: jobs, their states, and notifications",
		Subjects:           ns.streamSubjects(i, n),
		Storage:            jetstream.FileStorage,
		Retention:          jetstream.LimitsPolicy,
		MaxAge:             s.MaxAge,
		Replicas:           s.Replicas,
		Duplicates:         min(DedupeWindow, s.MaxAge),
		AllowDirect:        true,
		AllowRollup:        true,
		AllowAtomicPublish: true,
		RePublish:          &jetstream.RePublish{Source: ns.LogSubjects(), Destination: ns.LiveSubjects()},
		Metadata:           metadata,
	}
}

// settingsOf returns the settings of an existing stream and bucket of files.
func settingsOf(stream, files *jetstream.StreamConfig) Settings {
	s := fileSettingsOf(files)
	s.MaxAge, s.Replicas, s.Lease, s.Streams = stream.MaxAge, stream.Replicas, leaseOf(stream), streamsIn(stream)
	return s
}

// fileSettingsOf returns the settings of an existing bucket of files.
func fileSettingsOf(files *jetstream.StreamConfig) Settings {
	return Settings{FileAge: fileAgeOf(files), FileSpace: max(files.MaxBytes, 0), UserFileSpace: userSpaceOf(files), Replicas: files.Replicas}
}

func leaseOf(stream *jetstream.StreamConfig) time.Duration {
	if lease, err := time.ParseDuration(stream.Metadata[leaseKey]); err == nil && lease >= MinLease {
		return lease
	}
	return defaultSettings.Lease
}

func userSpaceOf(files *jetstream.StreamConfig) int64 {
	if space, err := strconv.ParseInt(files.Metadata[userSpaceKey], 10, 64); err == nil && space > 0 {
		return space
	}
	return defaultSettings.UserFileSpace
}

func fileAgeOf(files *jetstream.StreamConfig) time.Duration {
	if files.MaxAge > fileGrace {
		return files.MaxAge - fileGrace
	}
	return files.MaxAge
}

// differences lists the non-zero settings of s that differ from exists, as names and values for the log.
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
	if s.UserFileSpace != 0 && s.UserFileSpace != exists.UserFileSpace {
		add("user_file_space", s.UserFileSpace, exists.UserFileSpace)
	}
	if s.Lease != 0 && s.Lease != exists.Lease {
		add("lease", s.Lease, exists.Lease)
	}
	if s.Replicas != 0 && s.Replicas != exists.Replicas {
		add("replicas", s.Replicas, exists.Replicas)
	}
	if s.Streams != 0 && s.Streams != exists.Streams {
		add("streams", s.Streams, exists.Streams)
	}
	return args
}

// bind returns the result of find, and of create if nothing was found. Stream is the name of the stream. Several processes may
// call it at once: one creates, and the others find. If the server permits this login neither, the error is a [*NotPermittedError].
func bind[T any](ctx context.Context, js jetstream.JetStream, stream string, find, create func(context.Context) (T, error)) (T, error) {
	found, err := untilAnswered(ctx, find)
	if !errors.Is(err, jetstream.ErrStreamNotFound) && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return found, notPermitted(js, infoOf, stream, err)
	}
	created, err := untilAnswered(ctx, create)
	err = notPermitted(js, createOf, stream, err)
	// A busy cluster may report for a moment that a new stream does not exist.
	for errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		if created, err = untilAnswered(ctx, find); err == nil {
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

// bindPause is the pause between two tries to find what was just created.
const bindPause = 50 * time.Millisecond

// bindBucket returns the key-value bucket that config names, and creates it if it is missing.
func bindBucket(ctx context.Context, js jetstream.JetStream, config jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	find := func(ctx context.Context) (jetstream.KeyValue, error) { return js.KeyValue(ctx, config.Bucket) }
	return bind(ctx, js, BucketStream(config.Bucket), find, func(ctx context.Context) (jetstream.KeyValue, error) {
		// jetstream.CreateKeyValue always enables direct gets.
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{
			Name: BucketStream(config.Bucket), Description: config.Description, Subjects: []string{KeySubject(config.Bucket, ">")},
			MaxAge: config.TTL, Storage: config.Storage, Replicas: max(config.Replicas, 1),
			MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, AllowRollup: true, DenyDelete: true,
		})
		if err != nil {
			return nil, err
		}
		return find(ctx)
	})
}

// bindStream returns stream i of the n of the log, and creates it if it is missing.
func bindStream(ctx context.Context, js jetstream.JetStream, ns Namespace, s Settings, i, n int) (jetstream.Stream, error) {
	name := ns.LogStreams(n)[i]
	return bind(ctx, js, name,
		func(ctx context.Context) (jetstream.Stream, error) { return js.Stream(ctx, name) },
		func(ctx context.Context) (jetstream.Stream, error) {
			return js.CreateStream(ctx, s.streamConfig(ns, i, n))
		})
}

// bindFiles returns the stream of the object store.
func bindFiles(ctx context.Context, js jetstream.JetStream, ns Namespace, s Settings) (jetstream.Stream, error) {
	find := func(ctx context.Context) (jetstream.Stream, error) { return js.Stream(ctx, ns.FilesStream()) }
	return bind(ctx, js, ns.FilesStream(), find, func(ctx context.Context) (jetstream.Stream, error) {
		_, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: ns.FilesBucket(), Description: "hark: what jobs leave to download",
			TTL: s.FileAge + fileGrace, MaxBytes: s.FileSpace, Storage: jetstream.FileStorage, Replicas: s.Replicas,
			Metadata: map[string]string{userSpaceKey: strconv.FormatInt(s.UserFileSpace, 10)},
		})
		if err != nil {
			return nil, err
		}
		return find(ctx)
	})
}

// checkStream returns an error if an existing stream, i of the n of the log, was not created by hark: its messages would not
// be published live.
func checkStream(ns Namespace, c *jetstream.StreamConfig, i, n int) error {
	var missing []string
	if want := ns.streamSubjects(i, n); !slices.Equal(c.Subjects, want) {
		missing = append(missing, "the subjects "+strings.Join(want, " "))
	}
	if c.RePublish == nil || c.RePublish.Source != ns.LogSubjects() || c.RePublish.Destination != ns.LiveSubjects() || c.RePublish.HeadersOnly {
		missing = append(missing, "republishing to "+ns.LiveSubjects())
	}
	if !c.AllowDirect {
		missing = append(missing, "direct gets")
	}
	if !c.AllowRollup {
		missing = append(missing, "rollups")
	}
	if !c.AllowAtomicPublish {
		missing = append(missing, "atomic batches")
	}
	if len(missing) > 0 {
		return fmt.Errorf("joblog: stream %s lacks %s; run hark setup to repair it", c.Name, strings.Join(missing, ", "))
	}
	return nil
}

// logDifferences logs one line with the requested settings that differ from those in effect.
func logDifferences(log *slog.Logger, asked, exists Settings) {
	if args := asked.differences(exists); len(args) > 0 {
		log.Warn("settings of this process differ from those of the stream and are ignored; change them with hark setup", args...)
	}
}
