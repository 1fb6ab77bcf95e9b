package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// box is one hark serve with its folder.
type box struct {
	t            *testing.T
	data, url    string
	out          *logtest.Buffer
	process      *harkproc.Process
	service, ana *client.Client
}

func startBox(t *testing.T, more ...string) *box {
	t.Helper()
	addr := harkproc.FreeAddr(t)
	b := &box{t: t, data: filepath.Join(t.TempDir(), "data"), url: "http://" + addr, out: new(logtest.Buffer)}
	b.process = harkproc.Start(t, b.out, append([]string{"serve", "--listen", addr, "--data", b.data, "--jwt-secret", secret, "--drain", "1s"}, more...)...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.out)
		}
	})
	harkproc.Ready(t, b.url)
	b.service, b.ana = newClient(t, b.url, "service", "notify"), newClient(t, b.url, "ana")
	return b
}

// nats is the folder of the server inside.
func (b *box) nats() string { return filepath.Join(b.data, "nats") }

func (b *box) restart() {
	b.t.Helper()
	b.process.Restart()
	harkproc.Ready(b.t, b.url)
}

// notify stores n notifications for ana, and returns their ids.
func (b *box) notify(title string, n int) (ids []string) {
	b.t.Helper()
	for i := range n {
		stored, err := b.service.Notify(b.t.Context(), "ana", jobs.Notification{Type: "test", Title: fmt.Sprint(title, " ", i)})
		if err != nil {
			b.t.Fatal(err)
		}
		ids = append(ids, stored.ID)
	}
	return ids
}

