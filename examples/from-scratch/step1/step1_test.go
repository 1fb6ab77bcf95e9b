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

// The second tab of a user takes the messages from the first.
func TestSecondTab(t *testing.T) {
	faults.Shown(t, faults.New(t, faults.Options{Start: start, Lacks: faults.UntilEnd}).SecondTab())
}
