package sse

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// parallelShare is the number of users that a goroutine of forEachParallel takes at a time, about a tenth of a
// millisecond of work.
const parallelShare = 16

// forEachParallel calls do for each user on up to GOMAXPROCS goroutines, and returns when all calls have returned.
// It is for writes to many sockets, which the kernel does on the core of the caller.
func forEachParallel(users []*userStreams, do func(*userStreams)) {
	var taken atomic.Int64
	work := func() {
		for {
			end := int(taken.Add(parallelShare))
			if end-parallelShare >= len(users) {
				return
			}
			for _, us := range users[end-parallelShare : min(end, len(users))] {
				do(us)
			}
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (len(users)+parallelShare-1)/parallelShare) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}
