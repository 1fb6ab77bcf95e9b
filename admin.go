package hark

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/hark-jobs/hark/internal/door"
	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/internal/joblog"
)

// serveAdmin serves Go's profiles, the health checks, the metrics and, from serveSkipped on, skipped messages to operators, on a separate address. It is off by
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
	s.admin, s.adminMux = listener, mux
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

// serveSkipped adds the list of skipped messages to the listener of operators. It is not in the API: subjects name users, and the
// list is that of one process.
func (s *Server) serveSkipped() {
	if s.adminMux == nil {
		return
	}
	s.adminMux.HandleFunc("GET /skipped", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		list := s.store.ListSkipped()
		if list == nil {
			list = []joblog.SkippedMessage{}
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"skipped": list}); err != nil {
			s.log.Debug("the list of skipped messages was not sent", "err", err)
		}
	})
}
