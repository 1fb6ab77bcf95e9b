package joblog_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// openBulk returns a queue with a connection of its own for what is large, and a kind that takes any params.
func openBulk(t testing.TB) *joblog.Store {
	t.Helper()
	ns, err := natsd.Start(natsd.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Stop)
	var conns [2]*nats.Conn
	for i := range conns {
		if conns[i], err = ns.Connect(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conns[i].Close)
	}
	q, err := joblog.Open(natstest.Context(t), conns[0], joblog.Options{Bulk: conns[1]})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.PublishKind(natstest.Context(t), jobs.Kind{Name: "open", Title: "Open", MaxAttempts: 1, Open: true}); err != nil {
		t.Fatal(err)
	}
	return q
}

// enqueueWith stores n jobs with params of that many bytes, and returns their ids, the newest first. One is enqueued, and the
// others are copies of it: params that are checked again and again take most of the time with the race detector.
func enqueueWith(t testing.TB, q *joblog.Store, user string, n, bytes int) (ids []string) {
	t.Helper()
	params := json.RawMessage(`{"text":"` + strings.Repeat("x", bytes) + `"}`)
	job, _, err := q.Enqueue(natstest.Context(t), jobs.Request{User: user, Kind: "open", Params: params})
	if err != nil {
		t.Fatal(err)
	}
	log, err := q.JetStream().Stream(natstest.Context(t), defaultNS.LogStream())
	if err != nil {
		t.Fatal(err)
	}
	first, err := log.GetMsg(natstest.Context(t), job.Revision)
	if err != nil {
		t.Fatal(err)
	}
	ids = append(ids, job.ID)
	for range n - 1 {
		id := ulid.Make().String()
		copied := strings.NewReplacer(job.ID, id)
		if _, err := q.JetStream().Publish(natstest.Context(t), copied.Replace(first.Subject), []byte(copied.Replace(string(first.Data)))); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	slices.Reverse(ids)
	return ids
}

// listAll pages through a list.
func listAll(t testing.TB, q *joblog.Store, user string, o jobs.ListOptions) (ids []string, pages int) {
	t.Helper()
	return listPages(t, q, user, o, 1e9)
}

func listPages(t testing.TB, q *joblog.Store, user string, o jobs.ListOptions, most int) (ids []string, pages int) {
	t.Helper()
	for {
		page, err := q.List(natstest.Context(t), user, o)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, job := range page.Jobs {
			ids = append(ids, job.ID)
		}
		if page.Next == "" || pages == most {
			return ids, pages
		}
		o.After = page.Next
	}
}

// peakHeap returns the most bytes that were live or not yet collected while do ran, above those before.
func peakHeap(do func()) (peak int64) {
	runtime.GC()
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() int64 {
		metrics.Read(heap)
		return int64(heap[0].Value.Uint64())
	}
	before, over := read(), make(chan struct{})
	go func() { defer close(over); do() }()
	for {
		peak = max(peak, read()-before)
		select {
		case <-over:
			return peak
		case <-time.After(time.Millisecond):
		}
	}
}

// Ten lists at a time over 150 jobs with params as large as they may be take little memory, and nothing of the
// connection that all else needs.
func TestListsOfLargeJobsTakeLittle(t *testing.T) {
	q := openBulk(t)
	want := enqueueWith(t, q, "ana", 150, jobs.MaxParamsBytes-100)
	before := q.Conn().Stats().InBytes
	peak := peakHeap(func() {
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if ids, _ := listAll(t, q, "ana", jobs.ListOptions{Limit: 100}); !slices.Equal(ids, want) {
					t.Errorf("listed %d", len(ids))
				}
			})
		}
		all.Wait()
	})
	t.Logf("peak %d MB", peak>>20)
	if peak > 200<<20 {
		t.Errorf("ten lists took %d MB", peak>>20)
	}
	if n := q.Conn().Stats().InBytes - before; n > 1<<20 {
		t.Errorf("%d bytes came over the connection that all else needs", n)
	}
	if n := q.Bulk().Stats().Reconnects; n > 0 {
		t.Errorf("the connection was lost %d times", n)
	}
}

// A list finds all jobs, once and in order, whatever their sizes are and wherever they stand.
func TestListOfJobsOfAllSizes(t *testing.T) {
	q := openBulk(t)
	var want []string
	for range 2 {
		for _, part := range []struct {
			user     string
			n, bytes int
		}{{"ana", 100, 10}, {"bob", 400, 1}, {"ana", 40, 250_000}, {"ana", 30, 3000}} {
			if ids := enqueueWith(t, q, part.user, part.n, part.bytes); part.user == "ana" {
				want = append(ids, want...)
			}
		}
	}
	if got, _ := listAll(t, q, "ana", jobs.ListOptions{Limit: 100}); !slices.Equal(got, want) {
		t.Errorf("listed %d of %d", len(got), len(want))
	}
	// Each of these pages reads 8 MiB. The first eleven cover small jobs, large ones and small ones again.
	for limit, pages := range map[int]int{9: 11, 1: 3} {
		if got, _ := listPages(t, q, "ana", jobs.ListOptions{Limit: limit}, pages); !slices.Equal(got, want[:pages*limit]) {
			t.Errorf("limit %d: listed %d", limit, len(got))
		}
	}
	if got, _ := listAll(t, q, "", jobs.ListOptions{Limit: 100, Everyone: true}); len(got) != 2*570 {
		t.Errorf("everyone's: listed %d", len(got))
	}
	if got, _ := listAll(t, q, "ana", jobs.ListOptions{Limit: 100, States: []jobs.State{jobs.Failed}}); len(got) != 0 {
		t.Errorf("listed %d that failed", len(got))
	}
}

// A page holds no more than a MiB of results and one job.
func TestListOfLargeResults(t *testing.T) {
	q := openBulk(t)
	want := enqueueWith(t, q, "ana", 10, 10)
	for i, id := range want {
		s, err := q.Read(natstest.Context(t), "ana", id)
		if err != nil {
			t.Fatal(err)
		}
		s.Job.State = jobs.Running
		s.Job.Result = json.RawMessage(`"` + strings.Repeat("r", 1000*(i%5)*200) + `"`)
		if _, err := q.PutState(natstest.Context(t), &s.Job, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{100, 3} {
		var got []string
		pages := 0
		for o := (jobs.ListOptions{Limit: limit, States: []jobs.State{jobs.Running}}); ; {
			page, err := q.List(natstest.Context(t), "ana", o)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			size := 0
			for _, job := range page.Jobs {
				got = append(got, job.ID)
				size += len(job.Result)
			}
			if size > 2<<20 {
				t.Errorf("a page of %d bytes", size)
			}
			if o.After = page.Next; page.Next == "" {
				break
			}
		}
		if !slices.Equal(got, want) || pages < 3 {
			t.Errorf("limit %d: listed %d in %d pages", limit, len(got), pages)
		}
	}
}

func BenchmarkList(b *testing.B) {
	for _, large := range []bool{false, true} {
		b.Run(fmt.Sprintf("large=%t", large), func(b *testing.B) {
			q := openBulk(b)
			bytes := 50
			if large {
				bytes = 250_000
			}
			for range 5 {
				enqueueWith(b, q, "bob", 50, 50)
				enqueueWith(b, q, "ana", 10, bytes)
			}
			for b.Loop() {
				if page, err := q.List(natstest.Context(b), "ana", jobs.ListOptions{Limit: 50}); err != nil || len(page.Jobs) != 50 {
					b.Fatal(len(page.Jobs), err)
				}
			}
		})
	}
}
