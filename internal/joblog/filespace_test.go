package joblog_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

const block = 128 << 10 // a file counts in these

// openSpace returns two queues, as of two processes, and the stream of the files, with so much room for each user.
func openSpace(t *testing.T, s joblog.Settings) (a, b *joblog.Store, stream jetstream.Stream) {
	t.Helper()
	nc := natstest.Connect(t)
	a, _ = open(t, nc, s)
	b, _ = open(t, nc, joblog.Settings{})
	stream, err := mustJetStream(t, a).Stream(natstest.Context(t), filesStream)
	if err != nil {
		t.Fatal(err)
	}
	return a, b, stream
}

// leased is the first attempt of a job.
func leased(user, id string) *jobs.Job {
	return &jobs.Job{ID: id, User: user, Run: 1, Attempt: 1}
}

// fileSpace is the room of each user.
type fileSpace int64

func (f fileSpace) store(t *testing.T, q *joblog.Store, job *jobs.Job, size int, wantFull bool) {
	t.Helper()
	n, err := q.StoreFile(natstest.Context(t), job, &letters{left: size, err: io.EOF})
	var full *jobs.UserFullError
	switch {
	case wantFull && (!errors.As(err, &full) || full.Limit != int64(f)):
		t.Errorf("job %s of %s: stored %d bytes, %v; it should not fit", job.ID, job.User, n, err)
	case !wantFull && (err != nil || n != int64(size)):
		t.Errorf("job %s of %s: stored %d bytes, %v; it should fit", job.ID, job.User, n, err)
	}
}

// The files of one user take no more than they may, whichever process stores them; of a file that is refused nothing stays;
// and others have their own room, also those whose names look alike.
func TestUserFileSpace(t *testing.T) {
	t.Parallel()
	const space = fileSpace(10 * block)
	a, b, stream := openSpace(t, joblog.Settings{UserFileSpace: int64(space)})
	if b.Settings().UserFileSpace != int64(space) {
		t.Errorf("settings %+v", b.Settings())
	}
	space.store(t, a, leased("ana", "A1"), 4*block, false)
	space.store(t, b, leased("ana", "A2"), 4*block-1, false)
	before := messages(t, stream)
	space.store(t, a, leased("ana", "A3"), 2*block+1, true)
	space.store(t, b, leased("ana", "A3"), 100*block, true)
	if n := messages(t, stream); n != before {
		t.Errorf("%d messages, and before the refused files were %d", n, before)
	}
	space.store(t, b, leased("ana", "A3"), 2*block, false)
	for _, other := range []string{"an", "ana.b", "anaa", "*", ">", "ana.>"} {
		space.store(t, a, leased(other, "B1"), 10*block, false)
		space.store(t, a, leased(other, "B2"), 1, true)
	}
	// A setting that is changed holds for what is stored next, without a restart.
	if _, err := joblog.Setup(natstest.Context(t), a.Conn(), joblog.Location{}, joblog.Settings{UserFileSpace: 11 * block}, false); err != nil {
		t.Fatal(err)
	}
	space.store(t, b, leased("ana", "A4"), block, false)
	fileSpace(11*block).store(t, b, leased("ana", "A5"), 1, true)
	if c, _ := open(t, a.Conn(), joblog.Settings{}); c.Settings().UserFileSpace != 11*block {
		t.Errorf("settings %+v", c.Settings())
	}
}

// What is deleted or has expired counts no more.
func TestUserFileSpaceComesBack(t *testing.T) {
	t.Parallel()
	const space = fileSpace(4 * block)
	a, b, stream := openSpace(t, joblog.Settings{UserFileSpace: int64(space)})
	first := leased("ana", "A1")
	space.store(t, a, first, 4*block, false)
	space.store(t, a, leased("ana", "A2"), 1, true)
	if err := b.DeleteFile(natstest.Context(t), first); err != nil {
		t.Fatal(err)
	}
	space.store(t, a, leased("ana", "A2"), 4*block, false)
	space.store(t, b, leased("ana", "A3"), 1, true)

	config := stream.CachedInfo().Config
	config.MaxAge, config.Duplicates = time.Second, time.Second
	if _, err := mustJetStream(t, a).UpdateStream(natstest.Context(t), config); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the files expire", func() bool { return messages(t, stream) == 0 })
	config.MaxAge = time.Hour
	if _, err := mustJetStream(t, a).UpdateStream(natstest.Context(t), config); err != nil {
		t.Fatal(err)
	}
	space.store(t, b, leased("ana", "A3"), 4*block, false)
}

