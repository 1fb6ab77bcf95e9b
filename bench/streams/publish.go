package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	publishers = 8
	several    = 100 // notifications in one POST
)

// publish posts at full speed, and measures the cost of each notification until it has arrived.
func publish(ctx context.Context, set *settings, r *report) error {
	st, err := harkStage(ctx, set, set.mid)
	if err != nil {
		return err
	}
	hark, err := st.flood(ctx, r, "", atMost(64), 1)
	if err == nil {
		_, err = st.flood(ctx, r, fmt.Sprint(several, " in a POST: "), atMost(64), several)
	}
	st.close()
	if err != nil {
		return st.blame(err)
	}
	for _, plain := range []struct{ arg, name string }{{baselineArg, "baseline"}, {floorArg, "floor"}} {
		cost, err := plainFlood(ctx, set, r, plain.arg, plain.name+": ")
		if err != nil {
			return err
		}
		r.add("CPU per notification, ratio to the "+plain.name, hark/cost, ratio, noTarget)
	}
	return nil
}

// plainFlood is flood for a server that hark is compared with.
func plainFlood(ctx context.Context, set *settings, r *report, arg, prefix string) (float64, error) {
	st, err := plainStage(ctx, set, arg, set.mid)
	if err != nil {
		return 0, err
	}
	defer st.close()
	cost, err := st.flood(ctx, r, prefix, noTarget, 1)
	return cost, st.blame(err)
}

// flood publishes for ten seconds, with a number of notifications in each request, and returns the server's CPU per
// notification, in microseconds.
func (st *stage) flood(ctx context.Context, r *report, prefix string, t target, each int) (float64, error) {
	before, err := st.cpu()
	if err != nil {
		return 0, err
	}
	began, first := time.Now(), st.ledger.drawn.Load()
	err = st.each(publishers, func(_ int, p *poster) error {
		to := make([]int32, each)
		for time.Since(began) < 10*time.Second && ctx.Err() == nil {
			for i := range to {
				to[i] = int32(rand.IntN(len(st.readers)))
			}
			if each == 1 {
				if _, err := p.post(to[0], 0); err != nil {
					return err
				}
			} else if err := p.postAll(to); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return 0, err
	}
	took := time.Since(began)
	if err := st.settled(ctx); err != nil {
		return 0, err
	}
	after, err := st.cpu()
	if err != nil {
		return 0, err
	}
	cpu, n := after.Sub(before), float64(st.ledger.drawn.Load()-first)
	per := micros(cpu.Total()) / n
	r.add(prefix+"notifications in a second", n/took.Seconds(), "/s", noTarget)
	r.add(prefix+"CPU per notification", per, "µs", t)
	r.add(prefix+"CPU per notification, user", micros(cpu.User)/n, "µs", noTarget)
	r.add(prefix+"CPU per notification, system", micros(cpu.System)/n, "µs", noTarget)
	return per, nil
}

// paced posts at a moderate rate, and measures the latency of notifications.
func paced(ctx context.Context, set *settings, r *report) error {
	st, err := harkStage(ctx, set, set.mid)
	if err != nil {
		return err
	}
	hark, err := st.walk(ctx, r, "", atMost(1))
	st.close()
	if err != nil {
		return st.blame(err)
	}
	if st, err = plainStage(ctx, set, baselineArg, set.mid); err != nil {
		return err
	}
	defer st.close()
	plain, err := st.walk(ctx, r, "baseline: ", noTarget)
	if err != nil {
		return st.blame(err)
	}
	r.add("POST to read, p99, ratio to the baseline", hark.Seconds()/plain.Seconds(), ratio, noTarget)
	return nil
}

// walk publishes 500 times a second for twenty seconds and returns the 99th percentile.
func (st *stage) walk(ctx context.Context, r *report, prefix string, t target) (time.Duration, error) {
	began := time.Now()
	if err := st.pacedLoad(ctx, len(st.readers), 500, 20*time.Second); err != nil {
		return 0, err
	}
	if err := st.settled(ctx); err != nil {
		return 0, err
	}
	st.crowd.mu.Lock()
	sock, read := st.ledger.latencies(st.readers, began)
	st.crowd.mu.Unlock()
	r.quantiles(prefix+"POST to read", read, noTarget)
	slices.Sort(sock)
	r.took(prefix+"POST to the reader's socket, p99", quantile(sock, 0.99), t)
	return quantile(read, 0.99), nil
}
