package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/hark-jobs/hark/internal/door"
	"github.com/hark-jobs/hark/internal/health"
)

// serveAdmin serves Go's profiles, the health checks and the metrics to those who run hark, on an address of their own. It
// is off by default.
func (a *App) serveAdmin(ctx context.Context) error {
	if a.config.Admin == "" {
		return nil
	}
	mux := http.NewServeMux()
	for path, profile := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	} {
		mux.Handle(path, profile) // they set their deadlines anew, if they are asked to take long
	}
	mux.Handle(health.Metrics, a.health)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", a.config.Admin)
	if err != nil {
		return &UserError{"listen_failed", fmt.Sprintf("hark cannot listen on %s for --admin: %v.", a.config.Admin, err)}
	}
	a.admin = listener
	guarded := localIfLoopback(listener, mux)
	server := door.NewServer(door.Options{Deadlines: a.config.Deadlines, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == health.Live || r.URL.Path == health.Ready {
			a.health.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})})
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("admin listener", "err", err)
		}
	}()
	a.onStop(func(context.Context) { server.Close() })
	return nil
}
