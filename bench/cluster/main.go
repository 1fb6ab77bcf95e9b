// Command cluster measures what the NATS servers of a cluster of three spend on hark's messages, subjects and subscriptions:
// the figures that docs/scaling.md calculates with. Each server is a process of its own, over loopback.
//
//	go run ./bench/cluster
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/bench/proc"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/nats-io/nats.go"
)

func main() {
	if config := os.Getenv(configVar); config != "" {
		serveNATS(config)
		return
	}
	n := flag.Int("n", 200_000, "subjects, notifications and subscriptions")
	flag.Parse()
	if err := run(*n); err != nil {
		log.Fatal(err)
	}
}

func run(n int) error {
	ctx := context.Background()
	fmt.Println(proc.Machine())
	c, err := startCluster()
	if err != nil {
		return err
	}
	defer c.stop()
	o := hark.SetupOptions{Settings: hark.Settings{Replicas: 3}}
	o.NATSServers.URL, o.Wait = c.urls(), time.Minute
	if _, err := hark.Setup(ctx, o); err != nil {
		return err
	}
	nc, err := nats.Connect(c.urls())
	if err != nil {
		return err
	}
	defer nc.Close()
	q, err := queue.Open(ctx, nc, queue.Options{})
	if err != nil {
		return err
	}
	defer q.Close()
	if err := publishKind(ctx, nc); err != nil {
		return err
	}
	c.settle()

	before, disk := c.memory(), c.disk()
	began := time.Now()
	if err := notifications(ctx, q, n); err != nil {
		return err
	}
	fmt.Printf("%d notifications of 300 B to 1,000 users: %.0f a second\n", n, float64(n)/time.Since(began).Seconds())
	c.settle()
	report("memory of a notification", before, c.memory(), n)
	report("disk of a notification", disk, c.disk(), n)

	before, disk = c.memory(), c.disk()
	began = time.Now()
	if err := jobRequests(ctx, q, n); err != nil {
		return err
	}
	fmt.Printf("%d jobs that wait, a subject each: %.0f a second\n", n, float64(n)/time.Since(began).Seconds())
	c.settle()
	report("memory of a subject", before, c.memory(), n)
	report("disk of a job request", disk, c.disk(), n)

	before = c.memory()
	own, err := nats.Connect(c.url(0), nats.IgnoreDiscoveredServers())
	if err != nil {
		return err
	}
	defer own.Close()
	began = time.Now()
	if err := subscribe(own, n); err != nil {
		return err
	}
	fmt.Printf("%d subscriptions at the first server: %.1f s\n", n, time.Since(began).Seconds())
	c.settle()
	report("memory of a subscription", before, c.memory(), n)
	return nil
}

// report prints the growth of each server per item, in bytes.
func report(what string, before, after [3]int64, n int) {
	fmt.Printf("  %s:", what)
	for i := range before {
		fmt.Printf(" %d", (after[i]-before[i])/int64(n))
	}
	fmt.Println(" B at the three servers")
}

// notifications stores n notifications for 1,000 users.
func notifications(ctx context.Context, q *queue.Client, n int) error {
	const batch = 1000
	for from := 0; from < n; from += batch {
		all := make([]jobs.Addressed, min(batch, n-from))
		for i := range all {
			all[i] = jobs.Addressed{User: fmt.Sprintf("user-%d", i), Notification: jobs.Notification{
				Type: "order.shipped", Title: fmt.Sprintf("Your order %d has been shipped", from+i), Body: "It will arrive tomorrow between 9 and 12 o'clock."}}
		}
		if _, err := q.NotifyAll(ctx, all); err != nil {
			return err
		}
	}
	return nil
}

// jobRequests enqueues n jobs of a kind without workers.
func jobRequests(ctx context.Context, q *queue.Client, n int) error {
	const batch = 1000
	for from := 0; from < n; from += batch {
		all := make([]jobs.Request, min(batch, n-from))
		for i := range all {
			all[i] = jobs.Request{User: fmt.Sprintf("user-%d", i), Kind: kind}
		}
		if _, err := q.EnqueueAll(ctx, all); err != nil {
			return err
		}
	}
	return nil
}

// subscribe subscribes to n subjects, as a notifier does for its users.
func subscribe(nc *nats.Conn, n int) error {
	messages := make(chan *nats.Msg, 1)
	for i := range n {
		if _, err := nc.ChanSubscribe(fmt.Sprintf("hark.live.%02d.user-%d.>", i%64, i), messages); err != nil {
			return err
		}
	}
	return nc.Flush()
}

// size returns the bytes on disk below a folder.
func size(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was removed meanwhile
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}
