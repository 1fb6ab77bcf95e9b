package sse

import (
	"sync/atomic"
	"testing"
)

// Each feed is served once, however many there are.
func TestTogether(t *testing.T) {
	for _, n := range []int{0, 1, togetherShare - 1, togetherShare, togetherShare + 1, 1000} {
		feeds := make([]*feed, n)
		for i := range feeds {
			feeds[i] = new(feed)
		}
		var calls atomic.Int64
		together(feeds, func(f *feed) { calls.Add(1); f.broadcasts++ })
		if calls.Load() != int64(n) {
			t.Errorf("%d calls for %d feeds", calls.Load(), n)
		}
		for i, f := range feeds {
			if f.broadcasts != 1 {
				t.Errorf("feed %d of %d was served %d times", i, n, f.broadcasts)
			}
		}
	}
}
