package joblog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go/jetstream"
)

// object names the file of a job's current lease. Each lease has its own name, so a worker that lost its lease cannot
// overwrite the file of its successor.
func object(j *jobs.Job) string { return fmt.Sprintf("%s.%d.%d.%d", j.ID, j.Run, j.Attempt, j.Lost) }

// StoreFile stores the bytes of r as the file of job's current lease and returns its size. It blocks until r ends and
// everything is stored. After an error nothing of it is left, or expires. StoreFile also removes the files of the job's
// earlier leases.
//
// If the file does not fit among the user's files, StoreFile returns a [*jobs.UserFullError]: before it reads r if there
// is no room at all, and otherwise when the file has become too large. If the store is full it returns
// [jobs.ErrStoreFull].
func (q *Store) StoreFile(ctx context.Context, job *jobs.Job, r io.Reader) (size int64, err error) {
	return q.fileStore.Put(ctx, job, r)
}

// FileRoom returns a [*jobs.UserFullError] if there is no room for a file of the job. [Store.StoreFile] would return the
// same error.
func (q *Store) FileRoom(ctx context.Context, job *jobs.Job) error { return q.fileStore.Room(ctx, job) }

// DeleteFile deletes the file of job's current lease, if there is one, and the files of its earlier leases. It needs no
// room in the store. After an error it can be called again.
func (q *Store) DeleteFile(ctx context.Context, job *jobs.Job) error {
	return q.fileStore.Delete(ctx, job)
}

// SweepFiles removes the files of earlier leases of the job, whose workers died. It never removes the file of the
// current lease, or of a later one.
func (q *Store) SweepFiles(ctx context.Context, job *jobs.Job) error {
	return q.fileStore.Sweep(ctx, job)
}

// ExpireFiles removes the files that have expired, where the store does not do so by itself.
func (q *Store) ExpireFiles(ctx context.Context) error {
	return q.fileStore.Expire(ctx, time.Now().Add(-q.Settings().FileAge-fileGrace))
}

// Delete implements [files.Store]. After an error it can be called again.
func (q bucketFiles) Delete(ctx context.Context, job *jobs.Job) error {
	err := q.deleteObject(ctx, object(job))
	if err == nil {
		_, err = q.sweepFiles(ctx, job, -1, 0)
	}
	if err != nil {
		return fmt.Errorf("joblog: delete file: %w", err)
	}
	return nil
}

// deleteObject purges an object. The object store's own delete writes a marker first, which needs room in the store. The
// info is deleted before the chunks, so that nobody can open half a file.
func (q *Store) deleteObject(ctx context.Context, object string) error {
	info, err := q.fileInfo(ctx, object)
	if err == nil {
		err = q.files.Purge(ctx, jetstream.WithPurgeSubject(q.infoSubject(object)))
	}
	if err == nil && info != nil {
		err = q.purgeChunks(ctx, info.NUID)
	}
	return err
}

// DiscardFile deletes the file of a user's job that has ended, and returns the job. The file's bytes no longer count.
// The job keeps its File, which then says that it has expired. A job without a file, or with an expired one, is returned
// unchanged.
//
// Errors: [jobs.ErrNotFound].
func (q *Store) DiscardFile(ctx context.Context, user, id string) (jobs.Job, error) {
	for {
		s, err := q.ReadLeader(ctx, user, "*", id)
		if err != nil {
			return jobs.Job{}, err
		}
		if !s.State.Terminal() || s.File == nil {
			return s.Job, nil
		}
		if err := q.DeleteFile(ctx, &s.Job); err != nil { // also an expired one: its bytes may stay for another day
			return jobs.Job{}, err
		}
		if !s.File.ExpiresAt.After(time.Now()) {
			return s.Job, nil
		}
		if s.Spec != nil {
			// The notification of the end is published only while its state is the last one. It must be in the log before
			// another state is written.
			notified, err := q.hasNotification(ctx, user, s.Job.EndNotification().Key, s.SpecSeq)
			if err != nil {
				return jobs.Job{}, err
			}
			if !notified {
				if err := q.EnsureNotified(ctx, s.Spec, s.SpecSeq); err != nil {
					return jobs.Job{}, err
				}
				continue
			}
		}
		job, file := s.Job, *s.File
		file.ExpiresAt = time.Now().UTC().Truncate(time.Millisecond)
		job.File = &file
		if job.Revision, err = q.PutState(ctx, &job, s.StateSeq); !errors.Is(err, ErrConflict) {
			return job, err
		}
	}
}

