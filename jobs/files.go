package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrFileGone is returned for a file that was never stored or has expired.
var ErrFileGone = errors.New("jobs: the file is gone")

// openFiles makes the object store. Its own age limit sweeps what nobody deleted: a file begins to age
// with its first byte, so it gets a day more than it is promised.
func (q *Queue) openFiles(ctx context.Context) error {
	_, err := q.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
		Bucket: filesBucket, Description: "hark: what jobs leave to download",
		TTL: q.config.FileAge + 24*time.Hour, Storage: jetstream.FileStorage, Replicas: q.config.Replicas,
	})
	if err == nil {
		q.files, err = jetstream.New(q.nc)
	}
	if err != nil {
		return fmt.Errorf("jobs: files: %w", err)
	}
	return nil
}

// object names the file of a job's current lease. No two leases share a name, so a worker that lost its
// lease can never overwrite what its successor stored.
func (j *Job) object() string { return fmt.Sprintf("%s.%d.%d.%d", j.ID, j.Run, j.Attempt, j.Lost) }

// StoreFile stores what r holds as the file of job's current lease and returns its size. It blocks until
// r ends and all of it is stored; after an error nothing of it stays.
func (q *Queue) StoreFile(ctx context.Context, job *Job, r io.Reader) (size int64, err error) {
	store, err := q.files.ObjectStore(ctx, filesBucket)
	if err != nil {
		return 0, fmt.Errorf("jobs: store file: %w", err)
	}
	info, err := store.Put(ctx, jetstream.ObjectMeta{Name: job.object()}, &pacedReader{ctx, r, q.files})
	if err != nil {
		return 0, fmt.Errorf("jobs: store file: %w", err)
	}
	return int64(info.Size), nil
}

// maxChunks is how many chunks of files, of 128 KiB each, may be on their way to the server.
const maxChunks = 16

// pacedReader keeps the object store from reading faster than the server stores, which would put the whole file
// into memory.
type pacedReader struct {
	ctx context.Context
	r   io.Reader
	js  jetstream.JetStream
}

func (p *pacedReader) Read(b []byte) (int, error) {
	for p.js.PublishAsyncPending() >= maxChunks {
		select {
		case <-p.ctx.Done():
			return 0, context.Cause(p.ctx)
		case <-time.After(time.Millisecond):
		}
	}
	return p.r.Read(b)
}

// DeleteFile deletes the file of job's current lease, if there is one.
func (q *Queue) DeleteFile(ctx context.Context, job *Job) error {
	store, err := q.js.ObjectStore(ctx, filesBucket)
	if err == nil {
		err = store.Delete(ctx, job.object())
	}
	if err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return fmt.Errorf("jobs: delete file: %w", err)
	}
	return nil
}

// OpenFile returns the file of a job that succeeded, or [ErrFileGone]. The reader is for one goroutine and
// must be closed. Seeking forward reads what lies between; seeking back starts again from the beginning.
func (q *Queue) OpenFile(ctx context.Context, job *Job) (io.ReadSeekCloser, error) {
	if job.File == nil || !job.File.ExpiresAt.After(time.Now()) {
		return nil, ErrFileGone
	}
	store, err := q.js.ObjectStore(ctx, filesBucket)
	if err != nil {
		return nil, fmt.Errorf("jobs: open file: %w", err)
	}
	info, err := store.GetInfo(ctx, job.object())
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, ErrFileGone
	} else if err != nil {
		return nil, fmt.Errorf("jobs: open file: %w", err)
	}
	return &fileReader{ctx: ctx, queue: q, chunks: "$O." + filesBucket + ".C." + info.NUID, size: job.File.Size}, nil
}

// fileReader reads the chunks of an object, a few at a time, as a seekable file. The object store's own reader
// has the server push them all as fast as it can, and cannot seek.
type fileReader struct {
	ctx    context.Context
	queue  *Queue
	chunks string // their subject
	size   int64

	want int64    // where the next Read begins
	at   int64    // where page begins
	page [][]byte // what was read ahead
	seq  uint64   // of the last chunk in page
}

// chunkPage is how many chunks are read at a time.
const chunkPage = 8

func (f *fileReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.want
	case io.SeekEnd:
		offset += f.size
	}
	if offset < 0 {
		return 0, errors.New("jobs: seek before the start of the file")
	}
	if f.want = offset; offset < f.at {
		f.at, f.page, f.seq = 0, nil, 0
	}
	return offset, nil
}

func (f *fileReader) Read(p []byte) (int, error) {
	if f.want >= f.size {
		return 0, io.EOF
	}
	for {
		for len(f.page) > 0 && f.want >= f.at+int64(len(f.page[0])) {
			f.at += int64(len(f.page[0]))
			f.page = f.page[1:]
		}
		if len(f.page) > 0 {
			n := copy(p, f.page[0][f.want-f.at:])
			f.want += int64(n)
			return n, nil
		}
		if err := f.readPage(); err != nil {
			return 0, err
		}
	}
}

// readPage reads the chunks that come next.
func (f *fileReader) readPage() error {
	req := directRequest{Batch: chunkPage, Seq: f.seq + 1, NextBySubject: f.chunks}
	_, err := f.queue.directFrom(f.ctx, "OBJ_"+filesBucket, req, func(m *storedMsg) error {
		f.page, f.seq = append(f.page, m.Data), m.Seq
		return nil
	})
	if err == nil && len(f.page) == 0 {
		err = ErrFileGone // it has expired meanwhile
	}
	if err != nil {
		return fmt.Errorf("jobs: read file: %w", err)
	}
	return nil
}

// Close lets go of what was read ahead.
func (f *fileReader) Close() error {
	f.page = nil
	return nil
}
