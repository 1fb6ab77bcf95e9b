package inbox

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestThread compares the kernel's thread id in many calls, while other goroutines want to run.
func TestThread(t *testing.T) {
	th := startOSThread()
	defer th.stop()
	own := 0
	th.run(func() { own = unix.Gettid() })
	for range 100 {
		var at, other int
		th.run(func() {
			finished := make(chan struct{})
			go func() { other = unix.Gettid(); close(finished) }()
			<-finished // would give the thread up if it were not locked
			at = unix.Gettid()
		})
		if at != own || other == own {
			t.Fatalf("a call ran on thread %d, another goroutine on %d; the own one is %d", at, other, own)
		}
	}
}