// OpenFile returns the file of a job that succeeded, or [jobs.ErrFileGone]. The reader is for one goroutine at a time,
// ends with ctx and holds at most 1 MiB.
func (q *Store) OpenFile(ctx context.Context, job *jobs.Job) (io.ReadSeekCloser, error) {
	if job.File == nil || !job.File.ExpiresAt.After(time.Now()) {
		return nil, jobs.ErrFileGone
	}
	return q.fileStore.Open(ctx, job)
}

// Open implements [files.Store]. In a file that Put has stored, a Read after a Seek reads one
// chunk, and later reads read ahead a few chunks. In any other file, a Seek beyond the read part reads everything in
// between once.
func (q bucketFiles) Open(ctx context.Context, job *jobs.Job) (io.ReadSeekCloser, error) {
	info, err := q.fileInfo(ctx, object(job))
	if err != nil {
		return nil, fmt.Errorf("joblog: open file: %w", err)
	}
	if info == nil {
		return nil, jobs.ErrFileGone
	}
	f := &fileReader{ctx: ctx, store: q.Store, chunks: q.chunksSubject(info.NUID), size: job.File.Size}
	f.index = decodeIndex(info)
	return f, nil
}

// fileReader reads the chunks of an object, a few at a time, as a seekable file. The object store's own reader cannot
// seek, and the server pushes all chunks to it at full speed.
type fileReader struct {
	ctx    context.Context
	store  *Store
	chunks string // subject of the chunks
	size   int64
	index  chunkIndex // all chunks, or those that were read so far

	offset   int64    // where the next Read begins
	bufStart int64    // offset of the first byte in buf
	buf      [][]byte // chunks that were read ahead
	seq      uint64   // sequence of the last chunk that was read
	ahead    int      // how many chunks are read next
}

// chunksAhead is the greatest number of chunks that a reader reads at a time, and so holds in memory. After a Seek it
// reads fewer.
const chunksAhead = 4

func (f *fileReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		offset += f.size
	}
	if offset < 0 {
		return 0, errors.New("joblog: seek before the start of the file")
	}
	f.offset = offset
	return offset, nil
}

func (f *fileReader) Read(p []byte) (int, error) {
	if f.offset >= f.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if f.offset < f.bufStart {
			f.buf = nil
		}
		for len(f.buf) > 0 && f.offset >= f.bufStart+int64(len(f.buf[0])) {
			f.bufStart += int64(len(f.buf[0]))
			f.buf = f.buf[1:]
		}
		if len(f.buf) > 0 {
			n := copy(p, f.buf[0][f.offset-f.bufStart:])
			f.offset += int64(n)
			return n, nil
		}
		if at, seq, known := f.index.find(f.offset); known && (at > f.bufStart || f.offset < f.bufStart) || f.seq == 0 {
			f.bufStart, f.seq, f.ahead = at, max(seq, 1)-1, 1
		}
		if err := f.fillBuf(); err != nil {
			return 0, err
		}
	}
}

// fillBuf reads the next chunks.
func (f *fileReader) fillBuf() error {
	req := directRequest{Batch: f.ahead, MaxBytes: chunksAhead * chunkSize, Seq: f.seq + 1, NextBySubject: f.chunks}
	at := f.bufStart
	each := func(m *storedMsg) error {
		if begin, seq, known := f.index.find(at); known && begin == at && seq != m.Seq {
			return jobs.ErrFileGone // another chunk has taken this sequence
		}
		f.index.learn(at, m.Seq)
		at += int64(len(m.Data))
		f.buf, f.seq = append(f.buf, m.Data), m.Seq
		return nil
	}
	_, err := f.store.bulkFrom(f.ctx, f.store.ns.FilesStream(), req, each)
	if err == nil && len(f.buf) == 0 { // the replica may lag
		var m *storedMsg
		if m, err = f.store.nextOnLeader(f.ctx, f.store.ns.FilesStream(), f.chunks, req.Seq); err == nil && m == nil {
			err = jobs.ErrFileGone // it has expired meanwhile
		} else if err == nil {
			err = each(m)
		}
	}
	if err != nil {
		f.buf, f.seq = nil, 0 // the next Read starts over
		return fmt.Errorf("joblog: read file: %w", err)
	}
	f.ahead = min(2*f.ahead, chunksAhead)
	return nil
}

// Close does nothing: the buffer is freed with the reader. A goroutine of [http.ServeContent] may still read after it
// has returned.
func (f *fileReader) Close() error { return nil }
