package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

const (
	filesStream = "OBJ_" + filesBucket
	// chunkSize is how many bytes of a file one message holds.
	chunkSize = 128 << 10
	// maxChunks is how many chunks of a file may be on their way to the server.
	maxChunks = 16
)

func chunksSubject(nuid string) string { return "$O." + filesBucket + ".C." + nuid }

// StoreFile stores what r holds as the file of job's current lease and returns its size. It blocks until
// r ends and all of it is stored, and reads no faster than that, 2 MiB ahead at most. After an error it takes back what
// is stored of the file; if the server cannot be reached for that, the bucket's age limit will.
//
// It is an object of NATS's object store (ADR-20 of its architecture), for any client of that to read. The library's
// own way to put one there reads as fast as it can, and asks afterwards what became of it.
func (q *Queue) StoreFile(ctx context.Context, job *Job, r io.Reader) (size int64, err error) {
	info := &jetstream.ObjectInfo{
		ObjectMeta: jetstream.ObjectMeta{Name: job.object(), Opts: &jetstream.ObjectMetaOptions{ChunkSize: chunkSize}},
		Bucket:     filesBucket, NUID: nuid.Next(),
	}
	var before *jetstream.ObjectInfo
	err = soon(ctx, func(ctx context.Context) (err error) {
		if before, err = q.fileInfo(ctx, info.Name); err != nil {
			return err
		}
		return q.readFileAge(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("jobs: store file: %w", err)
	}
	if err = q.storeChunks(ctx, info, r); err == nil {
		if err = soon(ctx, func(ctx context.Context) error { return q.storeInfo(ctx, info) }); err != nil {
			err = errors.Join(err, afterwards(ctx, func(ctx context.Context) error { return q.DeleteFile(ctx, job) })) // it may be there
		}
	}
	if isFull(err) {
		err = errors.Join(ErrStoreFull, err)
	}
	if err != nil {
		err = errors.Join(err, afterwards(ctx, func(ctx context.Context) error { return q.purgeChunks(ctx, info.NUID) }))
		return 0, fmt.Errorf("jobs: store file: %w", err)
	}
	if before != nil {
		_ = soon(ctx, func(ctx context.Context) error { return q.purgeChunks(ctx, before.NUID) }) // nobody finds them any more; their age takes them
	}
	return int64(info.Size), nil
}

// soon gives do the time of a call, also if ctx leaves an attempt an hour: with a server that dies, its answer is lost.
func soon(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return do(ctx)
}

// afterwards gives do some time of its own, even if ctx has ended.
func afterwards(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	return do(ctx)
}

// fileInfo returns what is known of an object, nil if there is none.
func (q *Queue) fileInfo(ctx context.Context, object string) (*jetstream.ObjectInfo, error) {
	store, err := q.js.ObjectStore(ctx, filesBucket)
	if err != nil {
		return nil, err
	}
	info, err := store.GetInfo(ctx, object)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, nil
	}
	return info, err
}

// readFileAge reads how long files are kept: what a job promises of its file must be true after a [Setup], too.
func (q *Queue) readFileAge(ctx context.Context) error {
	files, err := q.js.Stream(ctx, filesStream)
	if err != nil {
		return err
	}
	q.fileAge.Store(int64(fileAgeOf(&files.CachedInfo().Config)))
	return nil
}

// storeChunks stores what r holds, and enters it into info. When it returns, nothing is on its way.
func (q *Queue) storeChunks(ctx context.Context, info *jetstream.ObjectInfo, r io.Reader) error {
	var sent []write // not answered yet, the oldest first
	var index chunkIndex
	answered := func(ctx context.Context, left int) error {
		for len(sent) > left {
			// No longer than this: with the connection an answer may have been lost.
			short, cancel := context.WithTimeout(ctx, callTimeout)
			a, err := q.chunks.await(short, sent[0])
			cancel()
			if sent = sent[1:]; err != nil {
				return err
			}
			index.add(a.seq)
		}
		return nil
	}
	defer func() {
		_ = afterwards(ctx, func(ctx context.Context) error {
			for len(sent) > 0 {
				_ = answered(ctx, 0)
			}
			return nil
		})
	}()
	subject, hash, chunk := chunksSubject(info.NUID), sha256.New(), make([]byte, chunkSize)
	for {
		n, err := fill(ctx, r, chunk)
		if n > 0 {
			hash.Write(chunk[:n])
			info.Size += uint64(n)
			info.Chunks++
			sent = append(sent, q.chunks.send(&nats.Msg{Subject: subject, Data: chunk[:n]}))
			// Not tried again: a chunk must not come after the one behind it.
			if err := answered(ctx, maxChunks-1); err != nil {
				return err
			}
		}
		if err == io.EOF {
			info.Digest = "SHA-256=" + base64.URLEncoding.EncodeToString(hash.Sum(nil))
			if err := answered(ctx, 0); err != nil {
				return err
			}
			index.encode(info)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fill reads until p is full. Unlike [io.ReadFull] it leaves it to r to say what is unexpected, and it ends with ctx.
func fill(ctx context.Context, r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		var more int
		more, err = r.Read(p[n:])
		n += more
	}
	return n, err
}

// storeInfo makes an object of chunks that are stored.
func (q *Queue) storeInfo(ctx context.Context, info *jetstream.ObjectInfo) error {
	body, err := json.Marshal(info)
	if err != nil {
		return err
	}
	_, err = q.writes.publish(ctx, &nats.Msg{
		Subject: "$O." + filesBucket + ".M." + base64.URLEncoding.EncodeToString([]byte(info.Name)),
		Header:  nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}},
		Data:    body,
	})
	return err
}

func (q *Queue) purgeChunks(ctx context.Context, nuid string) error {
	stream, err := q.js.Stream(ctx, filesStream)
	if err != nil {
		return err
	}
	return stream.Purge(ctx, jetstream.WithPurgeSubject(chunksSubject(nuid)))
}
