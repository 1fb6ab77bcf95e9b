package hark_test

import (
	"context"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"github.com/hark-jobs/hark"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	goleak.VerifyTestMain(m)
}

// start runs a server until the test ends, or stop is called, and returns it when it is ready.
func start(t *testing.T, options hark.Options) (srv *hark.Server, stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	srv, err := hark.New(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	return srv, run(t, srv)
}

// run runs a server until the test ends, or stop is called, and returns when it is ready.
func run(t *testing.T, srv *hark.Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	select {
	case <-srv.Ready():
	case err := <-ended:
		cancel()
		t.Fatalf("Run: %v", err)
	}
	t.Cleanup(stop)
	return stop
}
