package sse

import (
	"sync/atomic"
	"testing"
)

// Each user is served once, for any number of users.
func TestForEachParallel(t *testing.T) {
	for _, n := range []int{0, 1, parallelShare - 1, parallelShare, parallelShare + 1, 1000} {
		users := make([]*userStreams, n)
		for i := range users {
			users[i] = new(userStreams)
		}
		var calls atomic.Int64
		forEachParallel(users, func(us *userStreams) { calls.Add(1); us.nextBroadcast++ })
		if calls.Load() != int64(n) {
			t.Errorf("%d calls for %d feeds", calls.Load(), n)
		}
		for i, us := range users {
			if us.nextBroadcast != 1 {
				t.Errorf("feed %d of %d was served %d times", i, n, us.nextBroadcast)
			}
		}
	}
}
