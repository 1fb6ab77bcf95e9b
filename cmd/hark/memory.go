package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A process is quiet when it allocates less than quietBytes in a quietPeriod, and there is something to give back
// once it has allocated garbageBytes since it last did.
const (
	quietPeriod  = 2 * time.Second
	quietBytes   = 2 << 20
	garbageBytes = 16 << 20
)

// releaseIdleMemory returns the garbage of a burst of work to the operating system after the burst. The runtime alone keeps as
// much garbage as live memory for the next burst, so a notifier would hold twice the memory of its idle streams. It is in this
// command and not in package hark, because a process has one heap.
func releaseIdleMemory(ctx context.Context) {
	tick := time.NewTicker(quietPeriod)
	defer tick.Stop()
	allocated := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var last, given uint64 // what had been allocated at the last tick, and when memory was last given back
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(allocated)
		now := allocated[0].Value.Uint64()
		if now-last < quietBytes && now-given > garbageBytes {
			debug.FreeOSMemory()
			given = now
		}
		last = now
	}
}
