package main

import (
	"context"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/examples/from-scratch/faults"
	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/pgtest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	os.Exit(m.Run())
}

// program has the processes of a program with these options of hark.
func program(t *testing.T, o hark.Options) faults.Options {
	out, work := new(logtest.Buffer), faults.NewWork()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(out)
		}
	})
	o.Drain, o.Logger = time.Second, slog.New(slog.NewTextHandler(out, nil))
	start := func(l net.Listener, track func(http.Handler) http.Handler) (stop func()) {
		s, err := newServer(t.Context(), o, log.New(out, "", 0), work.Do)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.hark.Serve(ctx, l, track(s)) }()
		select {
		case <-s.hark.Ready():
		case err := <-ended:
			t.Fatal(err)
		}
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the program ended with %v", err)
			}
		}
	}
	return faults.Options{Start: start, Events: "/hark/v1/stream", Hello: true, Login: true, TCP: true, Log: out.String, Work: work}
}

// No fault of the seven programs is in this one.
func TestFaults(t *testing.T) {
	for name, play := range map[string]func(*faults.App) error{
		"SecondTab":            (*faults.App).SecondTab,
		"SlowTab":              (*faults.App).SlowTab,
		"SlowTabMissesNothing": (*faults.App).SlowTabMissesNothing,
		"Away":                 (*faults.App).Away,
		"Restart":              (*faults.App).Restart,
		"SimilarNames":         (*faults.App).SimilarNames,
		"Log":                  (*faults.App).Log,
		"TabCloses":            (*faults.App).TabCloses,
		"Deploy":               (*faults.App).Deploy,
	} {
		t.Run(name, func(t *testing.T) {
			faults.Repaired(t, play(faults.New(t, program(t, hark.Options{Data: t.TempDir()}))))
		})
	}
}

// Nor when two processes share NATS servers and a database.
func TestFaultsOfTwoProcesses(t *testing.T) {
	for name, play := range map[string]func(*faults.App) error{
		"TwoProcesses": (*faults.App).TwoProcesses,
		"JobTwice":     (*faults.App).JobTwice,
	} {
		t.Run(name, func(t *testing.T) {
			o := hark.Options{NATS: natstest.Connect(t)}
			o.Database.Value = pgtest.DSN(t)
			faults.Repaired(t, play(faults.New(t, program(t, o))))
		})
	}
}

// A user signs in, gets a message and the end of a report, and sees both again in another browser.
func TestPage(t *testing.T) {
	o := program(t, hark.Options{Data: t.TempDir()})
	o.Work.Finish()
	a := faults.New(t, o)
	tab := signIn(browsertest.New(t, browsertest.Options{}).Tab(a.URL()))
	tab.Shows("#status", "ana: live, 0 unread")
	a.Send("ana", "hello")
	tab.Shows("#messages", "Message from sender: hello")
	tab.Click("#report")
	tab.Shows("#messages", "Report is done")
	tab.Shows("#status", "2 unread")
	other := signIn(browsertest.New(t, browsertest.Options{}).Tab(a.URL()))
	other.Shows("#status", "ana: live, 2 unread")
	other.Shows("#messages", "Message from sender: hello")
	other.Click("#messages li")
	tab.Shows("#status", "1 unread")
}

func signIn(tab *browsertest.Tab) *browsertest.Tab {
	tab.Fill("[name=user]", "ana")
	tab.Click("#login button")
	return tab
}
