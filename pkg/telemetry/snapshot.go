package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxCredentials bounds the credentials that have series of their own. Beyond it
// they are in the totals by state only.
const maxCredentials = 20_000

var (
	readyDesc        = prometheus.NewDesc("purser_ready", "Whether everything that is required is in stock.", nil, nil)
	connectionsDesc  = prometheus.NewDesc("purser_connections", "Connections that the front ends have open.", nil, nil)
	unidentifiedDesc = prometheus.NewDesc("purser_unidentified_connections_total",
		"Connections whose caller could not be identified and so got what everyone gets.", nil, nil)
	credentialsDesc = prometheus.NewDesc("purser_credentials", "Credentials by state.", []string{"state"}, nil)
	stateDesc       = prometheus.NewDesc("purser_credential_state",
		"1 for the state that the credential is in; its other states have no series.",
		[]string{"credential", "variant", "upstream", "state"}, nil)
	expiryDesc = prometheus.NewDesc("purser_credential_expiry_seconds",
		"Seconds until the credential in stock expires, negative once it has; no series if it was never fetched or has no end.",
		[]string{"credential", "variant", "upstream"}, nil)
	skewDesc = prometheus.NewDesc("purser_upstream_skew_seconds",
		"How far the upstream's clock is ahead of ours.", []string{"upstream"}, nil)
	refusedDesc = prometheus.NewDesc("purser_sandbox_refused_calls_total",
		"System calls that the sandbox refused, by name; no series if there was none.", []string{"call"}, nil)
	failuresDesc = prometheus.NewDesc("purser_upstream_failures",
		"Attempts that failed since the last one that did not.", []string{"upstream"}, nil)
)

// snapshot collects what is asked for at each scrape.
type snapshot struct{ Options }

// Describe implements prometheus.Collector.
func (s *snapshot) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		readyDesc, connectionsDesc, unidentifiedDesc, credentialsDesc, stateDesc, expiryDesc, skewDesc, failuresDesc, refusedDesc,
	} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (s *snapshot) Collect(metrics chan<- prometheus.Metric) {
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		if metric, err := prometheus.NewConstMetric(desc, kind, value, labels...); err == nil {
			metrics <- metric
		}
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		send(desc, prometheus.GaugeValue, value, labels...)
	}
	ready := 0.0
	if ok, _ := s.Ready(); ok {
		ready = 1
	}
	gauge(readyDesc, ready)
	open, unidentified := s.Connections()
	gauge(connectionsDesc, float64(open))
	send(unidentifiedDesc, prometheus.CounterValue, float64(unidentified))
	for call, count := range s.Refused() {
		send(refusedDesc, prometheus.CounterValue, float64(count), call)
	}
	for _, u := range s.Upstreams() {
		gauge(skewDesc, u.Skew.Seconds(), u.Name)
		gauge(failuresDesc, float64(u.Failures), u.Name)
	}
	credentials := s.Credentials()
	counts := map[string]int{}
	for _, c := range credentials {
		counts[c.State]++
	}
	for _, state := range States {
		gauge(credentialsDesc, float64(counts[state]), state)
	}
	now := time.Now()
	for _, c := range credentials[:min(maxCredentials, len(credentials))] {
		gauge(stateDesc, 1, c.Name, c.Variant, c.Upstream, c.State)
		if !c.Expires.IsZero() {
			gauge(expiryDesc, c.Expires.Sub(now).Seconds(), c.Name, c.Variant, c.Upstream)
		}
	}
}
