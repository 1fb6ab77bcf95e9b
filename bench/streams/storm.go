package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// storm kills the server with all its streams, starts it again, and lets everybody reconnect at the same time, while notifications are posted. No
// reader may miss a notification or get one twice.
func storm(ctx context.Context, set *settings, r *report) error {
	st, err := harkStage(ctx, set, set.n)
	if err != nil {
		return err
	}
	defer st.close()
	return st.blame(st.storm(ctx, r))
}

func (st *stage) storm(ctx context.Context, r *report) error {
	if err := st.oneForEach(ctx); err != nil {
		return err
	}
	st.crowd.mu.Lock()
	st.window, st.again, st.held = len(st.readers), true, true
	st.crowd.mu.Unlock()

	posting, stop := context.WithCancel(ctx)
	defer stop()
	posted := make(chan error, 1)
	go func() {
		posted <- st.each(10, func(_ int, p *poster) error {
			return pace(posting, 50, time.Hour, func() error { return p.insist(ctx, int32(rand.IntN(len(st.readers)))) })
		})
	}()
	if err := rest(ctx, time.Second); err != nil {
		return err
	}
	killed := time.Now()
	st.process.Kill()
	err := until(ctx, time.Minute, "all streams to end", func() (bool, error) { return st.opened.Load() == 0, st.check() })
	if err != nil {
		return err
	}
	if err := st.start(); err != nil {
		return err
	}
	ready, err := st.ready(ctx)
	if err != nil {
		return err
	}
	st.crowd.mu.Lock()
	st.held = false
	st.pump()
	st.crowd.mu.Unlock()
	// Some readers get this one live, and the others from the log.
	sent := make(chan error, 1)
	go func() { sent <- st.each(1, func(_ int, p *poster) error { return p.insist(ctx, everyone) }) }()
	err = until(ctx, 2*time.Minute, "all streams to be back", func() (bool, error) {
		return int(st.opened.Load()) == len(st.readers), st.check()
	})
	if err != nil {
		return fmt.Errorf("%w; %d are open", err, st.opened.Load())
	}
	if err := <-sent; err != nil {
		return err
	}
	if err := rest(ctx, time.Second); err != nil { // after everybody has reconnected
		return err
	}
	stop()
	if err := <-posted; err != nil {
		return err
	}
	if err := st.settled(ctx); err != nil {
		return err
	}
	back := make([]time.Duration, 0, len(st.readers))
	opens, resumed := 0, 0
	st.crowd.mu.Lock()
	for _, reader := range st.readers {
		back = append(back, time.Duration(reader.hello-ready.UnixNano()))
		opens += reader.opens - 1
		for _, a := range reader.got {
			if st.ledger.notes[a.note].at < reader.hello && a.read >= reader.hello {
				resumed++
			}
		}
	}
	refused := st.refused
	st.crowd.mu.Unlock()
	r.took("kill to ready again", ready.Sub(killed), noTarget)
	slices.Sort(back)
	r.took("ready to hello, p50", quantile(back, 0.5), noTarget)
	r.took("ready to hello, p99", quantile(back, 0.99), noTarget)
	r.took("ready until all streams are back", quantile(back, 1), atMost(5000))
	r.add("streams reopened", float64(opens), "", noTarget)
	r.add("connections refused meanwhile", float64(refused), "", noTarget)
	r.add("notifications posted", float64(st.ledger.drawn.Load()), "", noTarget)
	r.add("of these posted before a reader was back, and read after", float64(resumed), "", noTarget)
	return st.compareInboxes(ctx, r)
}

// oneForEach posts each user a notification, so that each has something to resume from.
func (st *stage) oneForEach(ctx context.Context) error {
	err := st.each(publishers, func(i int, p *poster) error {
		for user := i; user < len(st.readers); user += publishers {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, err := p.post(int32(user), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return st.settled(ctx)
}

// ready waits until the server answers requests. Before that it listens and answers 503, with a Retry-After of 2 s.
func (st *stage) ready(ctx context.Context) (at time.Time, err error) {
	err = until(ctx, time.Minute, "the server to be ready", func() (bool, error) {
		res, err := http.Get("http://" + st.server.addr + "/readyz")
		if err != nil {
			return false, nil
		}
		defer res.Body.Close()
		at = time.Now()
		return res.StatusCode == http.StatusOK, nil
	})
	return at, err
}

// compareInboxes compares the arrivals of some readers with their inboxes: a second check, in addition to the ids of the responses.
func (st *stage) compareInboxes(ctx context.Context, r *report) error {
	sample := min(200, len(st.readers))
	for range sample {
		reader := st.readers[rand.IntN(len(st.readers))]
		listed, err := st.inbox(ctx, reader.user)
		if err != nil {
			return err
		}
		var got []uint64
		st.crowd.mu.Lock()
		for _, a := range reader.got {
			got = append(got, a.seq)
		}
		st.crowd.mu.Unlock()
		if !slices.Equal(listed, got) {
			return fmt.Errorf("%s got %d, but its inbox lists %d", userName(reader.user), got, listed)
		}
	}
	r.add("inboxes that list just what their readers got", float64(sample), "", atLeast(float64(sample)))
	return nil
}
