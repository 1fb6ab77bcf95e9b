// Package exampletest runs the example programs in their tests.
package exampletest

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/hark-jobs/hark/internal/polltest"
)

// Run runs a program on a free port, until stop is called or the test ends. It returns its URL once the path ready is answered with
// 200. The program must end without an error.
func Run(t *testing.T, ready string, run func(context.Context, net.Listener) error) (base string, stop func()) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, listener) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the program ended with %v", err)
		}
	})
	t.Cleanup(stop)
	base = "http://" + listener.Addr().String()
	polltest.Until(t, "the program is ready", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), "GET", base+ready, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode == http.StatusOK
	})
	return base, stop
}