// A file that is refused is not made: its reader is not read at all if there is no room, and otherwise hardly further than
// there is.
func TestUserFileSpaceIsRefusedEarly(t *testing.T) {
	t.Parallel()
	const space = fileSpace(2 * block)
	q, _, _ := openSpace(t, joblog.Settings{UserFileSpace: int64(space)})
	endless := &letters{left: 1 << 40, err: io.EOF}
	if _, err := q.StoreFile(natstest.Context(t), leased("ana", "A1"), endless); !errors.Is(err, jobs.ErrUserFull) || endless.given > 3*block {
		t.Errorf("%d bytes were read, %v", endless.given, err)
	}
	job := leased("ana", "A2")
	if err := q.FileRoom(natstest.Context(t), job); err != nil {
		t.Errorf("there is room: %v", err)
	}
	space.store(t, q, leased("ana", "A3"), 2*block, false)
	unread := &letters{left: block, err: io.EOF}
	if _, err := q.StoreFile(natstest.Context(t), job, unread); !errors.Is(err, jobs.ErrUserFull) || unread.given > 0 {
		t.Errorf("%d bytes were read, %v", unread.given, err)
	}
	if err := q.FileRoom(natstest.Context(t), job); !errors.Is(err, jobs.ErrUserFull) {
		t.Errorf("there is no room: %v", err)
	}
}

