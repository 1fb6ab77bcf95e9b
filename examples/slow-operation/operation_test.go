package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/exampletest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	os.Exit(m.Run())
}

// start runs the application on a data folder until stop is called or the test ends. An operation takes a step for each value in gate.
func start(t *testing.T, data string, gate <-chan struct{}) (base string, stop func()) {
	t.Helper()
	step := func(ctx context.Context) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	o := options{data: data, step: step, log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	return exampletest.Run(t, "/hark/readyz", func(ctx context.Context, l net.Listener) error { return run(ctx, l, o) })
}

// allow lets operations take n steps. It does not block: no operation begins before the one before it has ended.
func allow(gate chan<- struct{}, n int) {
	for range n {
		gate <- struct{}{}
	}
}

// has fails the test unless a tab shows n jobs and n notifications once its nth operation has ended.
func has(t *testing.T, tab *browsertest.Tab, n int) {
	t.Helper()
	tab.Until(fmt.Sprintf("%d operations have ended", n), fmt.Sprintf(`Math.min(...["#notifications li", "#jobs li"].map((list) => document.querySelectorAll(list).length)) >= %d
		&& [...document.querySelectorAll("#jobs li")].every((li) => li.innerText === "Slow operation: succeeded, 10 of 10")`, n))
	if jobs, ends := browsertest.Eval[int](tab, `document.querySelectorAll("#jobs li").length`), browsertest.Eval[int](tab, `document.querySelectorAll("#notifications li").length`); jobs != n || ends != n {
		t.Errorf("the tab shows %d jobs and %d notifications, want %d of each", jobs, ends, n)
	}
}

// Two users get a ping at once. One starts an operation, sees its progress and its end, also in a tab that was opened after
// the first one was closed. The other sees neither.
func TestOperation(t *testing.T) {
	gate := make(chan struct{}, steps)
	base, _ := start(t, t.TempDir(), gate)
	browser := browsertest.New(t, browsertest.Options{})
	one, two := browser.Tab(base), browsertest.New(t, browsertest.Options{}).Tab(base)
	one.Shows("#ping", "ping")
	two.Shows("#ping", "ping")

	one.Click("#start")
	allow(gate, 3)
	one.Shows("#jobs", "Slow operation: running, 3 of 10")
	allow(gate, 7)
	has(t, one, 1)

	one.Click("#start")
	allow(gate, 4)
	one.Shows("#jobs", "Slow operation: running, 4 of 10")
	one.Close()
	allow(gate, 6)
	one = browser.Tab(base)
	has(t, one, 2)

	// The events of a stream are in the order of the log: what came to the wrong user would be there by the end of a later operation.
	two.Click("#start")
	allow(gate, 10)
	has(t, two, 1)
}

// An operation that was running when the program stopped begins again after the next start, and its user gets its end.
func TestRestart(t *testing.T) {
	gate, data := make(chan struct{}, steps), t.TempDir()
	base, stop := start(t, data, gate)
	browser := browsertest.New(t, browsertest.Options{})
	tab := browser.Tab(base)
	tab.Click("#start")
	allow(gate, 3)
	tab.Shows("#jobs", "Slow operation: running, 3 of 10")
	tab.Close()
	stop()
	base, _ = start(t, data, gate)
	allow(gate, steps)
	has(t, browser.Tab(base), 1)
}
