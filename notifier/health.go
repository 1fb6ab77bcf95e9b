package notifier

import (
	"context"
	_ "embed"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

//go:embed openapi.json
var openapiJSON []byte

func (n *Notifier) openapi(c *gin.Context) {
	c.Header("Access-Control-Allow-Origin", "*")
	c.Data(http.StatusOK, "application/json", openapiJSON)
}

// ready says which parts work. Without the queue nothing does. Without the inbox's database streams and
// jobs go on, so a balancer should go on sending them: the answer is 200, and says degraded.
func (n *Notifier) ready(c *gin.Context) {
	if n.draining.Load() {
		n.fail(c, errDraining)
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), 2*time.Second)
	defer cancel()
	inboxErr := n.inbox.Ping(ctx)
	_, queueErr := n.queue.CurrentEpoch(ctx)
	if queueErr == nil {
		queueErr = n.healthy()
	}
	if c.Request.Context().Err() != nil {
		return // who asked is gone, and the errors are of that
	}
	status, word := http.StatusOK, "ready"
	parts := map[string]string{"queue": "ok", "inbox": "ok"}
	if inboxErr != nil {
		word, parts["inbox"] = "degraded", "unavailable"
	}
	if queueErr != nil {
		status, word, parts["queue"] = http.StatusServiceUnavailable, "unavailable", "unavailable"
		c.Header("Retry-After", "2")
	}
	if before := n.readiness.Swap(&word); before != nil && *before != word || before == nil && word != "ready" {
		n.log.Warn("readiness changed", "now", word, "queue", queueErr, "inbox", inboxErr)
	}
	c.JSON(status, gin.H{"status": word, "parts": parts})
}

// meter counts a notifier's requests.
type meter struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMeter() meter {
	return meter{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hark_http_requests_total", Help: "Requests by route, method and status.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hark_http_request_seconds", Help: "How long requests took, by route; streams are left out.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}, []string{"route"}),
	}
}

func (n *Notifier) measure(c *gin.Context) {
	start := time.Now()
	c.Next()
	route := c.FullPath()
	if route == "" {
		route = "none"
	}
	n.meter.requests.WithLabelValues(route, methodLabel(c.Request.Method), strconv.Itoa(c.Writer.Status())).Inc()
	if route != "/v1/stream" {
		n.meter.seconds.WithLabelValues(route).Observe(time.Since(start).Seconds())
	}
}

// methodLabel keeps strangers from making a series of each word they think of.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

func (n *Notifier) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(n.meter.requests, n.meter.seconds,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hark_streams", Help: "Open event streams."},
			func() float64 { return float64(n.hub.Open()) }))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}
