package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// slow measures the effect of readers that never read on the others, and their memory. It runs the same load twice, each time on a fresh server:
// once with all readers reading, since the load itself needs memory, too.
func slow(ctx context.Context, set *settings, r *report) error {
	n, deaf := set.mid, set.mid/5
	without, grew, err := slowRun(ctx, set, r, n, deaf, false)
	if err != nil {
		return err
	}
	with, grewMore, err := slowRun(ctx, set, r, n, deaf, true)
	if err != nil {
		return err
	}
	r.add("p99 with slow readers, ratio to that without", with.Seconds()/without.Seconds(), ratio, noTarget)
	// The backlog, and some memory for the goroutine that waits for space.
	r.add("memory per slow reader", float64(grewMore-grew)/float64(deaf), "B", atMost(80<<10))
	return nil
}

// slowRun returns the 99th percentile of the readers that read, and the growth of the streams' memory.
func slowRun(ctx context.Context, set *settings, r *report, n, deaf int, present bool) (p99 time.Duration, grew int64, err error) {
	s, err := startHark(ctx, set, n)
	if err != nil {
		return 0, 0, err
	}
	from, name := n, "all read"
	if present {
		from, name = n-deaf, "a fifth never reads"
	}
	st, err := newStage(ctx, s, n, from)
	if err != nil {
		return 0, 0, err
	}
	defer st.close()
	defer func() { err = st.blame(err) }()
	before, err := st.heapOf(ctx, "notifier/sse")
	if err != nil {
		return 0, 0, err
	}
	if err := st.fill(ctx, n-deaf, n); err != nil {
		return 0, 0, err
	}
	// Wait for the rest of the load, so that it does not count for the slow readers.
	if err := st.filled(ctx, st.ledger); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	loading, stop := context.WithCancel(ctx)
	defer stop()
	more := make(chan error, 1)
	go func() { more <- st.trickle(loading, n-deaf, n) }()
	err = st.pacedLoad(ctx, n-deaf, 500, 10*time.Second)
	stop()
	if err := errors.Join(err, <-more); err != nil {
		return 0, 0, err
	}
	// Before the slow readers are cut, after half a minute, and their memory is released.
	after, err := st.heapOf(ctx, "notifier/sse")
	if err != nil {
		return 0, 0, err
	}
	if err := st.settled(ctx); err != nil {
		return 0, 0, err
	}
	st.crowd.mu.Lock()
	_, read := st.ledger.latencies(st.readers[:n-deaf], began)
	st.crowd.mu.Unlock()
	slices.Sort(read)
	p99 = quantile(read, 0.99)
	r.took(name+": POST to read, p50", quantile(read, 0.5), noTarget)
	r.took(name+": POST to read, p99", p99, noTarget)
	r.took(name+": POST to read, max", quantile(read, 1), noTarget)
	r.add(name+": what streams hold grew by", float64(after-before)/(1<<20), "MB", noTarget)
	return p99, after - before, nil
}

// pad is nearly the largest size of a notification's data.
const pad = 15 << 10

// fill posts to each of some users more than a deaf reader's socket and its backlog in the server can have: about 100 and 64 KB.
func (st *stage) fill(ctx context.Context, from, to int) error {
	const each = 16
	return st.each(publishers, func(i int, p *poster) error {
		for range each {
			for user := from + i; user < to; user += publishers {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if _, err := p.post(int32(user), pad); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// trickle continues to post to them.
func (st *stage) trickle(ctx context.Context, from, to int) error {
	return st.each(1, func(_ int, p *poster) error {
		return pace(ctx, 25, time.Hour, func() error {
			_, err := p.post(int32(from+rand.IntN(to-from)), pad)
			return err
		})
	})
}
