package hark_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// fourUsers live in the four streams of a log of four.
var fourUsers = []string{"ana", "bob", "a@b.c", "user-1"}

// titles returns the titles of notifications with a word about each.
func titles(all []jobs.Notification) (texts []string) {
	for _, n := range all {
		texts = append(texts, n.Title+" "+n.Status)
	}
	return texts
}

// With several streams each user has jobs, notifications and broadcasts as with one: in one order, live and in the inbox, read
// and deleted by each for themselves.
func TestSeveralStreams(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]func(*testing.T) harktest.Option{
		"sqlite":   func(*testing.T) harktest.Option { return func(*hark.Options) {} },
		"postgres": func(t *testing.T) harktest.Option { return harktest.Database(pgtest.DSN(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			severalStreams(t, harktest.Start(t, harktest.Streams(4), option(t)))
		})
	}
}

func severalStreams(t *testing.T, h *harktest.Hark) {
	ctx := natstest.Context(t)
	admin := h.Client("root", "admin", "notify")
	streams := make(map[string]*harktest.Stream)
	for _, user := range fourUsers {
		streams[user] = h.Stream(user)
	}
	send := func(user, key, title string) {
		t.Helper()
		if _, err := admin.Notify(ctx, user, jobs.Notification{Key: key, Type: "t", Title: title}); err != nil {
			t.Fatal(err)
		}
	}
	send(jobs.Everyone, "one", "first")
	var ids []string
	for _, user := range fourUsers {
		send(user, "k", "own")
		job, err := h.Client(user).Enqueue(ctx, client.Request{Kind: "sleep", Params: []byte(`{"seconds":0.01}`)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, job.ID)
		polltest.Nil(t, "the job ends", func() error {
			now, err := h.Client(user).Job(ctx, job.ID)
			if err == nil && now.State != jobs.Succeeded {
				err = errors.New(string(now.State))
			}
			return err
		})
	}
	send(jobs.Everyone, "one", "first") // is there already
	send(jobs.Everyone, "two", "second")
	for _, user := range fourUsers {
		var got []string
		for range 4 {
			got = append(got, streams[user].Notification().Title)
		}
		if got[0] != "first" || got[1] != "own" || !strings.HasSuffix(got[2], " is done") || got[3] != "second" {
			t.Errorf("the stream of %s: %q", user, got)
		}
		streams[user].Close()
		c := h.Client(user)
		list := h.Notifications(user)
		want := []string{"second unread", got[2] + " unread", "own unread", "first unread"}
		if !slices.Equal(titles(list), want) {
			t.Fatalf("the inbox of %s: %q, want %q", user, titles(list), want)
		}
		if unread, err := c.MarkRead(ctx, list[3].ID); err != nil || unread != 3 {
			t.Errorf("%s reads a broadcast: %d, %v", user, unread, err)
		}
		if unread, err := c.DeleteNotification(ctx, list[0].ID); err != nil || unread != 2 {
			t.Errorf("%s deletes a broadcast: %d, %v", user, unread, err)
		}
		if unread, err := c.MarkAllRead(ctx, list[2].ID); err != nil || unread != 1 {
			t.Errorf("%s reads up to a notification: %d, %v", user, unread, err)
		}
		want = []string{got[2] + " unread", "own read", "first read"}
		if list = h.Notifications(user); !slices.Equal(titles(list), want) {
			t.Errorf("the inbox of %s: %q, want %q", user, titles(list), want)
		}
		if unread, err := c.MarkAllRead(ctx, ""); err != nil || unread != 0 {
			t.Errorf("%s reads everything: %d, %v", user, unread, err)
		}
	}
	var listed []string
	page, err := h.Queue.List(ctx, "", jobs.ListOptions{Everyone: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range page.Jobs {
		listed = append([]string{job.ID}, listed...)
	}
	if !slices.Equal(listed, ids) {
		t.Errorf("listed %q, want %q", listed, ids)
	}
}

// Notifications come and go on when one stream is lost while hark runs. Streams of events get a reset, whichever user's stream it
// was, and the inbox keeps what it has.
func TestOneOfSeveralStreamsIsLost(t *testing.T) {
	t.Parallel()
	h, ctx := harktest.Start(t, harktest.Streams(4)), natstest.Context(t)
	for _, user := range fourUsers {
		if _, err := h.Queue.Notify(ctx, user, jobs.Notification{Type: "t", Title: "before"}); err != nil {
			t.Fatal(err)
		}
		h.Notifications(user)
	}
	streams := make(map[string]*harktest.Stream)
	for _, user := range fourUsers {
		streams[user] = h.Stream(user)
	}
	if err := h.Queue.Store().JetStream().DeleteStream(ctx, "hark_log_32"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Queue.Notify(ctx, jobs.Everyone, jobs.Notification{Type: "t", Title: "after"}); err != nil {
		t.Fatal(err)
	}
	for _, user := range fourUsers {
		streams[user].Next(client.EventReset)
		polltest.Nil(t, "the inbox of "+user, func() error {
			list := h.Notifications(user)
			if got := titles(list); !slices.Equal(got, []string{"after unread", "before unread"}) {
				return fmt.Errorf("%q", got)
			}
			return nil
		})
	}
}

// Another number of streams is refused once there was a message, with a sentence that names the option.
func TestNumberOfStreams(t *testing.T) {
	t.Parallel()
	nc, ctx := natstest.Connect(t), natstest.Context(t)
	at := hark.Location{NATS: nc}
	changes, err := hark.Setup(ctx, hark.SetupOptions{Location: at, Settings: hark.Settings{Streams: 2}, Logger: logTo(t)})
	if err != nil || len(changes) != 7 || changes[1].What != "hark_log_32" {
		t.Fatal(changes, err)
	}
	changes, err = hark.Setup(ctx, hark.SetupOptions{Location: at, Settings: hark.Settings{Streams: 4}, DryRun: true, Logger: logTo(t)})
	if err != nil || len(changes) != 3 {
		t.Errorf("before the first message: %v, %v", changes, err)
	}
	if _, err := nc.Request("hark.log.20.bob.notification", []byte(`{"type":"t","title":"T"}`), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	_, err = hark.Setup(ctx, hark.SetupOptions{Location: at, Settings: hark.Settings{Streams: 4}, Logger: logTo(t)})
	var mistake *hark.Error
	if !errors.As(err, &mistake) || mistake.Code != "setting_invalid" || !strings.HasPrefix(mistake.Message, "Options.Settings.Streams is 4, and the log has 2 and has had messages") {
		t.Errorf("after it: %v", err)
	}
}

// hark runs while the number of streams is changed: streams of readers get a reset, and from then on each reader and each inbox has
// its user's notifications and the broadcasts, and jobs run.
func TestStreamsChangeWhileHarkRuns(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 1} {
		t.Run(fmt.Sprintf("to %d", n), func(t *testing.T) {
			t.Parallel()
			h, ctx := harktest.Start(t, harktest.Streams(5-n)), natstest.Context(t)
			streams := make(map[string]*harktest.Stream)
			for _, user := range fourUsers {
				streams[user] = h.Stream(user)
			}
			_, err := hark.Setup(ctx, hark.SetupOptions{Location: hark.Location{NATS: h.Queue.Store().Conn()}, Settings: hark.Settings{Streams: n}, Logger: logTo(t)})
			if err != nil {
				t.Fatal(err)
			}
			for _, user := range fourUsers {
				streams[user].Next(client.EventReset)
			}
			if _, err := h.Queue.Notify(ctx, jobs.Everyone, jobs.Notification{Key: "all", Type: "t", Title: "all"}); err != nil {
				t.Fatal(err)
			}
			for _, user := range fourUsers {
				if title := streams[user].Notification().Title; title != "all" {
					t.Errorf("%s: %q", user, title)
				}
				job, err := h.Client(user).Enqueue(ctx, client.Request{Kind: "sleep", Params: []byte(`{"seconds":0.01}`)})
				if err != nil {
					t.Fatal(err)
				}
				if n := streams[user].Notification(); n.JobID != job.ID {
					t.Errorf("%s: %+v", user, n)
				}
				polltest.Nil(t, "the inbox of "+user, func() error {
					if list := h.Notifications(user); len(list) != 2 {
						return fmt.Errorf("%q", titles(list))
					}
					return nil
				})
			}
		})
	}
}
