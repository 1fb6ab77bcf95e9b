package natsd_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/natstest"
)

// cutBack removes the last n messages of S under a running server. After a restart the server misses them: it cannot write its index when it
// stops.
func (s *store) cutBack(n int) {
	s.t.Helper()
	natstest.RemoveIndex(s.t, s.dir, "S")
	index := filepath.Join(filepath.Dir(natstest.Blocks(s.t, s.dir, "S")[0]), "index.db")
	if err := os.MkdirAll(filepath.Join(index, "in the way"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	natstest.CutBack(s.t, s.dir, "S", n)
}

// loses is cutBack with the restart.
func (s *store) loses(n int) {
	s.t.Helper()
	s.cutBack(n)
	if err := natsd.Restart(s.Server); err != nil {
		s.t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(filepath.Dir(natstest.Blocks(s.t, s.dir, "S")[0]), "index.db")); err != nil {
		s.t.Fatal(err)
	}
}

// wantUnsettled checks whether there are unsettled losses, in this server and in one that starts after a crash.
func (s *store) wantUnsettled(what string, want bool) {
	s.t.Helper()
	if lost, _ := s.Unsettled(); len(lost) > 0 != want {
		s.t.Errorf("%s: unsettled is %v", what, lost)
	}
	crashed := open(s.t, natstest.CopyFolder(s.t, s.dir))
	defer crashed.Stop()
	if lost, _ := crashed.Unsettled(); len(lost) > 0 != want {
		s.t.Errorf("%s, after a crash: unsettled is %v", what, lost)
	}
}

// Settle settles only the given losses. A loss while an epoch begins needs another epoch, also in the same stream.
func TestWhatIsLostMeanwhileIsNotSettled(t *testing.T) {
	s := open(t, t.TempDir()).fill(51).settle(1).marked(51)
	s.loses(10)
	seen, _ := s.Unsettled()
	if len(seen) != 1 {
		t.Fatalf("%v", seen)
	}
	s.loses(10)
	if err := s.Settle(2, seen); err != nil {
		t.Fatal(err)
	}
	s.wantUnsettled("lost between", true)
	s.settle(3)
	s.wantUnsettled("settled", false)
}

// A loss at a restart is noticed later if reading the positions fails at first.
func TestLossAtARestartIsNoticedLater(t *testing.T) {
	s := open(t, t.TempDir()).fill(51).settle(1).marked(51)
	broken := errors.New("not just now")
	natsd.FailPositions(s.Server, broken)
	s.cutBack(10)
	if err := natsd.Restart(s.Server); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	natsd.FailPositions(s.Server, nil)
	natsd.KeepMark(s.Server)
	s.wantLosses("went back S")
	s.wantUnsettled("lost", true)
}

// A Settle that could not be written to the mark is written when that is possible again, also if no stream has changed.
func TestMarkIsWrittenLater(t *testing.T) {
	s := open(t, t.TempDir()).fill(51).settle(1).marked(51)
	s.loses(10)
	away := filepath.Join(s.dir, markName+".new") // a new mark is written there first
	if err := os.MkdirAll(filepath.Join(away, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	lost, _ := s.Unsettled()
	if err := s.Settle(2, lost); err == nil {
		t.Fatal("the mark was written")
	}
	if err := os.RemoveAll(away); err != nil {
		t.Fatal(err)
	}
	natsd.KeepMark(s.Server)
	s.wantUnsettled("settled", false)
}

// Settled damage does not count again at each start. Later damage to the same file does.
func TestLaterDamageToTheSameFileCounts(t *testing.T) {
	cut := func(size int64) func(*testing.T, string) {
		return func(t *testing.T, block string) { truncate(t, block, size) }
	}
	flip := func(record int) func(*testing.T, string) {
		return func(t *testing.T, block string) {
			natstest.FlipBit(t, block, (natstest.Records(t, block)[record]+30)*8)
		}
	}
	shorten := func(t *testing.T, block string) {
		o := natstest.Records(t, block)
		truncate(t, block, o[len(o)-2])
	}
	remove := func(t *testing.T, block string) {
		if err := os.Remove(block); err != nil {
			t.Fatal(err)
		}
	}
	for name, events := range map[string][]func(*testing.T, string){
		"cut off twice":             {cut(-5), cut(-200)},
		"cut off between messages":  {shorten, shorten},
		"cut off, then gone":        {cut(-5), remove},
		"damaged, then cut off":     {flip(4), cut(-5)},
		"damaged at 0, then gone":   {flip(0), remove},
		"damaged twice":             {flip(2), flip(4)},
		"and the one behind that":   {flip(2), flip(3)},
		"healed, and damaged again": {flip(2), flip(2), flip(2)},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir()).large()
			block := natstest.Blocks(t, s.dir, "S")[0] // not the last block, so that the stream keeps its end
			for i, event := range events {
				s.Stop()
				event(t, block)
				s = open(t, s.dir)
				healed := len(events) == 3 && i == 1
				s.wantUnsettled("damaged", !healed)
				if !healed {
					s.settle(int64(i + 2))
				}
				s.Stop()
				s = open(t, s.dir)
				s.wantUnsettled("settled", false)
			}
		})
	}
}
