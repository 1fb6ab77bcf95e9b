package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/jobs"
)

// Options of [Restore].
type Options struct {
	// Replicas is how many servers of a cluster keep each message. 0 means as many as in the backup.
	Replicas int
	// MaxAge and FileAge say how long the log and the files are kept, as in [jobs.Config]. 0 means as in the backup. What
	// is older is not restored.
	MaxAge, FileAge time.Duration
	// Replace deletes hark's streams, if there are any, once the backup is known to be whole. What they hold is lost.
	Replace bool
	Log     *slog.Logger // slog.Default()
}

// Restore makes hark's streams from the backup in dir. Nothing of hark may run on the NATS server meanwhile: it would
// make the streams that are missing. If it fails it removes again what it made.
//
// Errors: an [*Error] with the code no_backup, backup_damaged, backup_format, streams_exist, nats_too_old or
// clock_behind, or what went wrong.
func Restore(ctx context.Context, nc *nats.Conn, dir string, o Options) (Summary, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	o.Log.Info("restore: verifying the backup", "dir", dir)
	m, surveys, err := load(dir, o)
	if err != nil {
		return Summary{}, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return Summary{}, fmt.Errorf("restore: %w", err)
	}
	if err := checkServer(nc); err != nil {
		return Summary{}, err
	}
	if err := makeRoom(ctx, js, o); err != nil {
		return Summary{}, err
	}
	s := m.summary()
	var made []string
	// The log last: with it, hark finds all that it names.
	for i := len(m.Parts) - 1; i >= 0; i-- {
		p := &m.Parts[i]
		made = append(made, p.Stream)
		s.Streams[i].Expired = surveys[i].expired
		if err = p.restore(ctx, nc, js, dir, surveys[i], o); err != nil {
			err = fmt.Errorf("restore: stream %s: %w", p.Stream, err)
			break
		}
	}
	if err != nil {
		return Summary{}, errors.Join(err, undo(ctx, js, made))
	}
	return s, nil
}

// oldestServer is the first version that restores what this package writes.
const oldestServer = "2.15"

func checkServer(nc *nats.Conn) error {
	var major, minor int
	// A version that cannot be read is left to the server's own checks.
	if n, _ := fmt.Sscanf(nc.ConnectedServerVersion(), "%d.%d", &major, &minor); n == 2 && (major < 2 || major == 2 && minor < 15) {
		return refuse("nats_too_old", "The NATS server at %s has version %s, and a restore needs %s or newer. Update it first.",
			nc.ConnectedUrlRedacted(), nc.ConnectedServerVersion(), oldestServer)
	}
	return nil
}

// makeRoom sees to it that none of hark's streams is there.
func makeRoom(ctx context.Context, js jetstream.JetStream, o Options) error {
	for _, name := range streams {
		stream, err := js.Stream(ctx, name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			continue
		case err != nil:
			return fmt.Errorf("restore: stream %s: %w", name, err)
		case !o.Replace:
			return refuse("streams_exist", "The NATS server has a stream %s already, with %d messages, and a restore overwrites nothing. "+
				"Stop every hark that uses this server, and then restore with --replace, which deletes the streams of hark that are there.",
				name, stream.CachedInfo().State.Msgs)
		}
	}
	if !o.Replace {
		return nil
	}
	for _, name := range streams {
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("restore: delete stream %s: %w", name, err)
		}
	}
	return nil
}

// undo deletes streams that were not there before.
func undo(ctx context.Context, js jetstream.JetStream, made []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), chunkTimeout)
	defer cancel()
	for _, name := range made {
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("and the half of stream %s that was restored is still there; restore with --replace: %w", name, err)
		}
	}
	return nil
}

