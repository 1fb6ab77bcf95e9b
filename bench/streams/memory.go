package main

import (
	"context"
	"time"
)

// openWindow is how many streams are opening at a time where it is not about how many can.
const openWindow = 64

// memory opens streams that stay idle, and looks at what each holds and what it cost to open.
func memory(ctx context.Context, set *settings, r *report) (err error) {
	s, err := startHark(ctx, set, set.n)
	if err != nil {
		return err
	}
	defer s.close()
	defer func() { err = s.blame(err) }()
	if err := warmUp(ctx, s); err != nil {
		return err
	}
	c, err := newCrowd(s, set.n, set.n)
	if err != nil {
		return err
	}
	defer c.close()
	before, err := s.memory()
	if err != nil {
		return err
	}
	used, err := s.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.openAll(ctx, openWindow); err != nil {
		return err
	}
	took := time.Since(began)
	cpu, err := s.cpu()
	if err != nil {
		return err
	}
	cpu = cpu.Sub(used)
	n := float64(set.n)
	r.add("streams opened in a second", n/took.Seconds(), "/s", noTarget)
	r.add("CPU per stream opened", micros(cpu.Total())/n, "µs", atMost(100))
	r.add("CPU per stream opened, user", micros(cpu.User)/n, "µs", noTarget)
	r.add("CPU per stream opened, system", micros(cpu.System)/n, "µs", noTarget)
	waited := time.Duration(0)
	for _, after := range []time.Duration{5 * time.Second, 30 * time.Second} {
		if err := rest(ctx, after-waited); err != nil {
			return err
		}
		waited = after
		held, err := s.memory()
		if err != nil {
			return err
		}
		r.add("memory per idle stream, after "+after.String(), float64(held.RSS-before.RSS)/n, "B", atMost(2048))
		if after == 30*time.Second {
			r.add("memory before", float64(before.RSS)/(1<<20), "MB", noTarget)
			r.add("memory at its peak", float64(held.Peak)/(1<<20), "MB", noTarget)
		}
	}
	return c.check()
}

// warmUp opens and closes some streams, so that what a process pays once, as the pages of its code that are read from
// disk, is not divided among the streams; and waits until the process has come to rest and given back what it can.
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
