// Package backup copies what hark keeps in JetStream into a folder, and makes it anew from there: the stream of jobs and
// notifications with the consumers of its workers, the kinds, and the files. The inbox is in a database, which has ways
// of its own to be backed up. Tickets, which live for 30 s, are left out.
//
// The streams are read message by message, through a consumer, while hark goes on writing. JetStream's snapshots are not
// used, though they are what the nats command makes: a snapshot (nats-server 2.15.2) ends at the sequence that was the
// last when it began, and leaves out what is deleted before it gets there. A state or job request that is replaced
// meanwhile is then in it neither as it was nor as it is. This package reads on until nothing is left to read. Then each
// message that it did not meet had been replaced by one that it did.
//
// What was read is restored with JetStream's own restore, which keeps sequences, times and headers, and makes a stream
// with a new creation time: hark's epoch. So no event id of the old log is ever taken for one of the new.
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
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/jobs"
)

// streams are what is backed up, in the order of reading. A worker stores a file before the state that names it, so the
// files come last: whatever file a state in the backup names is there too. They are restored the other way round.
var streams = []string{logStream, "KV_hark_kinds", filesStream}

const (
	logStream   = jobs.StreamName
	filesStream = "OBJ_hark_files"
)

// Error is why a backup or a restore is refused: a stable code, and a sentence or two with a way out.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Message }

func refuse(code, format string, args ...any) error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// Summary says what a backup holds, or what was restored.
type Summary struct {
	Began   time.Time // of the backup: what was stored by then is in it
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
	// Expired is how many of the messages were not restored, since they are older than the stream keeps them.
	Expired uint64
}

// Backup copies hark's streams into dir, which must not be there yet or be empty. hark may go on working meanwhile. What
// is not whole in the end has no manifest, and [Restore] does not accept it.
//
// Errors: an [*Error] with the code folder_not_empty or no_hark, or what went wrong.
func Backup(ctx context.Context, nc *nats.Conn, dir string, log *slog.Logger) (_ Summary, err error) {
	if log == nil {
		log = slog.Default()
	}
	if err := emptyFolder(dir); err != nil {
		return Summary{}, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return Summary{}, fmt.Errorf("backup: %w", err)
	}
	m := manifest{Format: format, Began: time.Now().UTC(), Server: nc.ConnectedServerVersion()}
	// All are looked up before any is read, so that a server without hark is refused at once.
	for _, name := range streams {
		if _, err := js.Stream(ctx, name); errors.Is(err, jetstream.ErrStreamNotFound) {
			return Summary{}, refuse("no_hark", "There is no stream %s on the NATS server at %s, so there is no hark to back up. Check --nats.",
				name, nc.ConnectedUrlRedacted())
		} else if err != nil {
			return Summary{}, fmt.Errorf("backup: stream %s: %w", name, err)
		}
	}
	defer func() {
		if err != nil { // what is there is of no use
			for _, p := range m.Parts {
				_ = os.Remove(filepath.Join(dir, p.File))
			}
		}
	}()
	for _, name := range streams {
		p := part{Stream: name, File: name + ".s2"}
		m.Parts = append(m.Parts, p)
		if err := p.save(ctx, nc, js, dir, log); err != nil {
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

// emptyFolder makes dir, if it is not there, and refuses it if something is in it.
func emptyFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if len(entries) > 0 {
		return refuse("folder_not_empty", "There is something in the folder %s already. Name a new folder for this backup.", dir)
	}
	return nil
}

// save copies the stream of p into its file and describes it in p.
func (p *part) save(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, dir string, log *slog.Logger) error {
	var stream jetstream.Stream
	var info struct {
		Config  json.RawMessage `json:"config"` // as the server says it, with all that nats.go may not know
		Created time.Time       `json:"created"`
		State   struct {
			LastSeq uint64 `json:"last_seq"`
		} `json:"state"`
	}
	err := persist(ctx, log, func() (err error) {
		if stream, err = js.Stream(ctx, p.Stream); err != nil {
			return err
		}
		// The consumers before the log: what they have acked then is in the log with all that came of it.
		if err := p.readConsumers(ctx, stream); err != nil {
			return err
		}
		return call(ctx, nc, callTimeout, "STREAM.INFO."+p.Stream, nil, &info)
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
	if err := readAll(ctx, nc, stream, w, log); err != nil {
		return err
	}
	if p.Size, p.SHA256, err = w.close(); err != nil {
		return err
	}
	p.Messages, p.Bytes, p.FirstSeq = w.messages, w.bytes, w.firstSeq
	p.LastSeq = max(w.lastSeq, p.BeganAt)
	return nil
}

// readConsumers describes the durable consumers. The others belong to processes, which make them anew.
func (p *part) readConsumers(ctx context.Context, stream jetstream.Stream) error {
	p.Consumers = nil
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		c, err := stream.Consumer(ctx, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			continue // gone meanwhile
		}
		if err != nil {
			return fmt.Errorf("consumer %s: %w", name, err)
		}
		info := c.CachedInfo()
		if info.Config.Durable == "" {
			continue
		}
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
	// callTimeout bounds a request that the server answers without much work.
	callTimeout = 10 * time.Second
	// patience is how long what the server cannot do right now is tried again. An election, or a server that is started
	// anew, takes less.
	patience = 2 * time.Minute
)

// persist calls do again for as long as it fails for a reason that passes, such as an election.
func persist(ctx context.Context, log *slog.Logger, do func() error) error {
	for began := time.Now(); ; sleep(ctx, 500*time.Millisecond) {
		err := do()
		if err == nil || ctx.Err() != nil || !passes(err) || time.Since(began) > patience {
			return err
		}
		log.Warn("backup: trying again", "err", err)
	}
}

// passes says of an error of NATS that it may not come again.
func passes(err error) bool {
	for _, e := range []error{context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected,
		nats.ErrConnectionReconnecting, jetstream.ErrNoStreamResponse} {
		if errors.Is(err, e) {
			return true
		}
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code == 503
}

// errNoMessage is the code of JetStream's answer that there is no such message.
const errNoMessage = 10037

// call asks JetStream's API and decodes its answer. An error is a [*jetstream.APIError] if it is the server's.
func call(ctx context.Context, nc *nats.Conn, timeout time.Duration, subject string, request, answer any) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, jetstream.DefaultAPIPrefix+subject, body)
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	return decode(m.Data, answer)
}

// decode reads an answer of JetStream's API.
func decode(data []byte, answer any) error {
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&failed); err != nil {
		return fmt.Errorf("answer of JetStream: %w", err)
	}
	if failed.Error != nil {
		return failed.Error
	}
	return json.Unmarshal(data, answer)
}
