package sse

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// togetherShare is how many feeds a goroutine of [together] takes at a time: what a tenth of a millisecond is for.
const togetherShare = 16

// together calls do for each of the feeds, on as many goroutines as can run at a time, and returns when all calls have.
// It is for writing to many sockets, which is the kernel's work and is done on the caller's core.
func together(feeds []*feed, do func(*feed)) {
	var taken atomic.Int64
	work := func() {
		for {
			end := int(taken.Add(togetherShare))
			if end-togetherShare >= len(feeds) {
				return
			}
			for _, f := range feeds[end-togetherShare : min(end, len(feeds))] {
				do(f)
			}
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (len(feeds)+togetherShare-1)/togetherShare) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}
