package sse_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
)

// Broadcasts that are delivered to one user at a time keep their order with the users' own notifications, which are
// delivered in between. No stream reads the log for that.
func TestBroadcastInPieces(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{}, func(s *system) { s.hub.SetBroadcastChunk(1); s.hub.DisableReplay() })
		readers := make(map[string]*reader)
		for i := range 20 {
			user := fmt.Sprint("user", i)
			readers[user] = s.open(user, "")
			readers[user].expect("hello")
		}
		release := s.hub.PauseDelivery()
		s.notify(jobs.Everyone, "first")
		s.notify(jobs.Everyone, "second")
		for user := range readers { // received during the first round
			s.notify(user, "own")
			if rand.N(4) == 0 {
				s.notify(jobs.Everyone, "between")
			}
		}
		release()
		s.notify(jobs.Everyone, "last")
		for user, r := range readers {
			same(t, user, ids(t, r.until(titled(t, "last"))), s.log(user, 0))
		}
	})
}

// Many users that several goroutines write to get everything in order, too.
func TestBroadcastToACrowd(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{}, func(s *system) { s.hub.DisableReplay() })
		readers := make(map[string]*reader)
		for i := range 150 { // in three chunks
			user := fmt.Sprint("user", i)
			readers[user] = s.open(user, "")
			readers[user].expect("hello")
		}
		for user := range readers {
			if rand.N(20) == 0 {
				s.notify(jobs.Everyone, "between")
			}
			if rand.N(5) == 0 {
				s.notify(user, "own")
			}
		}
		s.notify(jobs.Everyone, "last")
		for user, r := range readers {
			same(t, user, ids(t, r.until(titled(t, "last"))), s.log(user, 0))
		}
	})
}

// The same with streams that open and close meanwhile, with lost messages, and from the log.
func TestBroadcastsWithoutEnd(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		// Polled streams stay for a while after their readers are gone: on a slow machine a user has more than 20.
		o := sse.Options{MaxStreams: 1 << 20}
		s := newSystem(t, w, o, func(s *system) { s.hub.SetBroadcastChunk(1); s.hub.SetLiveBuffer(8) })
		ctx, stop := context.WithCancel(t.Context())
		var writers, others sync.WaitGroup
		readers := make(map[string]*reader)
		for i := range 8 {
			user := fmt.Sprint("user", i)
			readers[user] = s.open(user, "")
			readers[user].expect("hello")
			others.Go(func() {
				for ctx.Err() == nil {
					r, status := s.tryOpen(fmt.Sprint("user", rand.N(16)), "")
					if status == http.StatusServiceUnavailable { // the machine is busy
						continue
					} else if r == nil {
						t.Errorf("stream not opened: %d", status)
						return
					}
					r.expect("hello")
					r.close()
				}
			})
		}
		s.notify(jobs.Everyone, "zero")
		for user := range readers {
			writers.Go(func() {
				for range 60 {
					s.notify(user, "own")
					time.Sleep(rand.N(2 * time.Millisecond))
				}
			})
		}
		writers.Go(func() {
			for range 150 {
				s.notify(jobs.Everyone, "all")
			}
		})
		writers.Wait()
		stop()
		others.Wait()
		s.notify(jobs.Everyone, "last")
		for user, r := range readers {
			same(t, user, ids(t, r.until(titled(t, "last"))), s.log(user, 0))
		}
	})
}

// A hub that is closed, or a user who leaves, does not wait for a broadcast: a reader that comes back gets it from the log.
func TestBroadcastCutShort(t *testing.T) {
	t.Parallel()
	s := newSystem(t, ways[0], sse.Options{}, func(s *system) { s.hub.SetBroadcastChunk(1) })
	var readers []*reader
	for i := range 10 {
		r := s.open(fmt.Sprint("user", i), "")
		r.expect("hello")
		readers = append(readers, r)
	}
	release := s.hub.PauseDelivery()
	for range 20 {
		s.notify(jobs.Everyone, "all")
	}
	s.stop()
	release()
	want := s.log("user0", 0)
	for _, r := range readers {
		got := ids(t, r.ended())
		same(t, "up to its end", got, want[:len(got)])
	}
}
