package inbox

import "runtime"

// osThread runs functions, one at a time, on an operating system thread of its own. It is for background work that uses a core for
// milliseconds without a break. On a shared thread that work would delay other goroutines: the kernel tends to put a woken thread
// on the core of the thread that wakes it, and leaves it waiting there, with its goroutines, while other cores are idle.
//
// Each call costs two thread switches, and so does each blocking operation in it.
type osThread struct {
	calls chan func()
	ended chan struct{}
}

func startOSThread() *osThread {
	t := &osThread{make(chan func()), make(chan struct{})}
	go func() {
		defer close(t.ended)
		runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
		for f := range t.calls {
			f()
		}
	}()
	return t
}

// run runs f on the thread, and blocks until f has returned.
func (t *osThread) run(f func()) {
	done := make(chan struct{})
	t.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}

// stop ends the thread, and blocks until its goroutine has ended. No run may be active or follow.
func (t *osThread) stop() {
	close(t.calls)
	<-t.ended
}
