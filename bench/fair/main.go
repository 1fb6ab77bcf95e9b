// Command fair measures how long a user's job waits while another user has many jobs:
//
//	go run ./bench/fair
//
// One worker with 8 slots has 2,000 jobs of 50 ms of a first user when a second one enqueues a job of 50 ms, once with the
// default limit for each user (half of the slots) and once without (all of them).
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

var (
	count  = flag.Int("jobs", 2000, "jobs of the first user")
	length = flag.Duration("length", 50*time.Millisecond, "of each job")
	rounds = flag.Int("rounds", 3, "how often each is measured")
)

const slots = 8

func main() {
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	fmt.Printf("%d jobs of %v of one user, %d slots; the job of another user starts after\n", *count, *length, slots)
	for range *rounds {
		for _, perUser := range []int{slots / 2, slots} {
			waited, throughput, err := measure(perUser)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("  %d slots for each user: %8v  (%.0f jobs of the first user a second)\n", perUser, waited.Round(10*time.Microsecond), throughput)
		}
	}
}

// measure returns how long the second user's job waited for its start, and the rate of the first user's jobs meanwhile.
func measure(perUser int) (waited time.Duration, throughput float64, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "hark-fair-*")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	second, done := make(chan time.Time, 1), make(chan struct{}, *count)
	work := func(ctx context.Context, job *worker.Job, _ struct{}) (jobs.Result, error) {
		if job.User == "second" {
			second <- time.Now()
		}
		time.Sleep(*length)
		done <- struct{}{}
		return jobs.Result{}, nil
	}
	srv, err := hark.New(ctx, hark.Options{Only: hark.Worker, Data: dir, Handlers: []worker.Handler{
		worker.Handle(jobs.Define[struct{}](jobs.Kind{Name: "work"}), work, worker.Concurrency(slots), worker.PerUser(perUser))}})
	if err != nil {
		return 0, 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	select {
	case <-srv.Ready():
	case err := <-ended:
		return 0, 0, err
	}
	q := srv.Queue()
	for range *count {
		if _, err := q.Enqueue(ctx, jobs.Request{User: "first", Kind: "work"}); err != nil {
			return 0, 0, err
		}
	}
	left := *count
	for ; len(done) > 0; left-- { // those that have run meanwhile
		<-done
	}
	began := time.Now()
	for range 40 { // until the worker is at full load
		<-done
	}
	enqueued := time.Now()
	if _, err := q.Enqueue(ctx, jobs.Request{User: "second", Kind: "work"}); err != nil {
		return 0, 0, err
	}
	waited = (<-second).Sub(enqueued)
	for range 40 {
		<-done
	}
	throughput = 80 / time.Since(began).Seconds()
	if perUser == slots {
		throughput = float64(left) / (waited + enqueued.Sub(began)).Seconds()
	}
	cancel()
	return waited, throughput, <-ended
}
