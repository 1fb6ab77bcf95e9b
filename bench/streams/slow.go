package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// slow looks at what readers that never read do to the others, and what they hold. It runs the same load twice, on
// a fresh server each time: once with everybody reading, since the load itself takes memory too.
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
	// The backlog, and a little for the goroutine that waits until there is room again.
	r.add("memory per slow reader", float64(grewMore-grew)/float64(deaf), "B", atMost(80<<10))
	return nil
}

// slowRun returns the 99th percentile of those who read, and by how much what streams hold grew.
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
	// What is left to do for the load itself must not be taken for what slow readers do.
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
	// Before the slow ones are cut, as they are after half a minute, and let go of what they hold.
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

// pad is nearly as much as a notification's data may have.
const pad = 15 << 10

// fill posts to each of some users more than a deaf reader's socket and the server's backlog for it take: about 100
// and 64 KB.
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

// trickle goes on posting to them.
func (st *stage) trickle(ctx context.Context, from, to int) error {
	return st.each(1, func(_ int, p *poster) error {
		return pace(ctx, 25, time.Hour, func() error {
			_, err := p.post(int32(from+rand.IntN(to-from)), pad)
			return err
		})
	})
}
