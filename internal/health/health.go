// Package health answers the health checks of a process, and serves its metrics, from its first moment:
//
//	/livez    200 while the process runs
//	/readyz   200 when it does its work, 503 when it does not: while it starts, when a part fails, while it stops
//	/metrics  for Prometheus
//
// A balancer should ask /readyz?exclude=nats&exclude=queue&exclude=worker: what all processes share fails for all of them at once, and
// to send requests to none of them would make that worse. They still answer what they can.
package health

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// checkTime is how long all checks of one answer may take together.
const checkTime = 2 * time.Second

// retryAfter is when to ask again, in seconds.
const retryAfter = 2

// Check finds out whether a part of the process works.
type Check struct {
	// Part names the part in the answer.
	Part string
	// Optional parts are those without which the process is degraded, but ready.
	Optional bool
	// Check returns why the part does not work, nil if it does. It ends with its context. The error goes to the log.
	Check func(context.Context) error
	// Public says what of an error may be seen by anybody who can reach the address. Nil shows "unavailable" alone.
	Public func(error) string
}

// The phases of a process, as its answer names them.
const (
	starting = "starting"
	running  = "" // the checks say more
	stopping = "shutting_down"
)

// Health is the health of one process. It is safe for concurrent use.
type Health struct {
	log      *slog.Logger
	registry *prometheus.Registry
	mux      *http.ServeMux

	mu      sync.Mutex
	checks  []Check
	phase   string
	waiting string // for what, while starting
	last    string // status that was answered last, for the log to say only what has changed
}

// New returns the Health of a process that starts.
func New(log *slog.Logger, version string) *Health {
	h := &Health{log: log.With("part", "health"), registry: prometheus.NewRegistry(), mux: http.NewServeMux(), phase: starting, last: starting}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hark_build_info", Help: "1, with the version as a label.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	h.registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h.mux.HandleFunc("GET "+Live, h.live)
	h.mux.HandleFunc("GET "+Ready, h.ready)
	h.mux.Handle("GET "+Metrics, promhttp.HandlerFor(h.registry, promhttp.HandlerOpts{}))
	return h
}

// Add adds a check.
func (h *Health) Add(c Check) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, c)
}

// Register adds metrics.
func (h *Health) Register(cs ...prometheus.Collector) { h.registry.MustRegister(cs...) }

// Waiting says what the start waits for, in words that anybody may see. The process is starting until [Health.Started].
func (h *Health) Waiting(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = what
}

// Started says that all parts were started: from here on the checks decide.
func (h *Health) Started() { h.enter(running) }

// Stopping says that the process is about to stop, and takes nothing new.
func (h *Health) Stopping() { h.enter(stopping) }

func (h *Health) enter(phase string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase != stopping {
		h.phase, h.waiting = phase, ""
	}
}

// The paths that ServeHTTP answers.
const (
	Live    = "/livez"
	Ready   = "/readyz"
	Metrics = "/metrics"
)

// Answers reports whether the path is one that ServeHTTP answers.
func Answers(path string) bool { return path == Live || path == Ready || path == Metrics }

// ServeHTTP implements [http.Handler].
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	h.mux.ServeHTTP(w, r)
}

func (h *Health) live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// readiness is the answer of /readyz.
type readiness struct {
	Status     string            `json:"status"`
	Parts      map[string]string `json:"parts,omitempty"`
	WaitingFor string            `json:"waiting_for,omitempty"`
}

func (h *Health) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTime)
	defer cancel()
	answer, errs := h.examine(ctx, r.URL.Query()["exclude"])
	if r.Context().Err() != nil {
		return // the client is gone, and the errors are of that
	}
	if !r.URL.Query().Has("exclude") { // otherwise two kinds of callers would seem to be changes
		h.report(answer.Status, errs)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		h.log.Error("readiness not encoded", "err", err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if answer.Status != "ready" && answer.Status != "degraded" {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(body)
}

// examine runs all checks but those of excluded parts, at once. The errors are for the log, as its arguments.
func (h *Health) examine(ctx context.Context, excluded []string) (answer readiness, errs []any) {
	h.mu.Lock()
	checks, phase, waiting := slices.Clone(h.checks), h.phase, h.waiting
	h.mu.Unlock()
	checks = slices.DeleteFunc(checks, func(c Check) bool { return slices.Contains(excluded, c.Part) })
	if phase != running {
		return readiness{Status: phase, WaitingFor: waiting}, nil
	}
	results := make([]error, len(checks))
	var done sync.WaitGroup
	for i, c := range checks {
		done.Go(func() { results[i] = c.Check(ctx) })
	}
	done.Wait()
	answer = readiness{Status: "ready", Parts: make(map[string]string, len(checks))}
	for i, c := range checks {
		answer.Parts[c.Part] = "ok"
		if results[i] == nil {
			continue
		}
		errs = append(errs, c.Part, results[i])
		answer.Parts[c.Part] = "unavailable"
		if c.Public != nil {
			answer.Parts[c.Part] = c.Public(results[i])
		}
		switch {
		case !c.Optional:
			answer.Status = "unavailable"
		case answer.Status == "ready":
			answer.Status = "degraded"
		}
	}
	return answer, errs
}

// report logs a status that is not the one before.
func (h *Health) report(status string, errs []any) {
	h.mu.Lock()
	changed := h.last != status
	h.last = status
	h.mu.Unlock()
	switch {
	case !changed:
	case status == "ready" || status == stopping:
		h.log.Info("readiness changed", "now", status)
	default:
		h.log.Warn("readiness changed", append([]any{"now", status}, errs...)...)
	}
}
