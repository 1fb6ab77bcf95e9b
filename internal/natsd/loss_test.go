package natsd_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
)

// store is a server with a stream S, a bucket of keys and one of files.
type store struct {
	t   *testing.T
	dir string
	*natsd.Server
	js jetstream.JetStream
}

func open(t *testing.T, dir string, options ...func(*natsd.Options)) *store {
	t.Helper()
	o := natsd.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
	for _, set := range options {
		set(&o)
	}
	ns, err := natsd.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Stop)
	nc, err := ns.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &store{t, dir, ns, js}
}

func always(o *natsd.Options) { o.SyncAlways = true }

// fill puts n messages into the stream and each bucket.
func (s *store) fill(n int) *store {
	s.t.Helper()
	ctx := natstest.Context(s.t)
	if _, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowRollup: true}); err != nil {
		s.t.Fatal(err)
	}
	kv, err := s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "keys"})
	if err != nil {
		s.t.Fatal(err)
	}
	files, err := s.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "files"})
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range n {
		if _, err := s.js.Publish(ctx, fmt.Sprint("s.", i), []byte("the text of a message"), jetstream.WithMsgID(fmt.Sprint(i))); err != nil {
			s.t.Fatal(err)
		}
		if _, err := kv.PutString(ctx, fmt.Sprint("key-", i), "value"); err != nil {
			s.t.Fatal(err)
		}
		if _, err := files.PutString(ctx, fmt.Sprint("file-", i), "what stands in it"); err != nil {
			s.t.Fatal(err)
		}
	}
	return s
}

// marked writes the mark, like a running server does every second, and checks the position of S in it.
func (s *store) marked(last uint64) *store {
	s.t.Helper()
	natsd.KeepMark(s.Server)
	if n := markOf(s.t, s.dir); n != last {
		s.t.Fatalf("the mark stands at %d, not at %d", n, last)
	}
	return s
}

// markOf returns the position of S in the mark of a folder.
func markOf(t *testing.T, dir string) uint64 {
	t.Helper()
	s, ok := readMark(t, dir)["streams"].(map[string]any)["S"].(map[string]any)
	if !ok {
		return 0
	}
	return uint64(s["last"].(float64))
}

// A running server records the positions of its streams.
func TestMarkFollowsTheStreams(t *testing.T) {
	s := open(t, t.TempDir())
	go s.Run(t.Context())
	s.fill(3)
	polltest.Until(t, "the mark follows", func() bool { return markOf(t, s.dir) >= 3 })
}

const markName = "hark-mark.json"

func readMark(t *testing.T, dir string) (m map[string]any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, markName))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// reboot changes the mark of a folder as if the operating system had been restarted.
func reboot(t *testing.T, dir string) {
	t.Helper()
	m := readMark(t, dir)
	m["boot"] = "another"
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, markName), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *store) settle(epoch int64) *store {
	s.t.Helper()
	lost, _ := s.Unsettled()
	if err := s.Settle(epoch, lost); err != nil {
		s.t.Fatal(err)
	}
	return s
}

// wantLosses checks the losses, by reason and stream, and whether they are unsettled.
func (s *store) wantLosses(want ...string) {
	s.t.Helper()
	var got []string
	for _, l := range s.Losses() {
		got = append(got, strings.TrimSpace(l.Reason+" "+l.Stream))
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		s.t.Errorf("lost: %q, not %q; in full: %v", got, want, s.Losses())
	}
	if lost, _ := s.Unsettled(); len(lost) > 0 != (len(want) > 0) {
		s.t.Errorf("unsettled: %v", lost)
	}
}

