// Package health serves the health checks and the metrics of a process, from its start:
//
//	/livez    200 while the process runs
//	/readyz   200 when it works, 503 when it does not: while it starts, when a part fails, while it stops
//	/metrics  for Prometheus
//
// A load balancer should use /readyz?exclude=nats&exclude=queue&exclude=worker. Parts that all processes share fail for all of them
// at the same time. Sending requests to none of them would make that worse, since they can still serve some requests.
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

// checkTime is the timeout of all checks of a response.
const checkTime = 2 * time.Second

// retryAfter is the value of Retry-After, in seconds.
const retryAfter = 2

// Check checks whether a part of the process works.
type Check struct {
	// Part is the name of the part in the response.
	Part string
	// Optional says that without the part the process is degraded, but ready.
	Optional bool
	// Check returns why the part does not work, nil if it does. It must return when its context ends. The error is logged.
	Check func(context.Context) error
	// Public returns the public text for an error. Defaults to "unavailable".
	Public func(error) string
}

// The phases of a process, by their names in the response.
const (
	starting = "starting"
	running  = "" // the checks decide
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
	waiting string // what the starting process waits for
	last    string // the last status, since only changes are logged
}

// New returns the Health of a starting process.
func New(log *slog.Logger, version string) *Health {
	h := &Health{log: log.With("part", "health"), registry: prometheus.NewRegistry(), mux: http.NewServeMux(), phase: starting, last: starting}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hark_build_info", Help: "1, with the version as a label.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	h.registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h.mux.HandleFunc("GET "+Live, h.ServeLive)
	h.mux.HandleFunc("GET "+Ready, h.ServeReady)
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

// Waiting sets what the start waits for, as a public text. The process is starting until [Health.Started].
func (h *Health) Waiting(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = what
}

// Started says that all parts were started. From now on the checks decide.
func (h *Health) Started() { h.enter(running) }

// Stopping says that the process is about to stop. It stays in this phase.
func (h *Health) Stopping() { h.enter(stopping) }

func (h *Health) enter(phase string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase != stopping {
		h.phase, h.waiting = phase, ""
	}
}

// The paths of ServeHTTP.
const (
	Live    = "/livez"
	Ready   = "/readyz"
	Metrics = "/metrics"
)

// Answers reports whether ServeHTTP serves a path.
func Answers(path string) bool { return path == Live || path == Ready || path == Metrics }

// ServeHTTP implements [http.Handler].
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	prepare(w)
	h.mux.ServeHTTP(w, r)
}

func prepare(w http.ResponseWriter) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
}

// ServeLive answers /livez, whatever the path of the request is.
func (h *Health) ServeLive(w http.ResponseWriter, _ *http.Request) {
	prepare(w)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// readiness is the response of /readyz.
type readiness struct {
	Status     string            `json:"status"`
	Parts      map[string]string `json:"parts,omitempty"`
	WaitingFor string            `json:"waiting_for,omitempty"`
}

// ServeReady answers /readyz, whatever the path of the request is.
func (h *Health) ServeReady(w http.ResponseWriter, r *http.Request) {
	prepare(w)
	ctx, cancel := context.WithTimeout(r.Context(), checkTime)
	defer cancel()
	answer, errs := h.examine(ctx, r.URL.Query()["exclude"])
	if r.Context().Err() != nil {
		return // the client has disconnected, which ends the checks
	}
	if !r.URL.Query().Has("exclude") { // callers with different queries would look like changes
		h.report(answer.Status, errs)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		h.log.Error("encoding the readiness failed", "err", err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if answer.Status != "ready" && answer.Status != "degraded" {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(body)
}

// examine runs all checks except those of excluded parts, concurrently. errs are arguments for the log.
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

// report logs a changed status.
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
