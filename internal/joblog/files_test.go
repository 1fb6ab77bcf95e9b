package joblog_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

var filesStream = defaultNS.FilesStream()

// openFiles returns a queue, and the stream of its files.
func openFiles(t *testing.T) (*joblog.Store, jetstream.Stream) {
	t.Helper()
	nc := natstest.Connect(t)
	q, err := joblog.Open(natstest.Context(t), nc, joblog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(natstest.Context(t), filesStream)
	if err != nil {
		t.Fatal(err)
	}
	return q, stream
}

func messages(t *testing.T, stream jetstream.Stream) uint64 {
	t.Helper()
	info, err := stream.Info(natstest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

// letters yields a number of bytes, no two chunks alike, and then an error.
type letters struct {
	left, given int
	err         error
}

func (l *letters) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, l.err
	}
	p = p[:min(len(p), l.left, 100_003)]
	for i := range p {
		p[i] = 'a' + byte((l.given+i)/1000%26)
	}
	l.left -= len(p)
	l.given += len(p)
	return len(p), nil
}

func stored(job jobs.Job, size int64) *jobs.Job {
	job.File = &jobs.File{Name: "f", Size: size, ExpiresAt: time.Now().Add(time.Hour)}
	return &job
}

// A file comes back as it was stored, whatever its size, and storing it again takes the place of the first.
func TestStoreFile(t *testing.T) {
	q, stream := openFiles(t)
	job := jobs.Job{ID: "01JD3QF4X5S7H8J9K0M1N2P3R4"}
	for _, size := range []int{5 << 20, 128 << 10, 128<<10 + 1, 1, 0} {
		n, err := q.StoreFile(natstest.Context(t), &job, &letters{left: size, err: io.EOF})
		if err != nil || n != int64(size) {
			t.Fatalf("%d bytes: stored %d, %v", size, n, err)
		}
		if got, want := messages(t, stream), uint64((size+128<<10-1)/(128<<10)+1); got != want {
			t.Errorf("%d bytes are %d messages, want %d", size, got, want)
		}
		want, _ := io.ReadAll(&letters{left: size, err: io.EOF})
		file, err := q.OpenFile(natstest.Context(t), stored(job, n))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: read %d, %v", size, len(got), err)
		}
	}
	// Other clients can read it, too.
	store, err := mustJetStream(t, q).ObjectStore(natstest.Context(t), defaultNS.FilesBucket())
	if err != nil {
		t.Fatal(err)
	}
	names, err := store.List(natstest.Context(t))
	if err != nil || len(names) != 1 {
		t.Fatalf("listed %v, %v", names, err)
	}
	if _, err := q.StoreFile(natstest.Context(t), &job, &letters{left: 300_000, err: io.EOF}); err != nil {
		t.Fatal(err)
	}
	want, _ := io.ReadAll(&letters{left: 300_000, err: io.EOF})
	if got, err := store.GetBytes(natstest.Context(t), names[0].Name); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the object store's own reader reads %d bytes, %v", len(got), err) // it checks the digest
	}
	if err := q.DeleteFile(natstest.Context(t), &job); err != nil {
		t.Fatal(err)
	}
	if _, err := q.OpenFile(natstest.Context(t), stored(job, 300_000)); err != jobs.ErrFileGone {
		t.Errorf("a deleted file: %v", err)
	}
}

