package natsd_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/natstest"
)

// A flipped bit is noticed and reported: in each kind of stream, with and without the server's index, after an orderly stop and after a crash.
func TestOneBitIsReported(t *testing.T) {
	s := open(t, t.TempDir()).fill(20).settle(1).marked(20)
	crashed := natstest.CopyFolder(t, s.dir)
	s.Stop()
	for _, from := range []string{s.dir, crashed} {
		for _, index := range []bool{true, false} {
			for _, stream := range []string{"S", "KV_keys", "OBJ_files"} {
				dir := natstest.CopyFolder(t, from)
				block := natstest.Blocks(t, dir, stream)[0]
				natstest.FlipBit(t, block, (natstest.Records(t, block)[10]+30)*8)
				if !index {
					natstest.RemoveIndex(t, dir, stream)
				}
				again := open(t, dir)
				l := again.Losses()
				if len(l) == 0 || l[0].Reason != natsd.Damaged || l[0].Stream != stream || !l[0].Certain || !strings.Contains(l[0].Detail, "after message 10 and before message 12") {
					t.Errorf("%s, index %v: %v", stream, index, l)
				}
				if lost, _ := again.Unsettled(); len(lost) == 0 {
					t.Error("nobody has to settle that")
				}
				// Settled damage does not count again, and is reported until it is gone.
				again.settle(2)
				again.Stop()
				after := open(t, dir)
				if lost, epoch := after.Unsettled(); len(lost) > 0 || epoch != 2 {
					t.Errorf("%s, index %v: unsettled %v, epoch %d: %v", stream, index, lost, epoch, after.Losses())
				}
			}
		}
	}
}

// Special characters of patterns have no meaning in the path of a data folder: its files are verified, and their sizes recorded.
func TestFoldersWithPatternsInTheirPathsAreVerified(t *testing.T) {
	for _, name := range []string{"x[1]", "x*", "x?", `x\y`, "[", "{a,b}"} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.ContainsAny(name, `*?\`) {
				return // the file system does not allow the name
			}
			s := open(t, filepath.Join(t.TempDir(), name)).fill(20).settle(1)
			s.Stop()
			block := natstest.Blocks(t, s.dir, "S")[0]
			whole, err := os.ReadFile(block)
			if err != nil {
				t.Fatal(err)
			}
			natstest.FlipBit(t, block, (natstest.Records(t, block)[10]+30)*8)
			again := open(t, s.dir)
			again.wantLosses("damaged S")
			again.settle(2).Stop()

			if err := os.WriteFile(block, whole[:len(whole)/2], 0o600); err != nil {
				t.Fatal(err)
			}
			if l := open(t, s.dir).Losses(); !slices.ContainsFunc(l, func(l natsd.Loss) bool { return strings.Contains(l.Detail, "bytes; it had") }) {
				t.Errorf("a file that was cut off: %v", l)
			}
		})
	}
}

// large makes the stream with more than one block.
func (s *store) large() *store {
	s.t.Helper()
	if _, err := s.js.CreateStream(natstest.Context(s.t), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		s.t.Fatal(err)
	}
	for range 12 {
		if _, err := s.js.Publish(natstest.Context(s.t), "s.x", make([]byte, 900<<10)); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.settle(1)
}

// A file that is cut off or gone is noticed.
func TestFilesCutOffAreReported(t *testing.T) {
	for name, damage := range map[string]func(blocks []string){
		"the last one, within a message": func(b []string) { truncate(t, b[len(b)-1], -5) },
		"the last one, between two":      func(b []string) { o := natstest.Records(t, b[len(b)-1]); truncate(t, b[len(b)-1], o[len(o)-2]) },
		"another, within a message":      func(b []string) { truncate(t, b[0], -5) },
		"another, between two":           func(b []string) { o := natstest.Records(t, b[0]); truncate(t, b[0], o[len(o)-2]) },
		"the last one, gone":             func(b []string) { os.Remove(b[len(b)-1]) },
		"another, gone":                  func(b []string) { os.Remove(b[0]) },
		"a description":                  func(b []string) { natstest.FlipBit(t, filepath.Join(filepath.Dir(b[0]), "..", "meta.inf"), 80) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir()).large()
			s.Stop()
			blocks := natstest.Blocks(t, s.dir, "S")
			if len(blocks) < 2 {
				t.Fatalf("%d blocks", len(blocks))
			}
			damage(blocks)
			natstest.RemoveIndex(t, s.dir, "S")
			again := open(t, s.dir)
			if l := again.Losses(); !slices.ContainsFunc(l, func(l natsd.Loss) bool { return l.Reason == natsd.Damaged && l.Stream == "S" }) {
				t.Errorf("%v", l)
			}
		})
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if size < 0 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// A process that is killed during a write leaves a part of a message that was not acked. That is not a loss.
func TestHalfAMessageIsNoLoss(t *testing.T) {
	s := open(t, t.TempDir()).fill(20).settle(1).marked(20)
	dir := natstest.CopyFolder(t, s.dir)
	if _, err := s.js.Publish(natstest.Context(t), "s.more", []byte("the text of a message")); err != nil {
		t.Fatal(err)
	}
	blocks := natstest.Blocks(t, s.dir, "S")
	more, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	offsets := natstest.Records(t, blocks[0])
	if err := os.WriteFile(natstest.Blocks(t, dir, "S")[0], more[:offsets[len(offsets)-1]-9], 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir).wantLosses()
}
