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
	skipped  prometheus.CounterFunc
}

// newMeter returns a meter. open returns the number of open streams, and skipped the number of messages that were not
// sent to them.
func newMeter(open func() int, skipped func() uint64) meter {
	return meter{
		skipped: prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "hark_stream_skipped_total", Help: "Messages of the log that were not sent to streams, because they are too large or malformed.",
		}, func() float64 { return float64(skipped()) }),
		streams: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hark_streams", Help: "Open event streams, and streams that are polled."},
			func() float64 { return float64(open()) }),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hark_http_requests_total", Help: "Requests by route, method and status.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hark_http_request_seconds", Help: "Duration of requests in seconds by route, without streams and polls.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}, []string{"route"}),
	}
}

// measure counts a request, and measures its duration except for streams and polls.
func (m *mount) measure(c *gin.Context) {
	start := time.Now()
	c.Next()
	route := m.route(c)
	if route == "" {
		route = "none"
	}
	m.meter.requests.WithLabelValues(route, methodLabel(c.Request.Method), strconv.Itoa(c.Writer.Status())).Inc()
	if route != "/v1/stream" && route != "/v1/events" {
		m.meter.seconds.WithLabelValues(route).Observe(time.Since(start).Seconds())
	}
}

// methodLabel returns other for unusual methods. Without that any client could create any number of series.
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
	n.meter.skipped.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (n *Notifier) Collect(ch chan<- prometheus.Metric) {
	n.meter.requests.Collect(ch)
	n.meter.seconds.Collect(ch)
	n.meter.streams.Collect(ch)
	n.meter.skipped.Collect(ch)
}