// However many processes store files of one user at a time: those that are stored take no more than they may, together.
func TestUserFileSpaceAtOnce(t *testing.T) {
	t.Parallel()
	const space = fileSpace(40 * block)
	a, b, stream := openSpace(t, joblog.Settings{UserFileSpace: int64(space)})
	var all sync.WaitGroup
	var mu sync.Mutex
	stored := 0
	for i := range 12 {
		all.Go(func() {
			q, ctx, err := []*joblog.Store{a, b}[i%2], natstest.Context(t), context.DeadlineExceeded
			for errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil { // on a busy machine an ack may take longer than 5 s
				_, err = q.StoreFile(ctx, leased("ana", fmt.Sprint("A", i)), &letters{left: 9 * block, err: io.EOF})
			}
			switch {
			case err == nil:
				mu.Lock()
				stored++
				mu.Unlock()
			case !errors.Is(err, jobs.ErrUserFull):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := messages(t, stream); stored > 4 || n != uint64(10*stored) {
		t.Errorf("%d files of 9 blocks are stored, in %d messages", stored, n)
	}
	for i := range 4 - stored {
		space.store(t, a, leased("ana", fmt.Sprint("B", i)), 9*block, false)
	}
}

// What is being written counts as well.
func TestUserFileSpaceCountsWhatIsWritten(t *testing.T) {
	t.Parallel()
	const space = fileSpace(300 * block)
	a, b, _ := openSpace(t, joblog.Settings{UserFileSpace: int64(space)})
	done := false
	r := &hook{&letters{left: 250 * block, err: io.EOF}, func(left int) {
		if left < 50*block && !done { // 200 blocks are sent, and 184 of them stored at least
			done = true
			space.store(t, b, leased("ana", "A2"), 150*block, true)
			space.store(t, b, leased("ana", "A3"), 10*block, false)
		}
	}}
	if _, err := a.StoreFile(natstest.Context(t), leased("ana", "A1"), r); err != nil {
		t.Error(err)
	}
	if !done {
		t.Error("the other file was not tried")
	}
}

// A file stops soon when others of the user have taken the room that there was when it began.
func TestUserFileSpaceIsTakenMeanwhile(t *testing.T) {
	t.Parallel()
	const space = fileSpace(500 * block)
	a, b, _ := openSpace(t, joblog.Settings{UserFileSpace: int64(space)})
	done := false
	endless := &letters{left: 1 << 40, err: io.EOF}
	r := &hook{endless, func(int) {
		if endless.given > 100*block && !done {
			done = true
			space.store(t, b, leased("ana", "A2"), 390*block, false)
		}
	}}
	if _, err := a.StoreFile(natstest.Context(t), leased("ana", "A1"), r); !errors.Is(err, jobs.ErrUserFull) || endless.given > 300*block {
		t.Errorf("%d blocks were read, %v", endless.given/block, err)
	}
}

// A job never fails for a file of its own: the one that it writes again, and those that dead workers have left, which are
// removed, and which its later leases can be sure of.
func TestUserFileSpaceOfOneJob(t *testing.T) {
	t.Parallel()
	const space = fileSpace(10 * block)
	a, b, stream := openSpace(t, joblog.Settings{UserFileSpace: int64(space)})
	job := leased("ana", "A1")
	space.store(t, a, job, 8*block, false)
	space.store(t, a, job, 9*block, false) // again
	if n := chunks(t, stream); n != 9 {
		t.Errorf("%d chunks after it was written again", n)
	}
	// A worker dies in the middle of the file: nothing but chunks.
	dead := *job
	dead.Lost = 1
	leave(t, b, &dead, 5)
	if n := chunks(t, stream); n != 5 {
		t.Fatalf("the dead worker has left %d chunks", n)
	}
	next := dead
	next.Lost = 2
	space.store(t, b, &next, 10*block, false)
	if n := chunks(t, stream); n != 10 {
		t.Errorf("%d chunks after the next lease has stored its file", n)
	}
	// One that lost its lease and does not know it changes nothing of its successor's.
	space.store(t, a, job, 1, true)
	if err := a.DeleteFile(natstest.Context(t), &dead); err != nil {
		t.Error(err)
	}
	if err := a.SweepFiles(natstest.Context(t), &next); err != nil {
		t.Error(err)
	}
	file, err := a.OpenFile(natstest.Context(t), stored(next, 10*block))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(file); err != nil || len(got) != 10*block {
		t.Errorf("the successor's file: %d bytes, %v", len(got), err)
	}
}

// chunks counts the chunks of all files.
func chunks(t *testing.T, stream jetstream.Stream) (n uint64) {
	t.Helper()
	for _, of := range chunkSubjects(t, stream) {
		n += of
	}
	return n
}

func chunkSubjects(t *testing.T, stream jetstream.Stream) map[string]uint64 {
	t.Helper()
	info, err := stream.Info(natstest.Context(t), jetstream.WithSubjectFilter("$O."+defaultNS.FilesBucket()+".C.>"))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Subjects
}

// leave leaves chunks of a file of the job as a worker does that dies while it writes.
func leave(t *testing.T, q *joblog.Store, job *jobs.Job, chunks int) {
	t.Helper()
	if _, err := q.StoreFile(natstest.Context(t), job, &letters{left: 1, err: io.EOF}); err != nil {
		t.Fatal(err)
	}
	js := mustJetStream(t, q)
	stream, err := js.Stream(natstest.Context(t), filesStream)
	if err != nil {
		t.Fatal(err)
	}
	lease := fmt.Sprintf(".%s.%d-%d-%d.", job.ID, job.Run, job.Attempt, job.Lost)
	var subject string
	for s := range chunkSubjects(t, stream) {
		if strings.Contains(s, lease) {
			subject = s
		}
	}
	if err := q.DeleteFile(natstest.Context(t), job); err != nil {
		t.Fatal(err)
	}
	for range chunks {
		if _, err := js.Publish(natstest.Context(t), subject, make([]byte, block)); err != nil {
			t.Fatal(err)
		}
	}
}

// A user who discards the file of a job has the room again. The job stays and says that the file has expired; others' jobs
// cannot be meant; doing it twice is no error.
func TestDiscardFile(t *testing.T) {
	t.Parallel()
	const space = fileSpace(4 * block)
	a, b, stream := openSpace(t, joblog.Settings{UserFileSpace: int64(space)})
	job := succeeded(t, a, space, 4*block)
	if _, err := b.DiscardFile(natstest.Context(t), "bob", job.ID); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("of another user: %v", err)
	}
	for range 2 {
		after, err := b.DiscardFile(natstest.Context(t), "ana", job.ID)
		if err != nil || after.State != jobs.Succeeded || after.File == nil || after.File.ExpiresAt.After(time.Now()) {
			t.Fatalf("%+v %+v, %v", after, after.File, err)
		}
		if got, err := a.Get(natstest.Context(t), "ana", job.ID); err != nil || !got.File.ExpiresAt.Equal(after.File.ExpiresAt) || got.Revision != after.Revision {
			t.Errorf("%+v and %+v, %v", got, after, err)
		}
		if _, err := a.OpenFile(natstest.Context(t), &after); err != jobs.ErrFileGone {
			t.Errorf("it can be opened: %v", err)
		}
	}
	if _, err := a.OpenFile(natstest.Context(t), &job); err != jobs.ErrFileGone {
		t.Errorf("it can be opened: %v", err)
	}
	if n := chunks(t, stream); n > 0 {
		t.Errorf("%d chunks stay", n)
	}
	space.store(t, a, leased("ana", "A2"), 4*block, false)
}

// Discarding the file of a job whose end was not told yet does not keep its user from being told, once.
func TestDiscardFileIsToldOnce(t *testing.T) {
	t.Parallel()
	nc := natstest.Connect(t)
	dies, err := joblog.Open(natstest.Context(t), nc, joblog.Options{SimulateCrash: func(s joblog.Step, _ *jobs.Job) bool { return s == joblog.StateWritten }})
	if err != nil {
		t.Fatal(err)
	}
	q, _ := open(t, nc, joblog.Settings{})
	job := succeeded(t, dies, 1<<40, 1)
	if _, err := q.DiscardFile(natstest.Context(t), "ana", job.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := q.DiscardFile(natstest.Context(t), "ana", job.ID); err != nil {
		t.Fatal(err)
	}
	page, _, err := q.NotificationsPage(natstest.Context(t), "ana", 0, 100)
	var note jobs.Notification
	if err != nil || len(page) != 1 || json.Unmarshal(page[0].Data, &note) != nil || note.Type != "job.succeeded" {
		t.Errorf("%d notifications, the first is %+v, %v", len(page), note, err)
	}
}

// succeeded returns a job of ana that has succeeded with a file of this size.
func succeeded(t *testing.T, q *joblog.Store, space fileSpace, size int) jobs.Job {
	t.Helper()
	if err := q.PublishKind(natstest.Context(t), jobs.Kind{Name: "leave"}); err != nil {
		t.Fatal(err)
	}
	job, _, err := q.Enqueue(natstest.Context(t), jobs.Request{User: "ana", Kind: "leave"})
	if err != nil {
		t.Fatal(err)
	}
	job.State, job.Attempt = jobs.Running, 1
	seq, err := q.PutState(natstest.Context(t), &job, 0)
	if err != nil {
		t.Fatal(err)
	}
	space.store(t, q, &job, size, false)
	job.File = &jobs.File{Name: "f", Size: int64(size)}
	if job, err = q.Finish(natstest.Context(t), job, jobs.Succeeded, seq); err != nil && !errors.Is(err, joblog.ErrSimulatedCrash) {
		t.Fatal(err)
	}
	return job
}

// On three servers what was just removed does not count, although the replica that counts may not know of that yet: one of them
// lags, and answers a third of the reads.
func TestUserFileSpaceOnCluster(t *testing.T) {
	t.Parallel()
	const space = fileSpace(10 * block)
	const lags = 2
	servers := natstest.BreakableCluster(t, 3)
	a, _ := open(t, servers.ConnectTo(t, 0), joblog.Settings{UserFileSpace: int64(space), Replicas: 3})
	b, _ := open(t, servers.ConnectTo(t, 1), joblog.Settings{})
	job := leased("ana", "A1")
	for range 12 {
		servers.Lead(0) // all replicas have the file of the lease before
		servers.Lag(lags, time.Second)
		space.store(t, b, job, 10*block, false)
		servers.Heal(lags)
		job.Lost++ // its worker dies, and the next one begins
	}
	space.store(t, a, job, 10*block, false)
	servers.Lead(0)
	space.store(t, a, leased("ana", "A2"), 1, true)
}
