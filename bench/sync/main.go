// Command sync measures the cost of durability against power loss on this machine's disk: stored notifications per second, from one caller and
// from 32 callers, with JetStream syncing every two minutes and before each ack.
//
//	go run ./bench/sync
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/internal/demo"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

func main() {
	length := flag.Duration("length", 5*time.Second, "how long each case is measured")
	dir := flag.String("dir", "", "folder on the disk to measure; temporary if empty")
	flag.Parse()
	for _, callers := range []int{1, 32} {
		rates := make(map[bool]float64)
		for _, always := range []bool{false, true} {
			rate, err := measure(*dir, always, callers, *length)
			if err != nil {
				log.Fatal(err)
			}
			rates[always] = rate
		}
		fmt.Printf("%2d callers: interval %7.0f/s, always %7.0f/s, %.0f times as slow\n",
			callers, rates[false], rates[true], rates[false]/rates[true])
	}
}

// measure returns the stored notifications per second.
func measure(parent string, always bool, callers int, length time.Duration) (float64, error) {
	dir, err := os.MkdirTemp(parent, "hark-sync-*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	srv, err := hark.New(context.Background(), hark.Options{
		Only: hark.Worker, Data: dir, SyncAlways: always, Handlers: []worker.Handler{demo.Sleep()}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return 0, err
	}
	defer srv.Close()
	queue := srv.Queue()
	var stored atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	begin := time.Now()
	for i := range callers {
		all.Go(func() {
			user := fmt.Sprint("user ", i)
			for time.Since(begin) < length {
				if _, err := queue.Notify(context.Background(), user, jobs.Notification{Type: "t", Title: "Title"}); err != nil {
					failed.Store(&err)
					return
				}
				stored.Add(1)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(stored.Load()) / time.Since(begin).Seconds(), nil
}
