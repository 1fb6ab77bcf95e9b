package notifier

import (
	_ "embed"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
)

//go:embed openapi.json
var openapiJSON []byte

func (n *Notifier) openapi(c *gin.Context) {
	c.Header("Access-Control-Allow-Origin", "*")
	c.Data(http.StatusOK, "application/json", openapiJSON)
}

// meter counts a notifier's requests.
type meter struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  prometheus.GaugeFunc
}

// newMeter returns a meter; open says how many streams are open.
func newMeter(open func() int) meter {
	return meter{
		streams: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hark_streams", Help: "Open event streams."},
			func() float64 { return float64(open()) }),
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

// Describe implements [prometheus.Collector].
func (n *Notifier) Describe(ch chan<- *prometheus.Desc) {
	n.meter.requests.Describe(ch)
	n.meter.seconds.Describe(ch)
	n.meter.streams.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (n *Notifier) Collect(ch chan<- prometheus.Metric) {
	n.meter.requests.Collect(ch)
	n.meter.seconds.Collect(ch)
	n.meter.streams.Collect(ch)
}
