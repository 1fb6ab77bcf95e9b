package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// stage is a server with its readers and the posted notifications.
type stage struct {
	*server
	*crowd
	ledger *ledger
}

// newStage opens n streams on a server. The readers with indexes from deaf on are deaf. The stage closes the server, also after an error.
func newStage(ctx context.Context, s *server, n, deaf int) (*stage, error) {
	c, err := newCrowd(s, n, deaf)
	if err == nil {
		if err = c.openAll(ctx, openWindow); err != nil {
			c.close()
		}
	}
	if err != nil {
		s.close()
		return nil, s.blame(err)
	}
	st := &stage{server: s, crowd: c, ledger: newLedger()}
	if err := rest(ctx, 2*time.Second); err != nil {
		st.close()
		return nil, err
	}
	return st, nil
}

func (st *stage) close() {
	st.crowd.close()
	st.server.close()
}

// harkStage is a stage with a fresh hark, without deaf readers.
func harkStage(ctx context.Context, set *settings, n int) (*stage, error) {
	s, err := startHark(ctx, set, n)
	if err != nil {
		return nil, err
	}
	return newStage(ctx, s, n, n)
}

func plainStage(ctx context.Context, set *settings, arg string, n int) (*stage, error) {
	s, err := startPlain(ctx, set, arg)
	if err != nil {
		return nil, err
	}
	return newStage(ctx, s, n, n)
}

// settled waits until every accepted notification has arrived at all its readers and is in the inbox, and judges the arrivals.
func (st *stage) settled(ctx context.Context) error {
	single, all := int64(0), int64(0)
	hearing := int64(0)
	for _, r := range st.readers {
		if !r.deaf {
			hearing++
		}
	}
	for _, n := range st.ledger.posted() {
		switch {
		case n.seq == 0:
		case n.to == everyone:
			all += hearing
		case !st.readers[n.to].deaf:
			single++
		}
	}
	err := until(ctx, time.Minute, "what was posted to arrive", func() (bool, error) {
		return st.arrived.Load() >= single && st.broadcasts.Load() >= all, st.check()
	})
	if ctx.Err() != nil {
		return err
	}
	// A list of missing notifications says more than a timeout.
	st.crowd.mu.Lock()
	verdict := st.ledger.judge(st.readers).err()
	st.crowd.mu.Unlock()
	if verdict != nil {
		err = verdict
	}
	if err != nil {
		return err
	}
	return st.filled(ctx, st.ledger)
}

// each runs do on n goroutines, each with a poster, and returns the first error.
func (st *stage) each(posters int, do func(i int, p *poster) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, posters)
	for i := range posters {
		wg.Go(func() {
			p := newPoster(st.server, st.ledger)
			defer p.close()
			if err := do(i, p); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// pace calls do at a rate per second until the time is over or ctx ends, on one goroutine. It makes up for late calls, so that a slow response does
// not reduce the load.
func pace(ctx context.Context, perSecond int, last time.Duration, do func() error) error {
	began := time.Now()
	gap := time.Second / time.Duration(perSecond)
	for turn := time.Duration(0); turn*gap < last; turn++ {
		time.Sleep(time.Until(began.Add(turn * gap)))
		if ctx.Err() != nil {
			return nil
		}
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// pacedLoad posts to random ones of the first users, rate times a second, over four connections.
func (st *stage) pacedLoad(ctx context.Context, users, perSecond int, last time.Duration) error {
	const posters = 4
	return st.each(posters, func(i int, p *poster) error {
		time.Sleep(time.Duration(i) * time.Second / time.Duration(perSecond)) // not all at the same moment
		return pace(ctx, perSecond/posters, last, func() error {
			_, err := p.post(int32(rand.IntN(users)), 0)
			return err
		})
	})
}
