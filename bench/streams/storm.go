package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"
)

// storm kills the server under all its streams, starts it again, and lets everybody come back at once, while
// notifications go on being posted. Nobody may miss one or get one twice.
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
	listening, err := st.listening(ctx)
	if err != nil {
		return err
	}
	st.crowd.mu.Lock()
	st.held = false
	st.pump()
	st.crowd.mu.Unlock()
	// Some hear this one live and the others from the log.
	told := make(chan error, 1)
	go func() { told <- st.each(1, func(_ int, p *poster) error { return p.insist(ctx, everyone) }) }()
	err = until(ctx, 2*time.Minute, "all streams to be back", func() (bool, error) {
		return int(st.opened.Load()) == len(st.readers), st.check()
	})
	if err != nil {
		return fmt.Errorf("%w; %d are open", err, st.opened.Load())
	}
	if err := <-told; err != nil {
		return err
	}
	if err := rest(ctx, time.Second); err != nil { // with everybody back
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
		back = append(back, time.Duration(reader.hello-listening.UnixNano()))
		opens += reader.opens - 1
		for _, a := range reader.got {
			if st.ledger.notes[a.note].at < reader.hello && a.read >= reader.hello {
				resumed++
			}
		}
	}
	refused := st.refused
	st.crowd.mu.Unlock()
	r.took("kill to listening again", listening.Sub(killed), noTarget)
	slices.Sort(back)
	r.took("listening to hello, p50", quantile(back, 0.5), noTarget)
	r.took("listening to hello, p99", quantile(back, 0.99), noTarget)
	r.took("listening until all streams are back", quantile(back, 1), atMost(5000))
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

// listening waits until the server takes a connection.
func (st *stage) listening(ctx context.Context) (at time.Time, err error) {
	err = until(ctx, time.Minute, "the server to listen", func() (bool, error) {
		conn, err := net.Dial("tcp", st.server.addr)
		if err != nil {
			return false, nil
		}
		at = time.Now()
		conn.Close()
		return true, nil
	})
	return at, err
}

// compareInboxes compares what some readers got with what the server lists for them: a second witness, besides
// the ids that it answered with.
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
