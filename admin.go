package hark

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

// serveAdmin serves Go's profiles, the health checks and the metrics to operators, on a separate address. It is off by
// default.
func (s *Server) serveAdmin(ctx context.Context) error {
	if s.options.Admin == "" {
		return nil
	}
	mux := http.NewServeMux()
	for path, profile := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	} {
		mux.Handle(path, profile) // profiles extend their own deadlines
	}
	mux.Handle(health.Metrics, s.health)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.options.Admin)
	if err != nil {
		return &Error{Code: "listen_failed", Message: fmt.Sprintf("hark cannot listen on %s for Options.Admin: %v.", s.options.Admin, err)}
	}
	s.admin = listener
	guarded := localIfLoopback(listener, mux)
	server := door.NewServer(door.Options{Logger: s.log, Deadlines: door.Deadlines(s.options.Deadlines), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == health.Live || r.URL.Path == health.Ready {
			s.health.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})})
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("admin listener", "err", err)
		}
	}()
	s.onStop(func(context.Context) { server.Close() })
	return nil
}