// restore makes the stream of p.
func (p *part) restore(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, dir string, s *survey, o Options) error {
	config, err := p.configFor(o)
	if err != nil {
		return err
	}
	state := p.state(s)
	var begun struct {
		DeliverSubject string `json:"deliver_subject"`
	}
	if err := call(ctx, nc, chunkTimeout, "STREAM.RESTORE."+p.Stream, map[string]any{"config": config, "state": state}, &begun); err != nil {
		return err
	}
	up := &uploader{ctx: ctx, nc: nc, subject: begun.DeliverSubject, log: o.Log, stream: p.Stream}
	if err := p.upload(up, s, state, dir); err != nil {
		return err
	}
	age, err := p.maxAge(o)
	if err != nil {
		return err
	}
	if err := p.verify(ctx, js, s, age, o.Log); err != nil {
		return err
	}
	o.Log.Info("restore: stream restored", "stream", p.Stream, "messages", s.kept, "consumers", len(p.Consumers))
	if s.expired > 0 {
		o.Log.Warn("restore: messages left out, since the stream does not keep what is that old",
			"stream", p.Stream, "messages", s.expired, "max_age", age)
	}
	return nil
}

// maxAge is how long the stream of p is to keep its messages; 0 means for ever.
func (p *part) maxAge(o Options) (time.Duration, error) {
	switch {
	case p.Stream == logStream && o.MaxAge > 0:
		return o.MaxAge, nil
	case p.Stream == filesStream && o.FileAge > 0:
		return o.FileAge + 24*time.Hour, nil // as jobs.Open does
	}
	var config struct {
		MaxAge time.Duration `json:"max_age"`
	}
	err := json.Unmarshal(p.Config, &config)
	return config.MaxAge, err
}

// configFor is the stream's configuration as it is to be now.
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
	if p.Stream == logStream && age > 0 {
		config["duplicate_window"] = fmt.Append(nil, int64(min(jobs.DedupeWindow, age)))
	}
	delete(config, "placement") // of another cluster
	return config, nil
}

// streamState is what a snapshot begins with.
type streamState struct {
	Messages  uint64 `json:"messages"`
	Bytes     uint64 `json:"bytes"`
	FirstSeq  uint64 `json:"first_seq"`
	LastSeq   uint64 `json:"last_seq"`
	Consumers int    `json:"consumer_count"`
}

func (p *part) state(s *survey) streamState {
	state := streamState{Messages: s.kept, Bytes: s.bytes, FirstSeq: s.firstSeq, LastSeq: p.LastSeq, Consumers: len(p.Consumers)}
	if s.kept == 0 {
		state.FirstSeq = p.LastSeq + 1
	}
	return state
}

// upload sends the snapshot that the server makes the stream of.
func (p *part) upload(up *uploader, s *survey, state streamState, dir string) error {
	compressed := s2.NewWriter(up, s2.WriterConcurrency(1))
	w := archive.NewWriter(compressed)
	entry := func(name string, v any) error {
		body, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&archive.Header{Name: name, PayloadSize: int64(len(body))}); err != nil {
			return err
		}
		_, err = w.Write(body)
		return err
	}
	if err := entry("state.json", state); err != nil {
		return err
	}
	for _, c := range p.Consumers {
		v, err := c.snapshot()
		if err == nil {
			err = entry("consumers/"+c.Name, v)
		}
		if err != nil {
			return err
		}
	}
	err := readMessages(filepath.Join(dir, p.File), func(m *message) error {
		if s.stale(m) || s.old(m) {
			return nil
		}
		up.messages++
		if err := w.WriteHeader(&m.Header); err != nil {
			return err
		}
		_, err := w.Write(m.body)
		return err
	})
	if err != nil {
		return err
	}
	if err := errors.Join(w.WriteHeader(&archive.Header{}), w.Close(), compressed.Close()); err != nil {
		return err
	}
	return up.finish()
}

// snapshot is the consumer as a snapshot has it. It goes on at its ack floor: what was delivered behind that, and perhaps
// acked, is delivered again. A job that has ended is acked then, and not run.
func (c *consumer) snapshot() (any, error) {
	config := map[string]json.RawMessage{}
	if err := json.Unmarshal(c.Config, &config); err != nil {
		return nil, err
	}
	delete(config, "num_replicas") // as many as the stream has
	return map[string]any{"config": config, "state": map[string]any{"delivered": c.AckFloor, "ack_floor": c.AckFloor}}, nil
}

// uploader sends what is written to it to the server, chunk by chunk. The server answers each when it has taken it in, so
// no more than one is on its way.
type uploader struct {
	ctx     context.Context
	nc      *nats.Conn
	subject string
	buffer  []byte

	log      *slog.Logger
	stream   string
	messages uint64
	sent     int64
	told     time.Time
}

