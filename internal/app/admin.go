package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// serveAdmin serves Go's profiles to those who run hark, on an address of their own. It is off by default.
func (a *App) serveAdmin(ctx context.Context) error {
	if a.config.Admin == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", a.config.Admin)
	if err != nil {
		return &UserError{"listen_failed", fmt.Sprintf("hark cannot listen on %s for --admin: %v.", a.config.Admin, err)}
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("admin listener", "err", err)
		}
	}()
	a.onStop(func(context.Context) { server.Close() })
	return nil
}
