package joblog_test

import (
	"errors"
	"io"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// fillUp stores chunks of nobody's until the bucket has no room for anything, nor for a word about a file.
func fillUp(t *testing.T, q *joblog.Store) {
	t.Helper()
	js := mustJetStream(t, q)
	for size := block; size > 0; size /= 2 {
		for {
			_, err := js.Publish(natstest.Context(t), "$O."+defaultNS.FilesBucket()+".C.x", make([]byte, size))
			if joblog.IsFull(err) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A store that is full has room again when a file is deleted: its user can always do that.
func TestDiscardFileFromAFullStore(t *testing.T) {
	t.Parallel()
	a, b, stream := openSpace(t, joblog.Settings{FileSpace: 8 * block})
	job := succeeded(t, a, 1<<40, 4*block)
	fillUp(t, a)
	if _, err := a.StoreFile(natstest.Context(t), leased("ana", "A2"), &letters{left: 1, err: io.EOF}); !errors.Is(err, jobs.ErrStoreFull) {
		t.Fatalf("it is not full: %v", err)
	}
	after, err := b.DiscardFile(natstest.Context(t), "ana", job.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.OpenFile(natstest.Context(t), &after); err != jobs.ErrFileGone {
		t.Errorf("it can be opened: %v", err)
	}
	fileSpace(0).store(t, a, leased("ana", "A2"), 3*block, false)
	if n := len(chunkSubjects(t, stream)); n != 2 { // what it was filled with, and the new file
		t.Errorf("there are chunks on %d subjects", n)
	}
}

// What a dead worker has left is removed from a full store, too, and makes room for the job's next attempt.
func TestSweepFilesOfAFullStore(t *testing.T) {
	t.Parallel()
	q, _, _ := openSpace(t, joblog.Settings{FileSpace: 8 * block})
	dead := leased("ana", "A1")
	fileSpace(0).store(t, q, dead, 4*block, false)
	fillUp(t, q)
	next := *dead
	next.Lost++
	fileSpace(0).store(t, q, &next, 3*block, false)
}

// A file whose entry alone was removed, by a delete that was interrupted, is gone, and its bytes go with the next delete.
func TestDeleteFileGoesOn(t *testing.T) {
	t.Parallel()
	q, _, stream := openSpace(t, joblog.Settings{})
	job := succeeded(t, q, 1<<40, 2*block)
	if err := stream.Purge(natstest.Context(t), jetstream.WithPurgeSubject("$O."+defaultNS.FilesBucket()+".M.*")); err != nil {
		t.Fatal(err)
	}
	if _, err := q.OpenFile(natstest.Context(t), &job); err != jobs.ErrFileGone {
		t.Errorf("it can be opened: %v", err)
	}
	if _, err := q.DiscardFile(natstest.Context(t), "ana", job.ID); err != nil {
		t.Fatal(err)
	}
	if n := messages(t, stream); n > 0 {
		t.Errorf("%d messages stay", n)
	}
}