const (
	// chunkSize is what is sent at once, less if the server takes less.
	chunkSize = 128 << 10
	// chunkTimeout is how long the server may take for one, or to begin.
	chunkTimeout = 30 * time.Second
	// replicaPatience is how long a replica may stay as far behind as it is.
	replicaPatience = time.Minute
	// finishTimeout is how long the server may take when it has all: it makes the consumers then.
	finishTimeout = 10 * time.Minute
)

func (u *uploader) Write(p []byte) (int, error) {
	size := int(min(chunkSize, u.nc.MaxPayload()))
	u.buffer = append(u.buffer, p...)
	for len(u.buffer) >= size {
		if err := u.send(u.buffer[:size]); err != nil {
			return 0, err
		}
		u.buffer = append(u.buffer[:0], u.buffer[size:]...)
	}
	return len(p), nil
}

func (u *uploader) send(chunk []byte) error {
	ctx, cancel := context.WithTimeout(u.ctx, chunkTimeout)
	defer cancel()
	m, err := u.nc.RequestWithContext(ctx, u.subject, chunk)
	if err != nil {
		return fmt.Errorf("the server did not take a part of the stream: %w", err)
	}
	if len(m.Data) > 0 { // what went wrong, on its side
		return errors.Join(decode(m.Data, &struct{}{}), errors.New("the server ended the restore"))
	}
	u.sent += int64(len(chunk))
	if time.Since(u.told) > progressEvery {
		if !u.told.IsZero() {
			u.log.Info("restore: sending", "stream", u.stream, "messages", u.messages, "bytes", u.sent)
		}
		u.told = time.Now()
	}
	return nil
}

// finish says that this was all, and waits for the stream.
func (u *uploader) finish() error {
	if len(u.buffer) > 0 {
		if err := u.send(u.buffer); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(u.ctx, finishTimeout)
	defer cancel()
	m, err := u.nc.RequestWithContext(ctx, u.subject, nil)
	if err != nil {
		return fmt.Errorf("the server did not finish the restore: %w", err)
	}
	return decode(m.Data, &struct{}{})
}

// verify looks at the stream and its consumers until they are as they should be, and then waits for the replicas.
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
		if ctx.Err() != nil || time.Since(began) > patience {
			return fmt.Errorf("the stream was restored, and is not as it should be: %w", err)
		}
	}
	return p.awaitReplicas(ctx, js, log)
}

// awaitReplicas blocks until the replicas have all that the stream's leader has. It does not wait for servers that are
// not there, nor for what does not move.
func (p *part) awaitReplicas(ctx context.Context, js jetstream.JetStream, log *slog.Logger) error {
	var before string
	moved, told := time.Now(), time.Now()
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
		if time.Since(moved) > replicaPatience {
			log.Warn("restore: not all replicas have the stream", "stream", p.Stream, "behind", behind, "err", err)
			return nil
		}
		if time.Since(told) > progressEvery {
			told = time.Now()
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
		return fmt.Errorf("it has %d messages up to %d, and not %d up to %d", info.State.Msgs, info.State.LastSeq, s.kept, p.LastSeq)
	}
	// Ids of the old log must not be taken for ids of this one, and those of this one must be the greater: the inbox
	// takes the greatest for the current.
	if info.Created.UnixMilli() <= p.Created.UnixMilli() {
		return refuse("clock_behind", "The clock of the NATS server is behind: it made the stream %s at %s, and the one in the backup was made at %s. Set the clock and restore again.",
			p.Stream, info.Created.UTC().Format(time.RFC3339), p.Created.Format(time.RFC3339))
	}
	for _, want := range p.Consumers {
		c, err := stream.Consumer(ctx, want.Name)
		if err != nil {
			return fmt.Errorf("consumer %s: %w", want.Name, err)
		}
		if floor := c.CachedInfo().AckFloor; floor.Stream < want.AckFloor.Stream {
			return fmt.Errorf("consumer %s is at %d, and not at %d", want.Name, floor.Stream, want.AckFloor.Stream)
		}
	}
	return nil
}
