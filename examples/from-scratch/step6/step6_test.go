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
	path, out, work := filepath.Join(t.TempDir(), "messages.db"), new(logtest.Buffer), faults.NewWork()
	start := func(l net.Listener, track func(http.Handler) http.Handler) (stop func()) {
		s, err := newServer(path, log.New(out, "", 0), work.Do)
		if err != nil {
			t.Fatal(err)
		}
		end := faults.Serve(l, track(s))
		return func() {
			end()
			s.db.Close()
		}
	}
	return faults.Options{Start: start, Login: true, Log: out.String, Work: work}
}

// Each user gets their own messages.
func TestSimilarNames(t *testing.T) {
	faults.Repaired(t, faults.New(t, options(t)).SimilarNames())
}

// The log has no token.
func TestLog(t *testing.T) {
	faults.Repaired(t, faults.New(t, options(t)).Log())
}

// A report ends with the tab that asked for it.
func TestTabCloses(t *testing.T) {
	o := options(t)
	o.Lacks = faults.UntilMark
	faults.Shown(t, faults.New(t, o).TabCloses())
}

// A report ends with the process, and nothing begins it again.
func TestDeploy(t *testing.T) {
	o := options(t)
	o.Lacks = faults.UntilMark
	faults.Shown(t, faults.New(t, o).Deploy())
}
