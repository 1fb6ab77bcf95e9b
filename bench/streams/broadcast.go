package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// broadcast posts ten broadcasts. It measures the time until all readers have each, and the latency of another user's notifications meanwhile.
func broadcast(ctx context.Context, set *settings, r *report) error {
	st, err := harkStage(ctx, set, set.n)
	if err != nil {
		return err
	}
	defer st.close()
	return st.blame(st.broadcast(ctx, r))
}

// prober is the user whose notifications are posted meanwhile.
const prober = 0

func (st *stage) broadcast(ctx context.Context, r *report) error {
	probing, stop := context.WithCancel(ctx)
	probed := make(chan error, 1)
	go func() {
		probed <- st.each(1, func(_ int, p *poster) error {
			return pace(probing, 200, time.Hour, func() error {
				_, err := p.post(prober, 0)
				return err
			})
		})
	}()
	var notes []int32
	err := st.each(1, func(_ int, p *poster) error {
		for round := range 10 {
			if err := rest(ctx, time.Second); err != nil {
				return err
			}
			n, err := p.post(everyone, 0)
			if err != nil {
				return err
			}
			notes = append(notes, n)
			err = until(ctx, time.Minute, "a broadcast to arrive", func() (bool, error) {
				return st.broadcasts.Load() == int64((round+1)*len(st.readers)), st.check()
			})
			if err != nil {
				return err
			}
		}
		return rest(ctx, time.Second)
	})
	stop()
	if probeErr := <-probed; err == nil {
		err = probeErr
	}
	if err == nil {
		err = st.settled(ctx)
	}
	if err != nil {
		return err
	}
	st.crowd.mu.Lock()
	defer st.crowd.mu.Unlock()
	return st.report(r, notes)
}

// span has the times when a broadcast was posted, and when the first and the last reader got it, in Unix nanoseconds.
type span struct{ at, firstSock, lastSock, lastRead int64 }

func (st *stage) report(r *report, notes []int32) error {
	spans := make(map[int32]*span)
	for _, n := range notes {
		spans[n] = &span{at: st.ledger.notes[n].at, firstSock: math.MaxInt64}
	}
	for _, reader := range st.readers {
		for _, a := range reader.got {
			if s := spans[a.note]; s != nil {
				s.firstSock, s.lastSock, s.lastRead = min(s.firstSock, a.sock), max(s.lastSock, a.sock), max(s.lastRead, a.read)
			}
		}
	}
	var spread, total, read []time.Duration
	for _, s := range spans {
		spread = append(spread, time.Duration(s.lastSock-s.firstSock))
		total = append(total, time.Duration(s.lastSock-s.at))
		read = append(read, time.Duration(s.lastRead-s.at))
	}
	for _, f := range []struct {
		name string
		all  []time.Duration
		t    target
	}{
		{"first to last socket", spread, noTarget},
		{"POST to last socket", total, atMost(150)},
		{"POST to last read, by a client on the same cores", read, noTarget},
	} {
		slices.Sort(f.all)
		r.took(f.name+", median", quantile(f.all, 0.5), noTarget)
		r.took(f.name+", most", quantile(f.all, 1), f.t)
	}

	var usual, during []time.Duration
	for _, a := range st.readers[prober].got {
		n := st.ledger.notes[a.note]
		if n.to == everyone {
			continue
		}
		took := time.Duration(a.sock - n.at)
		if meets(spans, n.at, a.sock, 0) {
			during = append(during, took)
		} else if !meets(spans, n.at, a.sock, 100*time.Millisecond) { // notifications shortly after a broadcast count for neither
			usual = append(usual, took)
		}
	}
	if len(during) == 0 {
		return fmt.Errorf("nobody else's notification fell into a broadcast")
	}
	slices.Sort(usual)
	slices.Sort(during)
	r.took("somebody else's POST to socket, usually, p99", quantile(usual, 0.99), noTarget)
	r.took("somebody else's POST to socket, meanwhile, p50", quantile(during, 0.5), noTarget)
	r.took("somebody else's POST to socket, meanwhile, most", quantile(during, 1), noTarget)
	r.took("somebody else's delay: meanwhile's most - usual p99", quantile(during, 1)-quantile(usual, 0.99), atMost(20))
	return nil
}

// meets reports whether a time is within a margin of a broadcast.
func meets(spans map[int32]*span, from, to int64, margin time.Duration) bool {
	for _, s := range spans {
		if from <= s.lastSock+int64(margin) && to >= s.at-int64(margin) {
			return true
		}
	}
	return false
}
