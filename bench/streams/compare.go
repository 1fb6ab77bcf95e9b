package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/bench/proc"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
)

const (
	// compareFor is the duration of measuring the CPU time of a notifier.
	compareFor = 20 * time.Second
	// comparePace is the number of notifications per second for users without streams on the notifier.
	comparePace = 1000
)

// compare measures the cost of comparing the log with the live messages each second: with idle streams and an idle log, and with notifications
// for other users. The notifier also ingests, so the cost is the difference to a hark without the comparison.
func compare(ctx context.Context, set *settings, r *report) error {
	addr, err := proc.FreeAddr()
	if err != nil {
		return err
	}
	log, err := startCommand(ctx, set, 0, "serve", "--nats-listen", addr)
	if err != nil {
		return err
	}
	defer log.close()
	n := min(set.n, 10_000)
	s, err := startCommand(ctx, set, n, "notifier", "--nats", "nats://"+addr, "--database", filepath.Join(set.dir, "compare.db"))
	if err != nil {
		return err
	}
	defer s.close()
	c, err := newCrowd(s, n, n)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.openAll(ctx, openWindow); err != nil {
		return s.blame(err)
	}
	nc, err := nats.Connect("nats://" + addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	q, err := queue.Open(ctx, nc, queue.Options{})
	if err != nil {
		return err
	}
	defer q.Close()
	if err := rest(ctx, 5*time.Second); err != nil {
		return err
	}
	for _, pace := range []int{0, comparePace} {
		before, err := s.cpu()
		if err != nil {
			return err
		}
		if err := storeAt(ctx, q, pace, compareFor); err != nil {
			return err
		}
		after, err := s.cpu()
		if err != nil {
			return err
		}
		used := after.Sub(before)
		share := used.Total().Seconds() / compareFor.Seconds()
		r.add(fmt.Sprintf("CPU of a notifier with %d idle streams, %d stored in a second for others", n, pace), 100*share, "%", noTarget)
	}
	return nil
}

// storeAt stores notifications for other users at a rate for some time.
func storeAt(ctx context.Context, q *queue.Client, pace int, d time.Duration) error {
	const slice = 100 * time.Millisecond
	for end := time.Now().Add(d); time.Now().Before(end); {
		next := time.Now().Add(slice)
		notices := make([]jobs.Addressed, pace*int(slice)/int(time.Second))
		for i := range notices {
			notices[i] = jobs.Addressed{User: fmt.Sprint("other-", i), Notification: jobs.Notification{Type: "bench", Title: "for another"}}
		}
		if len(notices) > 0 {
			if _, err := q.NotifyAll(ctx, notices); err != nil {
				return err
			}
		}
		if err := rest(ctx, time.Until(next)); err != nil {
			return err
		}
	}
	return nil
}
