package jobs_test

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

	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/jobs"
)

// openBulk returns a queue with a connection of its own for what is large, and a kind that takes any params.
func openBulk(t testing.TB) *jobs.Queue {
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
	q, err := jobs.Open(t.Context(), conns[0], jobs.Config{Bulk: conns[1]})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.PublishKind(t.Context(), jobs.Kind{Name: "open", Title: "Open", MaxAttempts: 1, Open: true}); err != nil {
		t.Fatal(err)
	}
	return q
}

// enqueueWith enqueues n jobs with params of so many bytes, and returns their ids, the newest first.
func enqueueWith(t testing.TB, q *jobs.Queue, user string, n, bytes int) (ids []string) {
	t.Helper()
	params := json.RawMessage(`{"text":"` + strings.Repeat("x", bytes) + `"}`)
	for range n {
		job, _, err := q.Enqueue(t.Context(), jobs.Request{User: user, Kind: "open", Params: params})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, job.ID)
	}
	slices.Reverse(ids)
	return ids
}

// listAll pages through a list.
func listAll(t testing.TB, q *jobs.Queue, user string, o jobs.ListOptions) (ids []string, pages int) {
	t.Helper()
	return listPages(t, q, user, o, 1e9)
}

func listPages(t testing.TB, q *jobs.Queue, user string, o jobs.ListOptions, most int) (ids []string, pages int) {
	t.Helper()
	for {
		page, err := q.List(t.Context(), user, o)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, job := range page.Jobs {
			ids = append(ids, job.ID)
		}
		if page.Next == 0 || pages == most {
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
	for _, limit := range []int{7, 1} {
		if got, _ := listPages(t, q, "ana", jobs.ListOptions{Limit: limit}, 20); !slices.Equal(got, want[:20*limit]) {
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
	want := enqueueWith(t, q, "ana", 20, 10)
	for i, id := range want {
		s, err := q.Read(t.Context(), "ana", id)
		if err != nil {
			t.Fatal(err)
		}
		s.Job.State = jobs.Running
		s.Job.Result = json.RawMessage(`"` + strings.Repeat("r", 1000*(i%5)*200) + `"`)
		if _, err := q.Put(t.Context(), &s.Job, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{100, 3} {
		o := jobs.ListOptions{Limit: limit, States: []jobs.State{jobs.Running}}
		if got, pages := listAll(t, q, "ana", o); !slices.Equal(got, want) || pages < 5 {
			t.Errorf("limit %d: listed %d in %d pages", limit, len(got), pages)
		}
		for {
			page, err := q.List(t.Context(), "ana", o)
			if err != nil {
				t.Fatal(err)
			}
			size := 0
			for _, job := range page.Jobs {
				size += len(job.Result)
			}
			if size > 2<<20 {
				t.Errorf("a page of %d bytes", size)
			}
			if o.After = page.Next; page.Next == 0 {
				break
			}
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
				if page, err := q.List(b.Context(), "ana", jobs.ListOptions{Limit: 50}); err != nil || len(page.Jobs) != 50 {
					b.Fatal(len(page.Jobs), err)
				}
			}
		})
	}
}
