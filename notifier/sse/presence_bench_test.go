package sse_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hark-jobs/hark/notifier/sse"
)

// BenchmarkPresence asks who listens to a topic with 5,000 users, one call after another and many at the same time.
func BenchmarkPresence(b *testing.B) {
	s := newSystem(b, ways[0], sse.Options{Exclusive: true, PollIdle: time.Hour})
	const users = 5000
	ctx := context.Background()
	for i := range users { // streams whose readers poll stay without one
		_, err := s.hub.Poll(ctx, sse.Poll{Subscriber: sse.Subscriber{User: fmt.Sprintf("user%d@example.com", i), Topics: []string{"room"}}})
		if err != nil {
			b.Fatal(err)
		}
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