// inbox lists all that is in ana's inbox, the newest first.
func (b *box) inbox() (all []jobs.Notification) {
	b.t.Helper()
	for n, err := range b.ana.Notifications(b.t.Context(), client.NotificationsQuery{Limit: 100}) {
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// wait waits until the inbox is as ok wants it.
func (b *box) wait(what string, ok func(inbox []jobs.Notification) bool) {
	b.t.Helper()
	polltest.Nil(b.t, what, func() error {
		if all := b.inbox(); !ok(all) {
			return fmt.Errorf("the inbox has %d", len(all))
		}
		return nil
	})
}

func count(inbox []jobs.Notification, title string) (n int) {
	for _, one := range inbox {
		if strings.HasPrefix(one.Title, title) {
			n++
		}
	}
	return n
}

// events reads a stream from after a notification on until it has had an event whose data has this text in it.
func (b *box) events(from, until string) (types []string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	after, err := jobs.ParseNotificationID(from)
	if err != nil {
		b.t.Error(err)
	}
	for event, err := range b.ana.Stream(ctx, client.StreamOptions{LastEventID: after.Position().String()}) {
		if err != nil {
			b.t.Fatalf("%v, after %v", err, types)
		}
		types = append(types, event.Type)
		if strings.Contains(string(event.Data), until) {
			return types
		}
	}
	return types
}

// powerCut kills the process and takes n messages from the end of the log, as a power cut does that comes before they are
// synced. The inbox has been synced.
func (b *box) powerCut(n int) {
	b.t.Helper()
	b.process.Kill()
	natstest.CutBack(b.t, b.nats(), joblog.DefaultNamespace.LogStream(), n)
	natstest.RemoveIndex(b.t, b.nats(), joblog.DefaultNamespace.LogStream())
}

// A log that has lost its end in a power cut begins a new epoch: what is accepted after that reaches the inbox and the
// streams, a stream that resumes gets a reset, and what was read before does not make new broadcasts read.
func TestPowerCutBeginsANewEpoch(t *testing.T) {
	t.Parallel()
	b := startBox(t)
	b.notify("before", 10)
	lost := b.notify("lost", 40)
	if _, err := b.service.Notify(t.Context(), jobs.Everyone, jobs.Notification{Type: "test", Title: "a lost broadcast"}); err != nil {
		t.Fatal(err)
	}
	b.wait("before the power cut", func(inbox []jobs.Notification) bool { return len(inbox) == 51 })
	if _, err := b.ana.MarkAllRead(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.powerCut(41)
	b.restart()
	after := b.notify("after", 51)
	if _, err := b.service.Notify(t.Context(), jobs.Everyone, jobs.Notification{Type: "test", Title: "a new broadcast"}); err != nil {
		t.Fatal(err)
	}
	b.wait("all that was accepted after the power cut is in the inbox", func(inbox []jobs.Notification) bool {
		return count(inbox, "after") == 51 && count(inbox, "a new broadcast") == 1
	})
	inbox := b.inbox()
	if n := len(inbox); n != 51+52 {
		t.Errorf("the inbox has %d", n)
	}
	for _, n := range inbox {
		if isNew := strings.HasPrefix(n.Title, "after") || n.Title == "a new broadcast"; isNew != (n.Status == jobs.Unread) {
			t.Errorf("%q is %q", n.Title, n.Status)
		}
	}
	for _, id := range after {
		if slices.Contains(lost, id) {
			t.Fatalf("the id %s was given out twice", id)
		}
	}
	if _, err := b.ana.MarkRead(t.Context(), after[0]); err != nil {
		t.Errorf("mark what is new: %v", err)
	}
	if _, err := b.ana.MarkRead(t.Context(), lost[0]); err != nil {
		t.Errorf("mark what only the inbox has: %v", err)
	}
	for _, id := range []string{lost[0], lost[39]} {
		b.process.Stop()
		b.restart()
		ended := make(chan []string, 1)
		go func() { ended <- b.events(id, "the last") }()
		b.notifyUntil(ended, "the last", func(types []string) {
			if !slices.Contains(types, "reset") {
				t.Errorf("a stream that resumes at %s gets %v", id, types)
			}
		})
	}
	if _, body := get(t, b.url+"/readyz"); !strings.Contains(body, "ready") {
		t.Error(body)
	}
}

// notifyUntil notifies ana until a stream has ended, and checks what it got.
func (b *box) notifyUntil(ended <-chan []string, title string, check func(types []string)) {
	b.t.Helper()
	polltest.Until(b.t, "the stream ends", func() bool {
		b.notify(title, 1)
		return len(ended) > 0
	})
	check(<-ended)
}

// A job that is enqueued after a power cut runs, however far the worker's consumer had come.
func TestJobsRunAfterAPowerCut(t *testing.T) {
	t.Parallel()
	b := startBox(t)
	run := func() {
		t.Helper()
		job, err := b.ana.Enqueue(t.Context(), client.Request{Kind: "sleep", Params: json.RawMessage(`{"seconds":0}`), MaxAttempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if job, err = b.ana.Follow(ctx, job, client.FollowOptions{}); err != nil || job.State != jobs.Succeeded {
			t.Fatalf("%s, %v", job.State, err)
		}
	}
	for range 5 {
		run()
	}
	b.notify("the end of the log", 1)
	b.wait("the inbox", func(inbox []jobs.Notification) bool { return len(inbox) == 6 })
	b.powerCut(10)
	b.restart()
	run()
}

// Nothing is lost by a kill alone: streams resume, in the same epoch.
func TestKillKeepsTheEpoch(t *testing.T) {
	t.Parallel()
	b := startBox(t)
	ids := b.notify("before", 20)
	b.process.Kill()
	b.restart()
	if types := b.events(ids[4], "before 19"); slices.Contains(types, "reset") {
		t.Errorf("%v", types)
	}
	if strings.Contains(b.out.String(), "lost") {
		t.Error("something is said to be lost")
	}
}

// One bit that was turned over in a block is reported, and the ids of before mean nothing any more.
func TestDamageIsReported(t *testing.T) {
	t.Parallel()
	for _, index := range []bool{true, false} {
		b := startBox(t)
		ids := b.notify("before", 20)
		b.process.Stop()
		block := natstest.Blocks(t, b.nats(), joblog.DefaultNamespace.LogStream())[0]
		natstest.FlipBit(t, block, (natstest.Records(t, block)[9]+40)*8)
		if !index {
			natstest.RemoveIndex(t, b.nats(), joblog.DefaultNamespace.LogStream())
		}
		b.restart()
		answers(t, b.url+"/readyz", http.StatusOK, `"status":"degraded"`)
		answers(t, b.url+"/readyz", http.StatusOK, `"log":"damaged"`)
		if !strings.Contains(b.out.String(), "level=ERROR") || !strings.Contains(b.out.String(), "are after message 9 and before message 11") {
			t.Errorf("the log says:\n%s", b.out)
		}
		ended := make(chan []string, 1)
		go func() { ended <- b.events(ids[3], "the last") }()
		b.notifyUntil(ended, "the last", func(types []string) {
			if !slices.Contains(types, "reset") {
				t.Errorf("a stream that resumes gets %v", types)
			}
		})
	}
}

// An inbox that is missing beside a log, or empty, as a power cut may leave it, is said to be, and filled again.
func TestMissingInboxIsFilledAgain(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			b := startBox(t)
			b.notify("before", 20)
			b.process.Stop()
			files, err := filepath.Glob(filepath.Join(b.data, "inbox.db*"))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			for _, file := range files {
				if err := damage(file); err != nil {
					t.Fatal(err)
				}
			}
			b.restart()
			b.wait("the inbox", func(inbox []jobs.Notification) bool { return len(inbox) == 20 })
			if !strings.Contains(b.out.String(), "there is a log, and the inbox.db beside it is "+name) {
				t.Errorf("the log says:\n%s", b.out)
			}
		})
	}
}

// An inbox that is no database keeps nothing else from working, and the log says what to do. That helps.
func TestDamagedInboxHasAWayOut(t *testing.T) {
	t.Parallel()
	b := startBox(t)
	b.notify("before", 20)
	b.process.Stop()
	path := filepath.Join(b.data, "inbox.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.notify("after", 1)
	untilHealth(t, b.url, `"inbox":`)
	polltest.Until(t, "the log has an error", func() bool { return strings.Contains(b.out.String(), "level=ERROR") })
	if !strings.Contains(b.out.String(), "stop hark, move "+path+" away") {
		t.Errorf("the log says:\n%s", b.out)
	}
	b.process.Stop()
	if err := os.Rename(path, path+".damaged"); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.wait("the inbox", func(inbox []jobs.Notification) bool { return len(inbox) == 21 })
}
