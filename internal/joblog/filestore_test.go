package joblog_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/hark-jobs/hark/files"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// storeSpace is what the files of a user may take in the tests of every file store.
const storeSpace = 10 * block

// stores are the implementations of [files.Store], as a log has them.
var stores = map[string]func(*testing.T) *joblog.Store{
	"bucket": func(t *testing.T) *joblog.Store {
		return openStore(t, joblog.Options{Settings: joblog.Settings{UserFileSpace: storeSpace}})
	},
	"folder": func(t *testing.T) *joblog.Store {
		folder, err := files.OpenFolder(t.TempDir(), files.FolderOptions{UserSpace: storeSpace})
		if err != nil {
			t.Fatal(err)
		}
		return openStore(t, joblog.Options{Files: folder})
	},
}

func openStore(t *testing.T, o joblog.Options) *joblog.Store {
	t.Helper()
	q, err := joblog.Open(natstest.Context(t), natstest.Connect(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

// forStores runs a test on every file store.
func forStores(t *testing.T, test func(t *testing.T, q *joblog.Store)) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// nth is a lease of a job.
func nth(user, id string, run, attempt, lost int) *jobs.Job {
	return &jobs.Job{ID: id, User: user, Run: run, Attempt: attempt, Lost: lost}
}

// content returns the file of a job's lease, or nil if it is gone.
func content(t *testing.T, q *joblog.Store, job *jobs.Job, size int) []byte {
	t.Helper()
	f, err := q.OpenFile(natstest.Context(t), stored(*job, int64(size)))
	if errors.Is(err, jobs.ErrFileGone) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, q *joblog.Store, job *jobs.Job, b []byte) {
	t.Helper()
	if n, err := q.StoreFile(natstest.Context(t), job, bytes.NewReader(b)); err != nil || n != int64(len(b)) {
		t.Fatalf("stored %d bytes, %v; want %d", n, err, len(b))
	}
}

func someBytes(size int, first byte) []byte {
	b := bytes.Repeat([]byte{first, first + 1, first + 2}, size/3+1)
	return b[:size]
}

// A file can be read from anywhere, and stored again; deleted, it is gone, and may be deleted again.
func TestFileStores(t *testing.T) {
	t.Parallel()
	forStores(t, func(t *testing.T, q *joblog.Store) {
		job := nth("ana", "J1", 1, 1, 0)
		for _, size := range []int{0, 1, block, 2*block + 17} {
			want := someBytes(size, 'a')
			put(t, q, job, want)
			if got := content(t, q, job, size); !bytes.Equal(got, want) {
				t.Errorf("%d bytes: read %d others", size, len(got))
			}
		}
		want := someBytes(3*block, 'k')
		put(t, q, job, want)
		f, err := q.OpenFile(natstest.Context(t), stored(*job, int64(len(want))))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, at := range []int64{2 * block, 5, 3*block - 1} {
			part := make([]byte, 1)
			if pos, err := f.Seek(at, io.SeekStart); err != nil || pos != at {
				t.Fatalf("Seek(%d) = %d, %v", at, pos, err)
			}
			if _, err := io.ReadFull(f, part); err != nil || part[0] != want[at] {
				t.Errorf("at %d there is %q, %v; want %q", at, part, err, want[at])
			}
		}
		for range 2 {
			if err := q.DeleteFile(natstest.Context(t), job); err != nil {
				t.Error(err)
			}
			if got := content(t, q, job, len(want)); got != nil {
				t.Errorf("there are %d bytes, want none", len(got))
			}
		}
	})
}

// Each lease has its own file. That of a later one removes those before it; an earlier one removes nothing of a later one.
func TestFileStoresFence(t *testing.T) {
	t.Parallel()
	forStores(t, func(t *testing.T, q *joblog.Store) {
		leases := []*jobs.Job{nth("ana", "J", 1, 1, 0), nth("ana", "J", 1, 1, 1), nth("ana", "J", 1, 2, 0), nth("ana", "J", 2, 1, 0), nth("ana", "J", 10, 1, 0)}
		other := nth("ana", "K", 1, 1, 0)
		put(t, q, other, []byte("other"))
		for i, lease := range leases {
			put(t, q, lease, someBytes(100+i, 'a'))
			for j, earlier := range leases[:i] {
				if got := content(t, q, earlier, 100+j); got != nil {
					t.Errorf("after lease %d the file of lease %d is there", i, j)
				}
			}
		}
		latest := leases[len(leases)-1]
		if err := errors.Join(q.DeleteFile(natstest.Context(t), leases[0]), q.DeleteFile(natstest.Context(t), leases[3]), q.SweepFiles(natstest.Context(t), latest)); err != nil {
			t.Error(err)
		}
		if got := content(t, q, latest, 104); len(got) != 104 {
			t.Errorf("earlier leases have removed the file: it has %d bytes", len(got))
		}
		// A worker that has lost its lease ends late.
		put(t, q, leases[0], someBytes(100, 'a'))
		if err := q.DeleteFile(natstest.Context(t), leases[3]); err != nil {
			t.Error(err)
		}
		if got := content(t, q, leases[0], 100); got != nil {
			t.Error("deleting the file of a lease has left that of an earlier one")
		}
		if err := q.SweepFiles(natstest.Context(t), nth("ana", "J", 10, 2, 0)); err != nil {
			t.Error(err)
		}
		if got := content(t, q, latest, 104); got != nil {
			t.Error("a later lease has not removed the file")
		}
		if got := content(t, q, other, 5); string(got) != "other" {
			t.Errorf("the file of another job has %q", got)
		}
	})
}

// Nothing stays of a file whose reader fails, whose context ends, or that does not fit; what it replaces stays.
func TestFileStoresLeaveNothing(t *testing.T) {
	t.Parallel()
	forStores(t, func(t *testing.T, q *joblog.Store) {
		broken := errors.New("broken")
		job := nth("ana", "J", 1, 1, 0)
		put(t, q, job, someBytes(block, 'a'))
		if _, err := q.StoreFile(natstest.Context(t), job, &letters{left: 3 * block, err: broken}); !errors.Is(err, broken) {
			t.Errorf("got %v, want the reader's error", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := q.StoreFile(ctx, job, &letters{left: 3 * block, err: errors.New("read to its end")}); err == nil {
			t.Error("a file without an end was stored")
		}
		cancel()
		if _, err := q.StoreFile(ctx, job, &letters{left: 3 * block, err: io.EOF}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		var full *jobs.UserFullError
		if _, err := q.StoreFile(natstest.Context(t), job, &letters{left: storeSpace + 1, err: io.EOF}); !errors.As(err, &full) || full.Limit != storeSpace {
			t.Errorf("got %v, want a UserFullError of %d", err, storeSpace)
		}
		if got := content(t, q, job, block); !bytes.Equal(got, someBytes(block, 'a')) {
			t.Errorf("the file before it has %d other bytes", len(got))
		}
		// All of the room is there, but for that file, which is replaced.
		put(t, q, job, someBytes(storeSpace, 'b'))
		if err := q.FileRoom(natstest.Context(t), nth("ana", "K", 1, 1, 0)); !errors.As(err, &full) {
			t.Errorf("FileRoom = %v, want a UserFullError", err)
		}
		read := new(bytes.Buffer)
		if _, err := q.StoreFile(natstest.Context(t), nth("ana", "K", 1, 1, 0), io.TeeReader(bytes.NewReader([]byte("x")), read)); !errors.As(err, &full) || read.Len() > 0 {
			t.Errorf("got %v after %d bytes, want a UserFullError before the first", err, read.Len())
		}
		put(t, q, nth("bob", "L", 1, 1, 0), someBytes(storeSpace, 'c'))
		if err := q.DeleteFile(natstest.Context(t), job); err != nil {
			t.Error(err)
		}
		put(t, q, nth("ana", "K", 1, 1, 0), someBytes(storeSpace, 'd'))
	})
}

// Files of one user that are stored at the same time take no more than the user may have.
func TestFileStoresCountEachOther(t *testing.T) {
	t.Parallel()
	forStores(t, func(t *testing.T, q *joblog.Store) {
		var all sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			all.Go(func() {
				_, errs[i] = q.StoreFile(natstest.Context(t), nth("ana", string(rune('A'+i)), 1, 1, 0), &letters{left: storeSpace * 3 / 5, err: io.EOF})
			})
		}
		all.Wait()
		whole := 0
		for i, err := range errs {
			switch {
			case err == nil:
				whole++
			case !errors.Is(err, jobs.ErrUserFull):
				t.Errorf("file %d: %v", i, err)
			}
		}
		if whole > 1 {
			t.Errorf("%d files of three fifths of the room were stored", whole)
		}
	})
}
