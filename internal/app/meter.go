package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// jobMeter counts attempts. It is a worker's observer, and a collector of Prometheus.
type jobMeter struct {
	running  *prometheus.GaugeVec
	attempts *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newJobMeter() *jobMeter {
	return &jobMeter{
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hark_jobs_running", Help: "Jobs that this worker runs, by kind.",
		}, []string{"kind"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hark_attempts_total", Help: "Attempts that ended, by kind and by the state of the job afterwards; lost if the lease was lost.",
		}, []string{"kind", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hark_attempt_seconds", Help: "How long attempts took, by kind.",
			Buckets: []float64{.01, .1, 1, 10, 60, 300, 1800, 7200},
		}, []string{"kind"}),
	}
}

// Started implements [worker.Observer].
func (m *jobMeter) Started(kind string) { m.running.WithLabelValues(kind).Inc() }

// Ended implements [worker.Observer].
func (m *jobMeter) Ended(kind, outcome string, took time.Duration) {
	m.running.WithLabelValues(kind).Dec()
	m.attempts.WithLabelValues(kind, outcome).Inc()
	m.seconds.WithLabelValues(kind).Observe(took.Seconds())
}

// Describe implements [prometheus.Collector].
func (m *jobMeter) Describe(ch chan<- *prometheus.Desc) {
	m.running.Describe(ch)
	m.attempts.Describe(ch)
	m.seconds.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (m *jobMeter) Collect(ch chan<- prometheus.Metric) {
	m.running.Collect(ch)
	m.attempts.Collect(ch)
	m.seconds.Collect(ch)
}
