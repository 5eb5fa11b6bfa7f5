// Package telemetry serves Prometheus metrics at /metrics and the health checks
// /healthz and /readyz, on an address of its own and never on one that hands out
// credentials. Names and states are shown there, secrets are not.
//
// It counts what it is told (requests, refreshes, reloads) and asks for the rest at
// each scrape. What the states mean and when Purser is ready is decided elsewhere;
// systemd and the operators' commands are served by pkg/status.
package telemetry

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
)

// Options are what a Telemetry asks at each scrape or check. The functions are
// called concurrently and must not wait.
type Options struct {
	// Version is the release, for purser_build_info.
	Version string
	// Ready reports whether Purser is ready, and names what is missing if not.
	Ready func() (ready bool, missing []string)
	// Alive reports whether the refresher makes progress.
	Alive func() bool
	// Connections counts the connections to front ends: those open now, and those
	// since the start whose caller could not be identified.
	Connections func() (open, unidentified int64)
	// Credentials lists all credentials, and Upstreams all upstreams.
	Credentials func() []Credential
	Upstreams   func() []Upstream
	// Refused counts the system calls that the sandbox refused, by name.
	Refused func() map[string]uint64
	Log     zerolog.Logger
}

// A Credential is what metrics show of one.
type Credential struct {
	Name     string
	Variant  string
	Upstream string
	// State is one of States; anything else is counted under no state.
	State string
	// Expires is the zero time for a credential that was never fetched or has no end.
	Expires time.Time
}

// An Upstream is what metrics show of one.
type Upstream struct {
	Name string
	// Skew is how far its clock is ahead of ours.
	Skew time.Duration
	// Failures counts the attempts that failed since the last one that did not.
	Failures int
}

// States are the states of a credential that metrics tell apart.
var States = []string{"none", "fresh", "due", "expiring", "expired", "withdrawn"}

// A Telemetry counts. All methods are safe for concurrent use.
type Telemetry struct {
	options   Options
	registry  *prometheus.Registry
	requests  *requestMetrics
	refreshes *prometheus.CounterVec
	durations *prometheus.HistogramVec
	reloads   *prometheus.CounterVec
}

// New returns a Telemetry with a registry of its own, which holds the metrics of
// the Go runtime and the process as well.
func New(options Options) *Telemetry {
	t := &Telemetry{
		options:  options,
		registry: prometheus.NewRegistry(),
		requests: newRequestMetrics(),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_refresh_total",
			Help: "Attempts to ask for a credential or a list, by upstream and class of the outcome.",
		}, []string{"upstream", "class"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "purser_refresh_duration_seconds",
			Help:    "How long attempts to ask for a credential or a list took, by upstream and class of the outcome.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"upstream", "class"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_reload_total",
			Help: "Attempts to take over a changed configuration, by outcome.",
		}, []string{"outcome"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "purser_build_info",
		Help:        "Always 1; the labels say which Purser runs.",
		ConstLabels: prometheus.Labels{"version": options.Version, "goversion": runtime.Version()},
	})
	build.Set(1)
	// Alerts on a rate need the zero before the first failure.
	t.reloads.WithLabelValues(outcomeOK)
	t.reloads.WithLabelValues(outcomeFailed)
	t.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		t.requests.counters, t.requests.durations, t.refreshes, t.durations, t.reloads, build,
		&snapshot{options},
	)
	return t
}

const (
	outcomeOK     = "ok"
	outcomeFailed = "failed"
)

// Requested counts a request to a front end. route is a pattern and never what the
// client sent. For combinations seen before it neither locks nor allocates.
func (t *Telemetry) Requested(dialect, route string, code int, decision string, took time.Duration) {
	m := t.requests.get(request{dialect, route, code, decision})
	m.count.Inc()
	m.duration.Observe(took.Seconds())
}

// Refreshed counts an attempt to ask an upstream for a credential or a list. class is "ok" or a kind of
// failure, out of a small set.
func (t *Telemetry) Refreshed(upstream, class string, took time.Duration) {
	t.refreshes.WithLabelValues(upstream, class).Inc()
	t.durations.WithLabelValues(upstream, class).Observe(took.Seconds())
}

// Forget drops what was counted for an upstream that a reload took away.
func (t *Telemetry) Forget(upstream string) {
	labels := prometheus.Labels{"upstream": upstream}
	t.refreshes.DeletePartialMatch(labels)
	t.durations.DeletePartialMatch(labels)
}

// Reloaded counts an attempt to take over a changed configuration.
func (t *Telemetry) Reloaded(err error) {
	outcome := outcomeOK
	if err != nil {
		outcome = outcomeFailed
	}
	t.reloads.WithLabelValues(outcome).Inc()
}
