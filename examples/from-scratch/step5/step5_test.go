package main

import (
	"log"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/hark-jobs/hark/examples/from-scratch/faults"
	"github.com/hark-jobs/hark/internal/logtest"
)

// options have the processes of a program with one database.
func options(t *testing.T) faults.Options {
	path, out := filepath.Join(t.TempDir(), "messages.db"), new(logtest.Buffer)
	start := func(l net.Listener, track func(http.Handler) http.Handler) (stop func()) {
		s, err := newServer(path, log.New(out, "", 0))
		if err != nil {
			t.Fatal(err)
		}
		end := faults.Serve(l, track(s))
		return func() {
			end()
			s.db.Close()
		}
	}
	return faults.Options{Start: start, Login: true, Log: out.String}
}

// A tab gets what was sent before a restart and after it.
func TestRestart(t *testing.T) {
	faults.Repaired(t, faults.New(t, options(t)).Restart())
}

// a@b.c gets the messages for aa@b.c.
func TestSimilarNames(t *testing.T) {
	faults.Shown(t, faults.New(t, options(t)).SimilarNames())
}

// With the log of the program anybody can be any user.
func TestLog(t *testing.T) {
	faults.Shown(t, faults.New(t, options(t)).Log())
}