// A crash of the process loses nothing, and is not reported as a loss.
func TestCrashAloneIsNoLoss(t *testing.T) {
	s := open(t, t.TempDir()).fill(100).settle(7).marked(100)
	s.fill(5) // the mark may not have these
	for i := 0; i < 100; i += 3 {
		if err := s.stream("S").DeleteMsg(natstest.Context(t), uint64(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, natstest.CopyFolder(t, s.dir))
	again.wantLosses()
	if _, epoch := again.Unsettled(); epoch != 7 {
		t.Errorf("the epoch is %d", epoch)
	}
}

func (s *store) stream(name string) jetstream.Stream {
	s.t.Helper()
	stream, err := s.js.Stream(natstest.Context(s.t), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return stream
}

// Messages that a stream deletes, by itself or on request, are not a loss, after an orderly stop or a crash.
func TestDeletedIsNotLost(t *testing.T) {
	for name, remove := range map[string]func(*store){
		"the last":    func(s *store) { s.delete(100) },
		"the last 60": func(s *store) { s.delete(seqs(41, 100)...) },
		"all":         func(s *store) { s.purge() },
		"one by one":  func(s *store) { s.delete(seqs(1, 100)...) },
		"all but one": func(s *store) { s.purge(jetstream.WithPurgeKeep(1)) },
		"one subject": func(s *store) { s.purge(jetstream.WithPurgeSubject("s.99")) },
		"by age": func(s *store) {
			config := s.stream("S").CachedInfo().Config
			config.MaxAge, config.Duplicates = 100*time.Millisecond, 100*time.Millisecond
			if _, err := s.js.UpdateStream(natstest.Context(s.t), config); err != nil {
				s.t.Fatal(err)
			}
			polltest.Until(s.t, "the messages expire", func() bool { return s.stream("S").CachedInfo().State.Msgs == 0 })
		},
		"the stream": func(s *store) {
			if err := s.js.DeleteStream(natstest.Context(s.t), "S"); err != nil {
				s.t.Fatal(err)
			}
			s.fill(1).marked(1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir()).fill(100).marked(100)
			remove(s)
			crashed := natstest.CopyFolder(t, s.dir)
			natstest.RemoveIndex(t, crashed, "S")
			open(t, crashed).wantLosses()
			s.Stop()
			open(t, s.dir).wantLosses()
		})
	}
}

func (s *store) delete(seqs ...uint64) {
	s.t.Helper()
	stream := s.stream("S")
	for _, seq := range seqs {
		if err := stream.DeleteMsg(natstest.Context(s.t), seq); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *store) purge(options ...jetstream.StreamPurgeOpt) {
	s.t.Helper()
	if err := s.stream("S").Purge(natstest.Context(s.t), options...); err != nil {
		s.t.Fatal(err)
	}
}

func seqs(from, to uint64) (all []uint64) {
	for seq := from; seq <= to; seq++ {
		all = append(all, seq)
	}
	return all
}

// A log that has lost its end is noticed, with any index of the server.
func TestLogThatWentBackIsNoticed(t *testing.T) {
	s := open(t, t.TempDir()).fill(51).settle(1).marked(51)
	for _, index := range []bool{true, false} {
		dir := natstest.CopyFolder(t, s.dir)
		natstest.CutBack(t, dir, "S", 41)
		if !index {
			natstest.RemoveIndex(t, dir, "S")
		}
		again := open(t, dir)
		again.wantLosses("went back S")
		if l := again.Losses()[0]; !l.Certain || l.Detail != "the stream ends at message 10; it had messages up to 51 or more" {
			t.Errorf("%+v", l)
		}
	}
}

// Unsettled losses survive a crash.
func TestLossesAreKeptUntilTheyAreSettled(t *testing.T) {
	s := open(t, t.TempDir()).fill(51).settle(1).marked(51)
	dir := natstest.CopyFolder(t, s.dir)
	natstest.CutBack(t, dir, "S", 41)
	open(t, dir).wantLosses("went back S")
	crashed := natstest.CopyFolder(t, dir)
	again := open(t, crashed)
	again.wantLosses("went back S")
	again.settle(2)
	again.Stop()
	open(t, crashed).wantLosses()
}

// After a power cut unsynced data may be lost, except after an orderly stop or with SyncAlways.
func TestRestartOfTheOperatingSystem(t *testing.T) {
	for name, c := range map[string]struct {
		options []func(*natsd.Options)
		stop    bool
		want    []string
	}{
		"interval":          {nil, false, []string{"maybe lost"}},
		"interval, stopped": {nil, true, nil},
		"always":            {[]func(*natsd.Options){always}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), c.options...).fill(10).settle(1).marked(10)
			dir := s.dir
			if c.stop {
				s.Stop()
			} else {
				dir = natstest.CopyFolder(t, dir)
			}
			reboot(t, dir)
			open(t, dir).wantLosses(c.want...)
		})
	}
}

// A log without a mark may have lost its end.
func TestNoMark(t *testing.T) {
	s := open(t, t.TempDir())
	s.wantLosses()
	s.fill(1).Stop()
	if err := os.Remove(filepath.Join(s.dir, markName)); err != nil {
		t.Fatal(err)
	}
	open(t, s.dir).wantLosses("not known")
}

// Other programs cannot connect before Listen.
func TestHold(t *testing.T) {
	s := open(t, t.TempDir(), func(o *natsd.Options) { o.Listen, o.Hold = "127.0.0.1:0", true })
	if s.URL() != "" {
		t.Errorf("it listens on %s", s.URL())
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	if s.URL() == "" {
		t.Error("it does not listen")
	}
}
