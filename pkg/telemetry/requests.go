package telemetry

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxRequests bounds the combinations of labels. All dialects together have a
// fraction of it; what comes beyond is counted as "other", so that a route which is
// no pattern after all cannot eat the memory.
const maxRequests = 1000

const other = "other"

// A request is one combination of labels.
type request struct {
	dialect, route string
	code           int
	decision       string
}

// requestMetric is where requests of one combination are counted.
type requestMetric struct {
	count    prometheus.Counter
	duration prometheus.Observer
}

// requestMetrics finds the metric of a request by one look at an immutable map: the
// vectors' own look-ups hash every label under a lock.
type requestMetrics struct {
	counters  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	known     atomic.Pointer[map[request]requestMetric]
	adding    sync.Mutex // serialises writers of known
}

func newRequestMetrics() *requestMetrics {
	m := &requestMetrics{
		counters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_requests_total",
			Help: "Requests to the front ends, by dialect, route, HTTP status and decision.",
		}, []string{"dialect", "route", "code", "decision"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "purser_request_duration_seconds",
			Help:    "How long Purser took to answer requests to the front ends, by dialect.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .005, .025, .1, .5, 2.5},
		}, []string{"dialect"}),
	}
	m.known.Store(&map[request]requestMetric{})
	return m
}

func (m *requestMetrics) get(r request) requestMetric {
	if metric, ok := (*m.known.Load())[r]; ok {
		return metric
	}
	return m.add(r)
}

func (m *requestMetrics) add(r request) requestMetric {
	m.adding.Lock()
	defer m.adding.Unlock()
	known := *m.known.Load()
	if metric, ok := known[r]; ok {
		return metric
	}
	if len(known) >= maxRequests {
		return m.others()
	}
	code := other
	if r.code >= 100 && r.code <= 599 {
		code = strconv.Itoa(r.code)
	}
	count, err := m.counters.GetMetricWithLabelValues(r.dialect, r.route, code, r.decision)
	if err != nil { // a label that is not UTF-8
		return m.others()
	}
	metric := requestMetric{count, m.durations.WithLabelValues(r.dialect)}
	next := maps.Clone(known)
	next[r] = metric
	m.known.Store(&next)
	return metric
}

func (m *requestMetrics) others() requestMetric {
	return requestMetric{m.counters.WithLabelValues(other, other, other, other), m.durations.WithLabelValues(other)}
}
