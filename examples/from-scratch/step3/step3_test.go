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

// A tab that does not read stops nobody.
func TestSlowTab(t *testing.T) {
	faults.Repaired(t, faults.New(t, faults.Options{Start: start}).SlowTab())
}

// A slow tab misses messages, and neither it nor the sender is notified.
func TestSlowTabMissesNothing(t *testing.T) {
	faults.Shown(t, faults.New(t, faults.Options{Start: start, Lacks: faults.UntilMark}).SlowTabMissesNothing())
}

// What is sent while no tab is open is lost.
func TestAway(t *testing.T) {
	faults.Shown(t, faults.New(t, faults.Options{Start: start, Lacks: faults.UntilMark}).Away())
}
