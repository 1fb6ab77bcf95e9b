package inbox

import "runtime"

// thread runs functions, one at a time, on a thread of the operating system of its own. What takes milliseconds of a
// core at a stretch, and nobody waits for, belongs there. On a thread that is shared, what stood behind it would
// wait: the kernel likes to put a thread that is woken where the one runs that wakes it, and to leave it waiting
// there, with its goroutines, while other cores are idle.
//
// Each call costs two switches of threads, and so does whatever blocks in it.
type thread struct {
	calls chan func()
	ended chan struct{}
}

func startThread() *thread {
	t := &thread{make(chan func()), make(chan struct{})}
	go func() {
		defer close(t.ended)
		runtime.LockOSThread() // never unlocked: nobody else gets the thread
		for f := range t.calls {
			f()
		}
	}()
	return t
}

// do blocks until f has returned.
func (t *thread) do(f func()) {
	done := make(chan struct{})
	t.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}

// stop ends the thread, and blocks until it takes no more calls.
func (t *thread) stop() {
	close(t.calls)
	<-t.ended
}