func mustJetStream(t *testing.T, q *joblog.Store) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(q.Conn())
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// Of a file whose making or storing fails nothing stays.
func TestStoreFileFails(t *testing.T) {
	q, stream := openFiles(t)
	fails := func(what string, ctx context.Context, r io.Reader, want error) {
		t.Helper()
		if _, err := q.StoreFile(ctx, &jobs.Job{ID: "X"}, r); err == nil || !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if n := messages(t, stream); n != 0 {
			t.Errorf("%s: %d messages stay", what, n)
		}
	}
	broken := errors.New("broken")
	fails("the reader fails", t.Context(), &letters{left: 3 << 20, err: broken}, broken)
	fails("the reader's own reader ends too early", t.Context(), &letters{left: 3 << 20, err: io.ErrUnexpectedEOF}, io.ErrUnexpectedEOF)

	ctx, cancel := context.WithCancelCause(t.Context())
	last := &hook{&letters{left: 1 << 20, err: io.EOF}, func(left int) {
		if left == 0 {
			cancel(broken)
		}
	}}
	fails("cancelled at the end", ctx, last, broken)

	ctx, cancel = context.WithCancelCause(t.Context())
	first := &hook{&letters{left: 1 << 20, err: io.EOF}, func(int) { cancel(broken) }}
	fails("cancelled at the beginning", ctx, first, broken)
	if first.given > 200_000 {
		t.Errorf("%d bytes were read after the end", first.given)
	}

	config := stream.CachedInfo().Config
	config.MaxMsgs = 3 // the chunks, but not what is known of them
	if _, err := mustJetStream(t, q).UpdateStream(natstest.Context(t), config); err != nil {
		t.Fatal(err)
	}
	var refused *jetstream.APIError
	if _, err := q.StoreFile(natstest.Context(t), &jobs.Job{ID: "X"}, &letters{left: 300_000, err: io.EOF}); !errors.As(err, &refused) {
		t.Errorf("without room: %v", err)
	}
	if n := messages(t, stream); n != 0 {
		t.Errorf("without room: %d messages stay", n)
	}
}

// hook tells of each read how much is left then.
type hook struct {
	*letters
	read func(left int)
}

func (h *hook) Read(p []byte) (int, error) {
	n, err := h.letters.Read(p)
	h.read(h.left)
	return n, err
}

// A file is not read faster than it is stored: here, it is not stored as far as anybody knows.
func TestStoreFileKeepsPace(t *testing.T) {
	t.Parallel()
	q, stream := openFiles(t)
	config := stream.CachedInfo().Config
	config.NoAck = true
	if _, err := mustJetStream(t, q).UpdateStream(natstest.Context(t), config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // as a job may have; an answer has no more than a call's time
	defer cancel()
	endless := &letters{left: 1 << 40}
	if _, err := q.StoreFile(ctx, &jobs.Job{ID: "X"}, endless); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
	if endless.given > 4<<20 {
		t.Errorf("%d bytes were read", endless.given)
	}
	if n := messages(t, stream); n != 0 {
		t.Errorf("%d messages stay", n)
	}
}

// An answer that is lost, as with a server that dies, is not waited for as long as the attempt may take.
func TestStoreFileWithoutAnswer(t *testing.T) {
	t.Parallel()
	q, stream := openFiles(t)
	config := stream.CachedInfo().Config
	config.NoAck = true
	if _, err := mustJetStream(t, q).UpdateStream(natstest.Context(t), config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	empty := &letters{err: io.EOF} // only what the file is called is stored
	if _, err := q.StoreFile(ctx, &jobs.Job{ID: "X"}, empty); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Errorf("got %v, and the attempt's own time is over: %v", err, ctx.Err() != nil)
	}
}

// When the connection is lost meanwhile, perhaps with answers, the file is there whole, or nothing of it is.
func TestStoreFileOverReconnects(t *testing.T) {
	t.Parallel()
	q, stream := openFiles(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	const size = 40 << 20
	reconnected := 0
	r := &hook{&letters{left: size, err: io.EOF}, func(left int) {
		if left < size/2 && reconnected == 0 {
			reconnected++
			if err := q.Conn().ForceReconnect(); err != nil {
				t.Error(err)
			}
		}
	}}
	job := jobs.Job{ID: "X"}
	n, err := q.StoreFile(ctx, &job, r)
	if err != nil {
		if n := messages(t, stream); n != 0 {
			t.Errorf("after %v %d messages stay", err, n)
		}
		return
	}
	file, err := q.OpenFile(ctx, stored(job, n))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(file)
	want, _ := io.ReadAll(&letters{left: size, err: io.EOF})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d of %d bytes, %v", len(got), n, err)
	}
}
