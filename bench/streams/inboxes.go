package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

const (
	inboxUsers = 10_000
	inboxEpoch = jobs.Epoch(1_760_000_000_000)
)

// inboxes fills an inbox in this process. It measures the rate of storing, and the latency of reading.
func inboxes(ctx context.Context, set *settings, r *report) (err error) {
	path := set.log
	if path == "" {
		path = filepath.Join(set.dir, "inbox.db")
	}
	s, err := inbox.Open(path, inbox.Options{})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.Close(); err == nil {
			err = closeErr
		}
	}()
	if err := fillInbox(ctx, s, set.rows, r); err != nil {
		return err
	}
	for _, query := range []struct {
		name string
		do   func(user string) error
	}{
		{"unread count", func(user string) error { _, err := s.Unread(ctx, user); return err }},
		{"first page", func(user string) error { _, err := s.List(ctx, user, inbox.ListOptions{Limit: 50}); return err }},
	} {
		took := make([]time.Duration, 0, 5000)
		for range cap(took) {
			user := skewedUser()
			began := time.Now()
			if err := query.do(user); err != nil {
				return err
			}
			took = append(took, time.Since(began))
		}
		r.quantiles(query.name, took, atMost(2))
	}
	return nil
}

// fillInbox fills an inbox up to a number of rows, in batches like those of the ingester.
func fillInbox(ctx context.Context, s *inbox.Store, rows int, r *report) error {
	at, err := s.Position(ctx)
	if err != nil {
		return err
	}
	first, began := at.Seq, time.Now()
	batch := make([]inbox.Entry, 0, 1000)
	var making time.Duration
	for seq := first; seq < uint64(rows); {
		made := time.Now()
		batch = batch[:0]
		for range cap(batch) {
			seq++
			batch = append(batch, inboxEntry(seq, began))
		}
		making += time.Since(made)
		if err := s.Append(ctx, batch); err != nil {
			return err
		}
	}
	if n := float64(rows) - float64(first); n > 0 {
		r.add("rows appended in a second", n/(time.Since(began)-making).Seconds(), "/s", atLeast(20_000))
	}
	return nil
}

// skewedUser returns a random user, the first ones more often: by squaring, a tenth of the users gets a third of the notifications.
func skewedUser() string {
	x := rand.Float64()
	return userName(int(x * x * inboxUsers))
}

func inboxEntry(seq uint64, now time.Time) inbox.Entry {
	user := skewedUser()
	if seq%10_000 == 0 {
		user = jobs.Everyone
	}
	return inbox.Entry{User: user, ID: jobs.NotificationID{Epoch: inboxEpoch, Seq: seq}, Notification: jobs.Notification{
		Key: fmt.Sprint("key-", seq), Type: "job.succeeded", Title: "Your export “Orders 2026” is ready",
		Body:  "300,000 rows, 14 MB. The file is kept for 7 days.",
		JobID: fmt.Sprintf("01JD3Q%020d", seq), CreatedAt: now.Add(time.Duration(seq) * time.Millisecond),
		File: &jobs.File{Name: "orders-2026-11-21.csv", Size: 14 << 20, ContentType: "text/csv; charset=utf-8", ExpiresAt: now},
	}}
}
