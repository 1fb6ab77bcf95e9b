package joblog

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// chunkSize is how many bytes of a file one message holds.
	chunkSize = 128 << 10
	// maxChunks is how many chunks of a file may be sent and not acked.
	maxChunks = 16
)

// chunksSubject returns the subject of the chunks of an object, by the NUID in its info.
func (q *Store) chunksSubject(nuid string) string { return q.ns.fileChunks(nuid) }

// infoSubject returns the subject of the info of an object.
func (q *Store) infoSubject(object string) string {
	return q.ns.fileInfos(base64.URLEncoding.EncodeToString([]byte(object)))
}

// bucketFiles is the [files.Store] in JetStream.
type bucketFiles struct{ *Store }

// Put implements [files.Store]. It reads at most 2 MiB ahead of the acks. On error it purges the stored chunks; if the server
// cannot be reached, they expire.
//
// The file is an object of NATS's object store (NATS ADR-20), readable by any client. jetstream.ObjectStore.Put is not
// used: it has no backpressure, and checks the acks only at the end.
func (q bucketFiles) Put(ctx context.Context, job *jobs.Job, r io.Reader) (size int64, err error) {
	info := &jetstream.ObjectInfo{
		ObjectMeta: jetstream.ObjectMeta{Name: object(job), Opts: &jetstream.ObjectMetaOptions{ChunkSize: chunkSize}},
		Bucket:     q.ns.FilesBucket(), NUID: newChunks(job),
	}
	var before *jetstream.ObjectInfo
	var room *room
	err = soon(ctx, func(ctx context.Context) (err error) {
		if before, err = q.fileInfo(ctx, info.Name); err == nil {
			room, err = q.enterRoom(ctx, job, before)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("joblog: store file: %w", err)
	}
	if err = q.storeChunks(ctx, info, r, room); err == nil {
		// Measured after storing: of two files that end at the same time, at least one counts the other.
		err = room.measure(ctx, 0)
	}
	if err == nil {
		if err = soon(ctx, func(ctx context.Context) error { return q.storeInfo(ctx, info) }); err != nil {
			err = errors.Join(err, afterwards(ctx, func(ctx context.Context) error { return q.Delete(ctx, job) })) // it may be stored
		}
	}
	if IsFull(err) {
		err = errors.Join(jobs.ErrStoreFull, err)
	}
	if err != nil {
		err = errors.Join(err, afterwards(ctx, func(ctx context.Context) error { return q.purgeChunks(ctx, info.NUID) }))
		return 0, fmt.Errorf("joblog: store file: %w", err)
	}
	if before != nil {
		_ = soon(ctx, func(ctx context.Context) error { return q.purgeChunks(ctx, before.NUID) }) // unreachable now; on error they expire
	}
	return int64(info.Size), nil
}

// soon limits do to callTimeout, even if ctx has a later deadline: a response is lost if the server dies.
func soon(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return do(ctx)
}

// afterwards gives do callTimeout, even if ctx has ended.
func afterwards(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	return do(ctx)
}

// fileInfo returns the info of an object, or nil if there is none.
func (q *Store) fileInfo(ctx context.Context, object string) (*jetstream.ObjectInfo, error) {
	store, err := again(ctx, q.files, func() (jetstream.ObjectStore, error) { return q.js.ObjectStore(ctx, q.ns.FilesBucket()) })
	if err != nil {
		return nil, err
	}
	info, err := store.GetInfo(ctx, object)
	if !errors.Is(err, jetstream.ErrObjectNotFound) {
		return info, err
	}
	// The replica may lag.
	m, err := q.onLeader(ctx, q.ns.FilesStream(), leaderRequest{LastBySubject: q.infoSubject(object)})
	if err != nil || m == nil {
		return nil, err
	}
	info = new(jetstream.ObjectInfo)
	if err := json.Unmarshal(m.Data, info); err != nil || info.Deleted {
		return nil, err
	}
	return info, nil
}

// storeChunks stores the bytes of r, and sets size, digest and index of info. It returns a [*jobs.UserFullError] if they
// exceed room. When it returns, no chunk is unacked.
func (q *Store) storeChunks(ctx context.Context, info *jetstream.ObjectInfo, r io.Reader, room *room) error {
	var sent []write // not answered yet, the oldest first
	var index chunkIndex
	answered := func(ctx context.Context, left int) error {
		for len(sent) > left {
			// A lost connection loses acks, so the wait is bounded.
			short, cancel := context.WithTimeout(ctx, callTimeout)
			a, err := q.chunks.await(short, &sent[0])
			cancel()
			sent = sent[1:]
			if err != nil {
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
	subject, hash, chunk := q.chunksSubject(info.NUID), sha256.New(), make([]byte, chunkSize)
	for {
		n, err := fill(ctx, r, chunk)
		if n > 0 {
			if room.stale() {
				// An unacked chunk may or may not be counted, so all must be acked.
				if err := answered(ctx, 0); err != nil {
					return err
				}
				if err := room.measure(ctx, 1); err != nil {
					return err
				}
			}
			room.take()
			hash.Write(chunk[:n])
			info.Size += uint64(n)
			info.Chunks++
			sent = append(sent, q.chunks.send(&nats.Msg{Subject: subject, Data: chunk[:n]}))
			// Not retried: chunks must be stored in order.
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

// fill reads until p is full or ctx ends. Unlike [io.ReadFull] it returns the error of r unchanged.
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

// storeInfo publishes the info of an object whose chunks are stored.
func (q *Store) storeInfo(ctx context.Context, info *jetstream.ObjectInfo) error {
	body, err := json.Marshal(info)
	if err != nil {
		return err
	}
	_, err = q.writes.publish(ctx, &nats.Msg{
		Subject: q.infoSubject(info.Name),
		Header:  nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}},
		Data:    body,
	})
	return err
}

func (q *Store) purgeChunks(ctx context.Context, nuid string) error {
	return q.files.Purge(ctx, jetstream.WithPurgeSubject(q.chunksSubject(nuid)))
}
