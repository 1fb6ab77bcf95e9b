// Package backup copies hark's streams in JetStream to a folder, and restores them: the log of jobs and notifications with the
// consumers of its workers, the kinds, and the files. It does not back up the inbox, for which the database has its own
// tools, nor tickets, which live for 30 s.
//
// It reads the streams message by message, through a consumer, while hark may be writing. It does not use JetStream's
// snapshots, which the nats command makes. A snapshot (nats-server 2.15.2) ends at the last sequence of its start, and omits
// messages that are deleted before it reaches them. So a state or spec that is replaced meanwhile is missing in both its old
// and its new version. This package reads until nothing is left to read. Then each message that it has missed was replaced
// by one that it has read.
//
// It restores with JetStream's own restore, which keeps sequences, times and headers. The restored stream has a new creation
// time, which begins a new epoch. So no event id of the old log is valid in the new one.
package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
)

// streamsOf returns the streams of a backup, in the order of reading, if the log has n. A worker stores a file before the state
// that names it. So the files are read last, and the backup has the file of each state. A restore has the reverse order.
func streamsOf(ns joblog.Namespace, n int) []string {
	return append(ns.LogStreams(n), joblog.BucketStream(ns.KindsBucket()), ns.FilesStream())
}

// Error is the reason why a backup or a restore is refused: a stable code, and a sentence or two that say what to do. They name
// options of package hark, such as Options.Replace.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Message }

func newError(code, format string, args ...any) error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// Summary describes a backup, or what was restored.
type Summary struct {
	Began   time.Time // of the backup, which has everything that was stored before
	Ended   time.Time
	Streams []StreamSummary
}

// StreamSummary is one stream of a [Summary].
type StreamSummary struct {
	Name      string
	Messages  uint64
	FirstSeq  uint64 // of the messages; 0 if there are none
	LastSeq   uint64
	FileBytes int64 // of the file in the backup
	Consumers int
	// Expired is the number of messages that were not restored, since they are older than the stream's maximum age.
	Expired uint64
}

// Backup copies hark's streams to dir, which must be empty or not exist. hark may run meanwhile. An incomplete backup has no
// manifest, and [Restore] does not accept it. Backup blocks until it is complete or ctx ends. A nil log means slog.Default().
//
// Errors: an [*Error] with the code folder_not_empty or no_hark, or what went wrong.
func Backup(ctx context.Context, nc *nats.Conn, at joblog.Location, dir string, log *slog.Logger) (_ Summary, err error) {
	if log == nil {
		log = slog.Default()
	}
	ctx, cancel := withoutDeadline(ctx)
	defer cancel()
	if err := emptyFolder(dir); err != nil {
		return Summary{}, err
	}
	if err := at.Check(); err != nil {
		return Summary{}, err
	}
	at = at.WithDefaults()
	js, err := at.JetStream(nc)
	if err != nil {
		return Summary{}, fmt.Errorf("backup: %w", err)
	}
	m := manifest{Format: format, Namespace: at.Namespace, Began: time.Now().UTC(), Server: nc.ConnectedServerVersion()}
	// Look up all streams before reading any, so that a server without hark is refused at the start.
	streams := streamsOf(at.Namespace, 1)
	for i := 0; i < len(streams); i++ {
		name := streams[i]
		stream, err := lookUp(ctx, js, name, log)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return Summary{}, newError("no_hark", "The NATS server at %[2]s has no stream %[1]s, so there is no hark to back up. Check Options.NATSServers.URL and Options.Namespace.",
				name, nc.ConnectedUrlRedacted())
		} else if err != nil {
			return Summary{}, fmt.Errorf("backup: stream %s: %w", name, err)
		}
		if i == 0 { // the first one says how many there are
			streams = streamsOf(at.Namespace, joblog.StreamsIn(stream.CachedInfo().Config.Metadata))
		}
	}
	defer func() {
		if err != nil { // remove the incomplete backup
			for _, p := range m.Parts {
				_ = os.Remove(filepath.Join(dir, p.File))
			}
		}
	}()
	for _, name := range streams {
		p := part{Stream: name, File: name + ".s2"}
		m.Parts = append(m.Parts, p)
		if err := p.save(ctx, js, at.Namespace, dir, log); err != nil {
			return Summary{}, fmt.Errorf("backup: stream %s: %w", name, err)
		}
		m.Parts[len(m.Parts)-1] = p
		log.Info("backup: stream saved", "stream", name, "messages", p.Messages, "bytes", p.Size, "consumers", len(p.Consumers))
	}
	m.Ended = time.Now().UTC()
	if err := m.write(dir); err != nil {
		return Summary{}, fmt.Errorf("backup: %w", err)
	}
	return m.summary(), nil
}

// emptyFolder creates dir if it does not exist, and returns an error if it is not empty.
func emptyFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if len(entries) > 0 {
		return newError("folder_not_empty", "The folder %s is not empty. Use a new folder for this backup.", dir)
	}
	return nil
}

