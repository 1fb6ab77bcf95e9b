package sse_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/notifier/sse"
)

// BenchmarkPresence asks who listens to a topic with 5,000 users, one call after another and many at the same time.
func BenchmarkPresence(b *testing.B) {
	s := newSystem(b, ways[0], sse.Options{Exclusive: true})
	const users = 5000
	ctx, cancel := context.WithCancel(context.Background())
	var polls sync.WaitGroup
	defer polls.Wait()
	defer cancel()
	for i := range users {
		polls.Go(func() {
			for ctx.Err() == nil {
				_, _ = s.hub.Poll(ctx, sse.Poll{Subscriber: sse.Subscriber{User: fmt.Sprintf("user%d@example.com", i), Topics: []string{"room"}}, Wait: time.Hour})
			}
		})
	}
	for {
		p, err := s.hub.Presence(ctx, "room", "ana")
		if err == nil && p.Users == users {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	ask := func(b *testing.B) {
		if p, err := s.hub.Presence(ctx, "room", "ana"); err != nil || p.Users != users {
			b.Errorf("%d users, %v", p.Users, err)
		}
	}
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			ask(b)
		}
	})
	b.Run("many", func(b *testing.B) {
		b.SetParallelism(100)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				ask(b)
			}
		})
	})
}
