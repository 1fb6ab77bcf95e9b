package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// A hark serve goes on with its inbox in PostgreSQL: with what was read, and with what comes later. While it runs, its inbox is not
// copied.
func TestMigrateInbox(t *testing.T) {
	freshAccount(t)
	data, target := t.TempDir(), pgtest.DSN(t)
	file := filepath.Join(data, "inbox.db")
	migrate := []string{"migrate", "inbox", "--from", file, "--to", target}
	want := func(code int, said string, args ...string) {
		t.Helper()
		if got, out, errs := harkCommand(t.Context(), args...); got != code || !strings.Contains(out+errs, said) {
			t.Errorf("hark %s: %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, said, out, errs)
		}
	}
	wantInbox := func(want ...string) {
		t.Helper()
		s, err := inbox.Open(target, inbox.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		polltest.Nil(t, "the inbox", func() error {
			page, err := s.List(t.Context(), "ana", inbox.ListOptions{})
			var got []string
			for _, n := range page.Notifications {
				got = append(got, n.Title+" "+n.Status)
			}
			if err == nil && strings.Join(got, ", ") != strings.Join(want, ", ") {
				err = fmt.Errorf("it has %q, want %q", got, want)
			}
			return err
		})
	}
	url, stop := serveUntil(t, "--data", data)
	for i := range 3 {
		want(0, "", "notify", "--user", "ana", "--title", fmt.Sprint("note-", i), "--url", url, "--data", data)
	}
	want(1, "Another hark uses the data folder", migrate...)
	code, token, errs := harkCommand(t.Context(), "token", "--user", "ana", "--data", data)
	if code != 0 {
		t.Fatal(errs)
	}
	ana, err := client.New(client.Options{URL: url, Token: strings.TrimSpace(token)})
	if err != nil {
		t.Fatal(err)
	}
	polltest.Nil(t, "the inbox has the notifications", func() error {
		n := 0
		for _, err := range ana.Notifications(t.Context(), client.NotificationsQuery{}) {
			if err != nil {
				return err
			}
			n++
		}
		if n < 3 {
			return fmt.Errorf("it has %d", n)
		}
		return nil
	})
	stop()
	s, err := inbox.Open(file, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.List(t.Context(), "ana", inbox.ListOptions{})
	if err != nil || len(page.Notifications) != 3 {
		t.Fatal(page, err)
	}
	id, err := jobs.ParseNotificationID(page.Notifications[1].ID)
	if err == nil {
		_, err = s.MarkRead(t.Context(), "ana", id)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	want(2, "--from is missing", "migrate", "inbox", "--to", target)
	want(2, "--to-table-prefix", append(migrate, "--to-table-prefix", "1")...)
	want(1, "There is no file", "migrate", "inbox", "--from", file+"x", "--to", target)
	want(0, "Copied 3 notifications", migrate...)
	wantInbox("note-2 unread", "note-1 read", "note-0 unread")
	want(0, "Nothing to copy", append(migrate, "-q")...)
	want(1, "no inbox in the source", "migrate", "inbox", "--from", file, "--to", target, "--from-table-prefix", "bell_")
	other := filepath.Join(t.TempDir(), "inbox.db")
	fillInbox(t, other, 1)
	want(1, "--replace deletes it first", "migrate", "inbox", "--from", other, "--to", target)

	url, stop = serveUntil(t, "--data", data, "--database", target)
	want(0, "", "notify", "--user", "ana", "--title", "note-3", "--url", url, "--data", data)
	wantInbox("note-3 unread", "note-2 unread", "note-1 read", "note-0 unread")
	stop()
	want(0, "Nothing to copy", migrate...)
	wantInbox("note-3 unread", "note-2 unread", "note-1 read", "note-0 unread")
}

// A signal ends the command with a sentence that says how to go on.
func TestMigrateInboxIsInterrupted(t *testing.T) {
	freshAccount(t)
	file, target := filepath.Join(t.TempDir(), "inbox.db"), pgtest.DSN(t)
	fillInbox(t, file, 30_000)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	errs := &interrupting{cancel: func() { cancel(&interruptError{syscall.SIGINT}) }}
	code := run(ctx, []string{"migrate", "inbox", "--from", file, "--to", target}, Streams{In: strings.NewReader(""), Out: new(logtest.Buffer), Err: errs})
	if code != 130 || !strings.Contains(errs.String(), "of 30,000 rows; run the same command again") {
		t.Errorf("%d\n%s", code, errs)
	}
	if code, out, errs := harkCommand(t.Context(), "migrate", "inbox", "--from", file, "--to", target); code != 0 || !strings.Contains(out, "Copied 30,000 notifications") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
}

// interrupting is a log that calls cancel at the first line.
type interrupting struct {
	logtest.Buffer
	cancel func()
}

func (w *interrupting) Write(p []byte) (int, error) {
	w.cancel()
	return w.Buffer.Write(p)
}

// fillInbox stores n notifications in an inbox.
func fillInbox(t *testing.T, database string, n int) {
	t.Helper()
	s, err := inbox.Open(database, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var batch []inbox.Entry
	for seq := range uint64(n) {
		batch = append(batch, inbox.Entry{User: fmt.Sprint("user-", seq%100), ID: jobs.NotificationID{Epoch: 1, Seq: seq + 1}, Notification: jobs.Notification{Title: fmt.Sprint(seq)}})
	}
	if err := s.Append(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}
