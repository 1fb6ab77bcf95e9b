package inbox

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestThread looks at the kernel's number of the thread in each of many calls, while others would like to run there.
func TestThread(t *testing.T) {
	th := startThread()
	defer th.stop()
	own := 0
	th.do(func() { own = unix.Gettid() })
	for range 100 {
		var at, other int
		th.do(func() {
			finished := make(chan struct{})
			go func() { other = unix.Gettid(); close(finished) }()
			<-finished // gives the thread up, if it were not locked
			at = unix.Gettid()
		})
		if at != own || other == own {
			t.Fatalf("a call ran on thread %d, another goroutine on %d; the own one is %d", at, other, own)
		}
	}
}
