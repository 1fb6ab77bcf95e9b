package main

import (
	"net"
	"net/http"
	"testing"

	"github.com/hark-jobs/hark/examples/from-scratch/faults"
)

func start(l net.Listener, track func(http.Handler) http.Handler) (stop func()) {
	return faults.Serve(l, track(newServer()))
}

// A slow tab gets all messages.
func TestSlowTabMissesNothing(t *testing.T) {
	faults.Repaired(t, faults.New(t, faults.Options{Start: start}).SlowTabMissesNothing())
}

// A tab gets what was sent while it was away.
func TestAway(t *testing.T) {
	faults.Repaired(t, faults.New(t, faults.Options{Start: start}).Away())
}

// A restart loses the history, and the ids begin again: a tab does not even get what is sent afterwards.
func TestRestart(t *testing.T) {
	faults.Shown(t, faults.New(t, faults.Options{Start: start, Lacks: faults.UntilMark}).Restart())
}
