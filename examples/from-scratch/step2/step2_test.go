package main

import (
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/examples/from-scratch/faults"
)

func start(l net.Listener, track func(http.Handler) http.Handler) (stop func()) {
	return faults.Serve(l, track(newServer()))
}

// All tabs of a user get their messages.
func TestSecondTab(t *testing.T) {
	faults.Repaired(t, faults.New(t, faults.Options{Start: start}).SecondTab())
}

// One tab that does not read stops the program for all users: send waits for that tab, and has the lock.
func TestSlowTab(t *testing.T) {
	var s *server
	start := func(l net.Listener, track func(http.Handler) http.Handler) (stop func()) {
		s = newServer()
		return faults.Serve(l, track(s))
	}
	stuck := func(sent int) bool {
		if sent == 0 || !waits("chan send", "(*server).send") {
			return false
		}
		free := s.mu.TryLock()
		if free {
			s.mu.Unlock()
		}
		return !free
	}
	faults.Shown(t, faults.New(t, faults.Options{Start: start, Stuck: stuck}).SlowTab())
}

// waits reports whether a goroutine waits for something in a function.
func waits(what, function string) bool {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if state, calls, _ := strings.Cut(stack, "\n"); strings.Contains(state, "["+what) && strings.Contains(calls, function) {
			return true
		}
	}
	return false
}
