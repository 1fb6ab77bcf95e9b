package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/hark-jobs/hark/examples/from-scratch/faults"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/polltest"
)

// options have the processes of a program with one database.
func options(t *testing.T) faults.Options {
	path, out, work := filepath.Join(t.TempDir(), "messages.db"), new(logtest.Buffer), faults.NewWork()
	start := func(l net.Listener, track func(http.Handler) http.Handler) (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		s, err := newServer(ctx, path, log.New(out, "", 0), work.Do)
		if err != nil {
			t.Fatal(err)
		}
		end := faults.Serve(l, track(s))
		return func() {
			end()
			cancel()
			s.jobs.Wait()
			s.db.Close()
		}
	}
	return faults.Options{Start: start, Login: true, Log: out.String, Work: work}
}

// A report is made although the tab that asked for it was closed.
func TestTabCloses(t *testing.T) {
	faults.Repaired(t, faults.New(t, options(t)).TabCloses())
}

// A report is made although the process was restarted.
func TestDeploy(t *testing.T) {
	faults.Repaired(t, faults.New(t, options(t)).Deploy())
}

// A process wakes only the tabs that it has itself.
func TestTwoProcesses(t *testing.T) {
	o := options(t)
	o.Lacks = faults.UntilEnd
	faults.Shown(t, faults.New(t, o).TwoProcesses())
}

// A process that starts makes the reports that another one is making.
func TestJobTwice(t *testing.T) {
	o := options(t)
	o.Twice = func() {
		polltest.Until(t, "both processes make the report", func() bool { return o.Work.Runs() == 2 })
	}
	faults.Shown(t, faults.New(t, o).JobTwice())
}
