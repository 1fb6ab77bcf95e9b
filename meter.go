package hark

import (
	"cmp"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
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
func (m *jobMeter) Started(job *jobs.Job) { m.running.WithLabelValues(job.Kind).Inc() }

// Ended implements [worker.Observer].
func (m *jobMeter) Ended(job *jobs.Job, end worker.End) {
	m.running.WithLabelValues(job.Kind).Dec()
	m.attempts.WithLabelValues(job.Kind, cmp.Or(string(end.State), "lost")).Inc()
	m.seconds.WithLabelValues(job.Kind).Observe(end.Took.Seconds())
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

// skipMeter tells how many messages were skipped, as a collector of Prometheus.
type skipMeter struct{ queue *joblog.Store }

var skipped = prometheus.NewDesc("hark_log_messages_skipped_total",
	"Messages that were skipped because hark cannot have written them, each once, by what they were taken for.", []string{"what"}, nil)

// Describe implements [prometheus.Collector].
func (skipMeter) Describe(ch chan<- *prometheus.Desc) { ch <- skipped }

// Collect implements [prometheus.Collector].
func (m skipMeter) Collect(ch chan<- prometheus.Metric) {
	for what, n := range m.queue.Skipped() {
		ch <- prometheus.MustNewConstMetric(skipped, prometheus.CounterValue, float64(n), string(what))
	}
}
