package joblog_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

const mega = 1 << 20

// readAt reads n bytes of a file from an offset on, and returns how many chunks were read for that.
func readAt(t *testing.T, reads *natstest.Reads, file io.ReadSeeker, want []byte, offset, n int) (chunks int) {
	t.Helper()
	if _, err := file.Seek(int64(offset), io.SeekStart); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, n)
	if _, err := io.ReadFull(file, got); err != nil {
		t.Fatalf("%d bytes at %d: %v", n, offset, err)
	}
	if !bytes.Equal(got, want[offset:offset+n]) {
		t.Fatalf("%d bytes at %d are wrong", n, offset)
	}
	return reads.Next()
}

// Wherever in a file is read, one chunk comes for a few bytes, also when the chunks of several files that were stored
// at a time stand between each other.
func TestSeekingReadsOneChunk(t *testing.T) {
	const size = 6*mega + 77
	q, _ := openFiles(t)
	want, err := io.ReadAll(&letters{left: size, err: io.EOF})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			if n, err := q.StoreFile(natstest.Context(t), &jobs.Job{ID: fmt.Sprint("F", i)}, bytes.NewReader(want)); err != nil || n != int64(len(want)) {
				t.Error(n, err)
			}
		})
	}
	all.Wait()
	reads := natstest.WatchReads(t, q.Conn(), filesStream)
	for i := range 3 {
		file, err := q.OpenFile(natstest.Context(t), stored(jobs.Job{ID: fmt.Sprint("F", i)}, int64(len(want))))
		if err != nil {
			t.Fatal(err)
		}
		if n := readAt(t, reads, file, want, len(want)-1, 1); n > 1 {
			t.Errorf("the last byte took %d chunks", n)
		}
		for offset := 5 * mega; offset >= 0; offset -= mega / 2 {
			if n := readAt(t, reads, file, want, offset+99, 1); n > 1 {
				t.Errorf("a byte at %d, on the way back, took %d chunks", offset, n)
			}
		}
		for range 20 {
			offset := rand.IntN(len(want) - mega)
			length := rand.IntN(mega)
			// One chunk that it begins in, one that it ends in, and a page read ahead.
			if n := readAt(t, reads, file, want, offset, length); n > length/(128<<10)+2+4 {
				t.Errorf("%d bytes at %d took %d chunks", length, offset, n)
			}
		}
		if n := readAt(t, reads, file, want, 0, len(want)); n > 50 {
			t.Errorf("the whole file of 49 chunks took %d", n)
		}
	}
}

// short yields a few bytes at a time.
type short struct{ io.Reader }

func (s short) Read(p []byte) (int, error) {
	return s.Reader.Read(p[:min(len(p), 50_000+rand.IntN(5))])
}

// A file that another program has put there, in chunks of any size, is read as it is; what was read once is found again.
func TestSeekingInAnotherProgramsFile(t *testing.T) {
	q, _ := openFiles(t)
	want, err := io.ReadAll(&letters{left: 5 * mega, err: io.EOF})
	if err != nil {
		t.Fatal(err)
	}
	reads := natstest.WatchReads(t, q.Conn(), filesStream)
	store, err := q.JetStream().ObjectStore(natstest.Context(t), defaultNS.FilesBucket())
	if err != nil {
		t.Fatal(err)
	}
	for _, metadata := range []map[string]string{nil, {"hark-chunks": "nonsense"}, {"hark-chunks": "AQE"}} {
		meta := jetstream.ObjectMeta{Name: "X.0.0.0", Metadata: metadata, Opts: &jetstream.ObjectMetaOptions{ChunkSize: 128 << 10}}
		if _, err := store.Put(natstest.Context(t), meta, short{bytes.NewReader(want)}); err != nil {
			t.Fatal(err)
		}
		file, err := q.OpenFile(natstest.Context(t), stored(jobs.Job{ID: "X"}, int64(len(want))))
		if err != nil {
			t.Fatal(err)
		}
		readAt(t, reads, file, want, len(want)-1, 1)
		for range 50 {
			offset := rand.IntN(len(want) - 1)
			if n := readAt(t, reads, file, want, offset, 1); n > 12 { // learned: one in 512 KiB, which is 11 of 105 chunks
				t.Errorf("a byte at %d took %d chunks, once all was read", offset, n)
			}
		}
		readAt(t, reads, file, want, 0, len(want))
	}
}

// A chunk that is gone is noticed: no other one takes its place.
func TestSeekingToAChunkThatIsGone(t *testing.T) {
	q, stream := openFiles(t)
	if _, err := q.StoreFile(natstest.Context(t), &jobs.Job{ID: "X"}, &letters{left: mega, err: io.EOF}); err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(natstest.Context(t), 3); err != nil {
		t.Fatal(err)
	}
	file, err := q.OpenFile(natstest.Context(t), stored(jobs.Job{ID: "X"}, mega))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(2*128<<10, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if n, err := file.Read(make([]byte, 10)); err == nil {
		t.Errorf("read %d bytes of a chunk that is gone", n)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(file); err == nil || len(got) > 2*128<<10 {
		t.Errorf("read %d bytes over a chunk that is gone: %v", len(got), err)
	}
}
