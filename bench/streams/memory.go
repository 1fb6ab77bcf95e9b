package main

import (
	"context"
	"time"
)

// openWindow is the number of streams that are opening at a time, in cases about something else.
const openWindow = 64

// memory opens idle streams, and measures the memory and the cost of opening of each: in hark, and in net/http handlers that do nothing else.
func memory(ctx context.Context, set *settings, r *report) error {
	s, err := startHark(ctx, set, set.n)
	if err != nil {
		return err
	}
	hark, err := idle(ctx, set, r, s, "", 30*time.Second)
	s.close()
	if err != nil {
		return s.blame(err)
	}
	r.add("CPU per stream opened", hark.cpu, "µs", atMost(100))
	r.add("memory per idle stream, after 30s", hark.bytes, "B", atMost(2048))
	if s, err = startPlain(ctx, set, baselineArg); err != nil {
		return err
	}
	defer s.close()
	plain, err := idle(ctx, set, r, s, "baseline: ", 5*time.Second)
	if err != nil {
		return s.blame(err)
	}
	r.add("baseline: CPU per stream opened", plain.cpu, "µs", noTarget)
	r.add("baseline: memory per idle stream", plain.bytes, "B", noTarget)
	r.add("CPU per stream opened, ratio to the baseline", hark.cpu/plain.cpu, ratio, noTarget)
	r.add("memory per idle stream, ratio to the baseline", hark.bytes/plain.bytes, ratio, noTarget)
	return nil
}

// cost is the cost of a stream.
type cost struct{ cpu, bytes float64 } // microseconds to open it, and while it is idle

// idle opens all streams, and measures their memory after a while.
func idle(ctx context.Context, set *settings, r *report, s *server, prefix string, after time.Duration) (each cost, err error) {
	if err := warmUp(ctx, s); err != nil {
		return each, err
	}
	c, err := newCrowd(s, set.n, set.n)
	if err != nil {
		return each, err
	}
	defer c.close()
	before, err := s.memory()
	if err != nil {
		return each, err
	}
	used, err := s.cpu()
	if err != nil {
		return each, err
	}
	began := time.Now()
	if err := c.openAll(ctx, openWindow); err != nil {
		return each, err
	}
	took := time.Since(began)
	cpu, err := s.cpu()
	if err != nil {
		return each, err
	}
	if err := rest(ctx, after); err != nil {
		return each, err
	}
	held, err := s.memory()
	if err != nil {
		return each, err
	}
	cpu = cpu.Sub(used)
	n := float64(set.n)
	r.add(prefix+"streams opened in a second", n/took.Seconds(), "/s", noTarget)
	r.add(prefix+"CPU per stream opened, user", micros(cpu.User)/n, "µs", noTarget)
	r.add(prefix+"CPU per stream opened, system", micros(cpu.System)/n, "µs", noTarget)
	r.add(prefix+"memory before", float64(before.RSS)/(1<<20), "MB", noTarget)
	r.add(prefix+"memory at its peak", float64(held.Peak)/(1<<20), "MB", noTarget)
	return cost{micros(cpu.Total()) / n, float64(held.RSS-before.RSS) / n}, c.check()
}

// warmUp opens and closes some streams, so that one-time costs, such as reading code pages from disk, are not divided among the streams. Then it
// waits until the process is idle and has released its unused memory.
func warmUp(ctx context.Context, s *server) error {
	c, err := newCrowd(s, 100, 100)
	if err != nil {
		return err
	}
	err = c.openAll(ctx, openWindow)
	c.close()
	if err != nil {
		return err
	}
	return rest(ctx, 8*time.Second)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
