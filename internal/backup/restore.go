package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
)

// Options of [Restore].
type Options struct {
	// Location says where the streams are created. Its namespace must be that of the backup, whose messages have it in
	// their subjects.
	joblog.Location
	// Replicas is the number of replicas of the streams. Defaults to that of the backup.
	Replicas int
	// MaxAge and FileAge are how long the log and the files are kept. Default to those of the backup. Older messages are not
	// restored.
	MaxAge, FileAge time.Duration
	// Replace deletes hark's existing streams and their messages, after the backup was verified.
	Replace bool
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Restore creates hark's streams from the backup in dir. No hark may use the NATS server meanwhile, since it would create missing
// streams. If Restore fails, it deletes the streams that it has created. It blocks until it is complete or ctx ends.
//
// Errors: an [*Error] with the code no_backup, backup_damaged, backup_format, namespace_differs, streams_exist, nats_too_old or
// clock_behind, or what went wrong.
func Restore(ctx context.Context, nc *nats.Conn, dir string, o Options) (Summary, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	ctx, cancel := withoutDeadline(ctx)
	defer cancel()
	if err := o.Location.Check(); err != nil {
		return Summary{}, err
	}
	o.Location = o.Location.WithDefaults()
	o.Logger.Info("restore: verifying the backup", "dir", dir)
	m, surveys, err := load(dir, o)
	if err != nil {
		return Summary{}, err
	}
	if o.Namespace != m.Namespace {
		return Summary{}, newError("namespace_differs", "The backup in %s is of the namespace %s. Restore it with Options.Namespace %s.", dir, m.Namespace, m.Namespace)
	}
	js, err := o.Location.JetStream(nc)
	if err != nil {
		return Summary{}, fmt.Errorf("restore: %w", err)
	}
	if err := checkServer(nc); err != nil {
		return Summary{}, err
	}
	if err := removeStreams(ctx, js, m, o); err != nil {
		return Summary{}, err
	}
	s := m.summary()
	var made []string
	// The log is last, so that hark finds everything that the log refers to.
	for i := len(m.Parts) - 1; i >= 0; i-- {
		p := &m.Parts[i]
		made = append(made, p.Stream)
		s.Streams[i].Expired = surveys[i].expired
		if err = p.restore(ctx, js, dir, surveys[i], o); err != nil {
			err = fmt.Errorf("restore: stream %s: %w", p.Stream, err)
			break
		}
	}
	if err != nil {
		return Summary{}, errors.Join(err, undo(ctx, js, made))
	}
	return s, nil
}

// oldestServer is the first server version that can restore these backups.
const oldestServer = "2.15"

func checkServer(nc *nats.Conn) error {
	var major, minor int
	// The server's own checks decide about an unknown form of version.
	if n, _ := fmt.Sscanf(nc.ConnectedServerVersion(), "%d.%d", &major, &minor); n == 2 && (major < 2 || major == 2 && minor < 15) {
		return newError("nats_too_old", "The NATS server at %s has version %s, and a restore needs %s or newer. Update it first.",
			nc.ConnectedUrlRedacted(), nc.ConnectedServerVersion(), oldestServer)
	}
	return nil
}

// removeStreams deletes hark's streams if the options allow it, and else returns an error if there are any. The log may have
// another number of streams than that of the backup.
func removeStreams(ctx context.Context, js jetstream.JetStream, m *manifest, o Options) error {
	names, err := m.streams()
	if err != nil {
		return err
	}
	// With two streams or more there is one that begins in the middle, and the first one may have been lost.
	for _, name := range o.Namespace.LogStreams(2) {
		stream, err := lookUp(ctx, js, name, o.Logger)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("restore: stream %s: %w", name, err)
		}
		for _, name := range o.Namespace.LogStreams(joblog.StreamsIn(stream.CachedInfo().Config.Metadata)) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	for _, name := range names {
		stream, err := lookUp(ctx, js, name, o.Logger)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			continue
		case err != nil:
			return fmt.Errorf("restore: stream %s: %w", name, err)
		case !o.Replace:
			return newError("streams_exist", "The NATS server already has a stream %s, with %d messages, and a restore does not overwrite streams. "+
				"Stop every hark that uses this server, and then restore with Options.Replace, which deletes the existing streams of hark.",
				name, stream.CachedInfo().State.Msgs)
		}
	}
	if !o.Replace {
		return nil
	}
	for _, name := range names {
		err := retry(ctx, o.Logger, func() error { return js.DeleteStream(ctx, name) })
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("restore: delete stream %s: %w", name, err)
		}
	}
	return nil
}

// undo deletes the streams that the restore has created.
func undo(ctx context.Context, js jetstream.JetStream, made []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), chunkTimeout)
	defer cancel()
	for _, name := range made {
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("and the incomplete stream %s still exists; a restore that replaces streams deletes it: %w", name, err)
		}
	}
	return nil
}

// restore creates the stream of p.
func (p *part) restore(ctx context.Context, js jetstream.JetStream, dir string, s *survey, o Options) error {
	config, err := p.configFor(o)
	if err != nil {
		return err
	}
	state := p.state(s)
	var begun struct {
		DeliverSubject string `json:"deliver_subject"`
	}
	if err := call(ctx, js, chunkTimeout, "STREAM.RESTORE."+p.Stream, map[string]any{"config": config, "state": state}, &begun); err != nil {
		return err
	}
	up := &uploader{ctx: ctx, nc: js.Conn(), subject: begun.DeliverSubject, log: o.Logger, stream: p.Stream, last: time.Now()}
	if err := p.upload(up, s, state, dir); err != nil {
		return err
	}
	age, err := p.maxAge(o)
	if err != nil {
		return err
	}
	if err := p.verify(ctx, js, s, age, o.Logger); err != nil {
		return err
	}
	o.Logger.Info("restore: stream restored", "stream", p.Stream, "messages", s.kept, "consumers", len(p.Consumers))
	if s.expired > 0 {
		o.Logger.Warn("restore: messages skipped, since they are older than the stream's maximum age",
			"stream", p.Stream, "messages", s.expired, "max_age", age)
	}
	return nil
}

