package sse

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// parallelShare is how many users or streams a goroutine of forEachParallel takes at a time, about a tenth of a
// millisecond of work.
const parallelShare = 16

// forEachParallel calls do for each element on up to GOMAXPROCS goroutines, and returns when all calls have returned.
// It is for writes to many sockets, which the kernel does on the core of the caller.
func forEachParallel[T any](all []T, do func(T)) {
	var taken atomic.Int64
	work := func() {
		for {
			end := int(taken.Add(parallelShare))
			if end-parallelShare >= len(all) {
				return
			}
			for _, one := range all[end-parallelShare : min(end, len(all))] {
				do(one)
			}
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (len(all)+parallelShare-1)/parallelShare) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}
