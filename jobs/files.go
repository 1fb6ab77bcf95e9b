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

// object names the file of a job's current lease. No two leases share a name, so a worker that lost its
// lease can never overwrite what its successor stored.
func (j *Job) object() string { return fmt.Sprintf("%s.%d.%d.%d", j.ID, j.Run, j.Attempt, j.Lost) }

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

// OpenFile returns the file of a job that succeeded, or [ErrFileGone]. The reader is for one goroutine at a time, ends
// with ctx and holds 1 MiB at most. In a file that [Queue.StoreFile] has stored, a Read after a Seek reads no more than
// the chunk that it wants, and then a few chunks ahead. In any other file, seeking beyond what was read reads what lies
// between, once.
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
	f := &fileReader{ctx: ctx, queue: q, chunks: chunksSubject(info.NUID), size: job.File.Size}
	f.index = decodeIndex(info)
	return f, nil
}

// fileReader reads the chunks of an object, a few at a time, as a seekable file. The object store's own reader
// has the server push them all as fast as it can, and cannot seek.
type fileReader struct {
	ctx    context.Context
	queue  *Queue
	chunks string // their subject
	size   int64
	index  chunkIndex // of all chunks, or of what was read so far

	want  int64    // where the next Read begins
	at    int64    // where page begins
	page  [][]byte // what was read ahead
	seq   uint64   // of the last chunk before what is read next
	ahead int      // how many chunks are read next
}

// chunkPage is how many chunks are read at a time, once a reader has come so far: fewer after a seek. A slow download
// holds no more than that.
const chunkPage = 4

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
	f.want = offset
	return offset, nil
}

func (f *fileReader) Read(p []byte) (int, error) {
	if f.want >= f.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if f.want < f.at {
			f.page = nil
		}
		for len(f.page) > 0 && f.want >= f.at+int64(len(f.page[0])) {
			f.at += int64(len(f.page[0]))
			f.page = f.page[1:]
		}
		if len(f.page) > 0 {
			n := copy(p, f.page[0][f.want-f.at:])
			f.want += int64(n)
			return n, nil
		}
		if at, seq, known := f.index.find(f.want); known && (at > f.at || f.want < f.at) || f.seq == 0 {
			f.at, f.seq, f.ahead = at, max(seq, 1)-1, 1
		}
		if err := f.readPage(); err != nil {
			return 0, err
		}
	}
}

// readPage reads the chunks that come next.
func (f *fileReader) readPage() error {
	req := directRequest{Batch: f.ahead, MaxBytes: chunkPage * chunkSize, Seq: f.seq + 1, NextBySubject: f.chunks}
	at := f.at
	_, err := f.queue.bulkFrom(f.ctx, filesStream, req, func(m *storedMsg) error {
		if begin, seq, known := f.index.find(at); known && begin == at && seq != m.Seq {
			return ErrFileGone // at least the chunk that stood here
		}
		f.index.learn(at, m.Seq)
		at += int64(len(m.Data))
		f.page, f.seq = append(f.page, m.Data), m.Seq
		return nil
	})
	if err == nil && len(f.page) == 0 {
		err = ErrFileGone // it has expired meanwhile
	}
	if err != nil {
		f.page, f.seq = nil, 0 // a Read after this begins anew
		return fmt.Errorf("jobs: read file: %w", err)
	}
	f.ahead = min(2*f.ahead, chunkPage)
	return nil
}

// Close does nothing: what was read ahead goes with the reader. [http.ServeContent] may still read in a goroutine of
// its own when it has returned.
func (f *fileReader) Close() error { return nil }