// maxAge returns how long the stream of p keeps messages; 0 means for ever.
func (p *part) maxAge(o Options) (time.Duration, error) {
	switch {
	case o.Namespace.IsLogStream(p.Stream) && o.MaxAge > 0:
		return o.MaxAge, nil
	case p.Stream == o.Namespace.FilesStream() && o.FileAge > 0:
		return o.FileAge + 24*time.Hour, nil // as joblog.Open does
	}
	var config struct {
		MaxAge time.Duration `json:"max_age"`
	}
	err := json.Unmarshal(p.Config, &config)
	return config.MaxAge, err
}

// configFor returns the configuration of the restored stream.
func (p *part) configFor(o Options) (map[string]json.RawMessage, error) {
	config := map[string]json.RawMessage{}
	if err := json.Unmarshal(p.Config, &config); err != nil {
		return nil, err
	}
	if o.Replicas > 0 {
		config["num_replicas"] = fmt.Append(nil, o.Replicas)
	}
	age, err := p.maxAge(o)
	if err != nil {
		return nil, err
	}
	config["max_age"] = fmt.Append(nil, int64(age))
	if o.Namespace.IsLogStream(p.Stream) && age > 0 {
		config["duplicate_window"] = fmt.Append(nil, int64(min(joblog.DedupeWindow, age)))
	}
	delete(config, "placement") // of another cluster
	return config, nil
}

// verify waits until the stream and its consumers have the expected state, and then for the replicas.
func (p *part) verify(ctx context.Context, js jetstream.JetStream, s *survey, age time.Duration, log *slog.Logger) error {
	for began := time.Now(); ; sleep(ctx, 100*time.Millisecond) {
		err := p.compare(ctx, js, s, age)
		var final *Error
		if err == nil {
			break
		}
		if errors.As(err, &final) {
			return err
		}
		if ctx.Err() != nil || time.Since(began) > retryTimeout {
			return fmt.Errorf("the restored stream differs from the backup: %w", err)
		}
	}
	return p.awaitReplicas(ctx, js, log)
}

// awaitReplicas blocks until the replicas have caught up with the stream's leader. It does not wait for offline servers, nor for
// replicas that do not progress.
func (p *part) awaitReplicas(ctx context.Context, js jetstream.JetStream, log *slog.Logger) error {
	var before string
	moved, logged := time.Now(), time.Now()
	for ; ; sleep(ctx, 100*time.Millisecond) {
		stream, err := js.Stream(ctx, p.Stream)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		behind := ""
		if err == nil && stream.CachedInfo().Cluster != nil {
			for _, r := range stream.CachedInfo().Cluster.Replicas {
				if !r.Current && !r.Offline {
					behind += fmt.Sprintf("%s by %d; ", r.Name, r.Lag)
				}
			}
		}
		if err == nil && behind == "" {
			return nil
		}
		if behind != before {
			moved, before = time.Now(), behind
		}
		if time.Since(moved) > replicaTimeout {
			log.Warn("restore: not all replicas have caught up", "stream", p.Stream, "behind", behind, "err", err)
			return nil
		}
		if time.Since(logged) > progressInterval {
			logged = time.Now()
			log.Info("restore: waiting for replicas", "stream", p.Stream, "behind", behind)
		}
	}
}

func (p *part) compare(ctx context.Context, js jetstream.JetStream, s *survey, age time.Duration) error {
	stream, err := js.Stream(ctx, p.Stream)
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	expiring := age > 0 && s.kept > 0 && time.Since(s.oldest) > age
	if info.State.LastSeq != p.LastSeq || info.State.Msgs > s.kept || info.State.Msgs < s.kept && !expiring {
		return fmt.Errorf("it has %d messages up to %d, not %d up to %d", info.State.Msgs, info.State.LastSeq, s.kept, p.LastSeq)
	}
	// The new epoch must be greater than the old one, so that ids of the old log are not valid in this one: the inbox treats
	// the greatest epoch as the current one.
	metadata, err := p.metadata()
	if err != nil {
		return err
	}
	if was := int64(joblog.EpochOf(p.Created, metadata)); info.Created.UnixMilli() <= was {
		return newError("clock_behind", "The clock of the NATS server lags behind: it has created the stream %s at %s, and the one in the backup is from %s. Set the clock and restore again.",
			p.Stream, info.Created.UTC().Format(time.RFC3339), time.UnixMilli(was).UTC().Format(time.RFC3339))
	}
	for _, want := range p.Consumers {
		c, err := stream.Consumer(ctx, want.Name)
		if err != nil {
			return fmt.Errorf("consumer %s: %w", want.Name, err)
		}
		if floor := c.CachedInfo().AckFloor; floor.Stream < want.AckFloor.Stream {
			return fmt.Errorf("consumer %s is at %d, not at %d", want.Name, floor.Stream, want.AckFloor.Stream)
		}
	}
	return nil
}
