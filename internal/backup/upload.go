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
)

// streamState is the first entry of a snapshot.
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

// upload sends the snapshot from which the server creates the stream.
func (p *part) upload(up *uploader, s *survey, state streamState, dir string) error {
	frames := up.frames()
	w := archive.NewWriter(frames)
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
			return up.stayAlive(frames)
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
	if err := errors.Join(w.WriteHeader(&archive.Header{}), w.Close(), frames.Close()); err != nil {
		return err
	}
	return up.finish()
}

// snapshot returns the consumer in the form of a snapshot. The consumer continues at its ack floor: later messages that were
// delivered, and maybe acked, are redelivered. A job that has ended is then acked and not run.
func (c *consumer) snapshot() (any, error) {
	config := map[string]json.RawMessage{}
	if err := json.Unmarshal(c.Config, &config); err != nil {
		return nil, err
	}
	delete(config, "num_replicas") // defaults to the stream's
	return map[string]any{"config": config, "state": map[string]any{"delivered": c.AckFloor, "ack_floor": c.AckFloor}}, nil
}

// uploader is a writer that sends its bytes to the server, one chunk at a time. It waits for the server's response to each chunk.
type uploader struct {
	ctx     context.Context
	nc      *nats.Conn
	subject string
	buffer  []byte

	log      *slog.Logger
	stream   string
	messages uint64
	sent     int64
	last     time.Time // the time of the last chunk
	logged   time.Time // the time of the last log line
}

const (
	// chunkSize is the size of a chunk in bytes, unless the server accepts less.
	chunkSize = 128 << 10
	// chunkTimeout is the timeout of a chunk, and of the start.
	chunkTimeout = 30 * time.Second
	// maxSilence is the time without a chunk after which one without messages is sent. The server gives a restore up after five seconds
	// (nats-server 2.15, processStreamRestore), which a backup can exceed with messages that are not restored.
	maxSilence = time.Second
	// replicaTimeout is how long to wait for a replica whose lag does not change.
	replicaTimeout = time.Minute
	// finishTimeout is the timeout of the end, when the server creates the consumers.
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

// frames returns a writer of u in the format of snapshots, which is not safe for concurrent use. It does not compress: a chunk would
// hold thousands of messages, and a slow server would give the restore up before it has stored them.
func (u *uploader) frames() *s2.Writer {
	return s2.NewWriter(u, s2.WriterConcurrency(1), s2.WriterUncompressed(), s2.WriterBlockSize(chunkSize/2))
}

// flush sends what is buffered.
func (u *uploader) flush() error {
	if len(u.buffer) == 0 {
		return nil
	}
	err := u.send(u.buffer)
	u.buffer = u.buffer[:0]
	return err
}

// stayAlive sends a frame that the server skips, if the last chunk is [maxSilence] ago. w writes to u.
func (u *uploader) stayAlive(w *s2.Writer) error {
	if time.Since(u.last) < maxSilence {
		return nil
	}
	const skippable = 0x80 // s2 format, 4.4: reserved skippable chunks
	if err := w.AddSkippableBlock(skippable, []byte{0}); err != nil {
		return err
	}
	return u.flush()
}

func (u *uploader) send(chunk []byte) error {
	ctx, cancel := context.WithTimeout(u.ctx, chunkTimeout)
	defer cancel()
	m, err := u.nc.RequestWithContext(ctx, u.subject, chunk)
	// Right after the restore began, this server of a cluster may not know yet that another one listens. Nobody has received
	// the chunk then.
	for errors.Is(err, nats.ErrNoResponders) && ctx.Err() == nil {
		sleep(ctx, 20*time.Millisecond)
		m, err = u.nc.RequestWithContext(ctx, u.subject, chunk)
	}
	if err != nil {
		return fmt.Errorf("the server did not accept a part of the stream: %w", err)
	}
	if len(m.Data) > 0 { // an error of the server
		return errors.Join(decode(m.Data, &struct{}{}), errors.New("the server ended the restore"))
	}
	u.sent += int64(len(chunk))
	u.last = time.Now()
	if time.Since(u.logged) > progressInterval {
		if !u.logged.IsZero() {
			u.log.Info("restore: sending", "stream", u.stream, "messages", u.messages, "bytes", u.sent)
		}
		u.logged = time.Now()
	}
	return nil
}

// finish sends the rest and the end, and waits until the stream is restored.
func (u *uploader) finish() error {
	if err := u.flush(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(u.ctx, finishTimeout)
	defer cancel()
	m, err := u.nc.RequestWithContext(ctx, u.subject, nil)
	if err != nil {
		return fmt.Errorf("the server did not finish the restore: %w", err)
	}
	return decode(m.Data, &struct{}{})
}