// save copies the stream of p into its file and describes it in p.
func (p *part) save(ctx context.Context, js jetstream.JetStream, ns joblog.Namespace, dir string, log *slog.Logger) error {
	var stream jetstream.Stream
	var info struct {
		Config  json.RawMessage `json:"config"` // unchanged from the server, with fields that nats.go may not have
		Created time.Time       `json:"created"`
		State   struct {
			LastSeq uint64 `json:"last_seq"`
		} `json:"state"`
	}
	err := retry(ctx, log, func() (err error) {
		if stream, err = js.Stream(ctx, p.Stream); err != nil {
			return err
		}
		// Read the consumers before the log, so that the log has the results of everything that they have acked.
		if err := p.readConsumers(ctx, stream, ns); err != nil {
			return err
		}
		return call(ctx, js, callTimeout, "STREAM.INFO."+p.Stream, nil, &info)
	})
	if err != nil {
		return err
	}
	p.Config, p.Created, p.BeganAt = info.Config, info.Created, info.State.LastSeq
	w, err := createMessages(filepath.Join(dir, p.File))
	if err != nil {
		return err
	}
	defer w.abort()
	if err := readAll(ctx, js, stream, w, log); err != nil {
		return err
	}
	if p.Size, p.SHA256, err = w.close(); err != nil {
		return err
	}
	p.Messages, p.Bytes, p.FirstSeq = w.messages, w.bytes, w.firstSeq
	p.LastSeq = max(w.lastSeq, p.BeganAt)
	return nil
}

// readConsumers describes the consumers of the workers. The others belong to processes, which create them again. Most of those
// are on one server, and while it is down nothing can be known of them.
func (p *part) readConsumers(ctx context.Context, stream jetstream.Stream, ns joblog.Namespace) error {
	p.Consumers = nil
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		if !strings.HasPrefix(name, ns.WorkerConsumer("")) {
			continue
		}
		c, err := stream.Consumer(ctx, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			continue // gone meanwhile
		}
		if err != nil {
			return fmt.Errorf("consumer %s: %w", name, err)
		}
		info := c.CachedInfo()
		config, err := json.Marshal(info.Config)
		if err != nil {
			return err
		}
		p.Consumers = append(p.Consumers, consumer{Name: name, Config: config,
			AckFloor: sequences{info.AckFloor.Consumer, info.AckFloor.Stream}})
	}
	return names.Err()
}

const (
	// callTimeout is the timeout of a cheap request to the server.
	callTimeout = 10 * time.Second
	// retryTimeout is how long temporary errors of the server are retried. An election or a restart of a server takes less.
	retryTimeout = 2 * time.Minute
)

// lookUp returns a stream. Servers that have just started may not be a cluster yet, and do not respond.
func lookUp(ctx context.Context, js jetstream.JetStream, name string, log *slog.Logger) (stream jetstream.Stream, err error) {
	err = retry(ctx, log, func() error {
		stream, err = js.Stream(ctx, name)
		return err
	})
	return stream, err
}

// withoutDeadline returns a context that ends with ctx, and has no deadline. With a deadline nats.go waits for an answer until
// then; without one it gives a call up after five seconds, and an answer that was lost with a server is requested again.
func withoutDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return inner, func() { stop(); cancel(nil) }
}

// retry calls do until it succeeds, fails with a permanent error, or retryTimeout has passed.
func retry(ctx context.Context, log *slog.Logger, do func() error) error {
	for began := time.Now(); ; sleep(ctx, 500*time.Millisecond) {
		err := do()
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil || !isTemporary(err) || time.Since(began) > retryTimeout {
			return err
		}
		log.Warn("backup: retrying", "err", err)
	}
}

// isTemporary reports whether an error of NATS is temporary, such as an election, or a server that is down.
func isTemporary(err error) bool {
	for _, e := range []error{context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected,
		nats.ErrConnectionReconnecting, jetstream.ErrNoStreamResponse} {
		if errors.Is(err, e) {
			return true
		}
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code == 503 || isAPIError(err, errStreamOffline) || isAPIError(err, errConsumerOffline)
}

// Error codes of JetStream. The last two say that none of the servers of the stream or consumer is up.
const (
	errNoMessage       jetstream.ErrorCode = 10037
	errStreamOffline   jetstream.ErrorCode = 10118
	errConsumerOffline jetstream.ErrorCode = 10119
)

func isAPIError(err error, code jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == code
}

// call calls JetStream's API and decodes the response. Errors of the server are [*jetstream.APIError].
func call(ctx context.Context, js jetstream.JetStream, timeout time.Duration, subject string, request, answer any) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m, err := js.Conn().RequestWithContext(ctx, joblog.APISubject(js, subject), body)
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	return decode(m.Data, answer)
}

// decode decodes a response of JetStream's API.
func decode(data []byte, answer any) error {
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&failed); err != nil {
		return fmt.Errorf("response of JetStream: %w", err)
	}
	if failed.Error != nil {
		return failed.Error
	}
	return json.Unmarshal(data, answer)
}
