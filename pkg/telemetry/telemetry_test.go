package telemetry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/testkit"
)

// options are those of a Purser with one credential in each state.
func options(t testing.TB) Options {
	var credentials []Credential
	for i, state := range States {
		c := Credential{Name: "role_" + state, Upstream: "datacenter", State: state}
		if state != "none" {
			c.Expires = time.Now().Add(time.Duration(i*20-70) * -time.Minute)
		}
		credentials = append(credentials, c)
	}
	credentials[1].Variant = "api://app"
	return Options{
		Version:     "1.2.3",
		Ready:       func() (bool, []string) { return true, nil },
		Alive:       func() bool { return true },
		Connections: func() (int64, int64) { return 7, 1 },
		Credentials: func() []Credential { return credentials },
		Upstreams: func() []Upstream {
			return []Upstream{{Name: "datacenter", Skew: -3 * time.Second, Failures: 2}}
		},
		Refused: func() map[string]uint64 { return map[string]uint64{"inotify_init1": 3} },
		Log:     zerolog.New(t.Output()),
	}
}

func get(handler http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// ours returns the lines of a scrape about metrics that start with purser_.
func ours(scrape string) string {
	var b strings.Builder
	for line := range strings.Lines(scrape) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "purser_") {
			b.WriteString(line)
		}
	}
	return strings.ReplaceAll(b.String(), runtime.Version(), "GOVERSION")
}

func TestMetricsShowWhatWasCountedAndWhatIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel := New(options(t))
		tel.Requested("aws", "/{version}/meta-data/", 200, "listed", 70*time.Microsecond)
		tel.Requested("aws", "/{version}/meta-data/", 200, "listed", 70*time.Microsecond)
		tel.Requested("ecs", "/v1/credentials", 401, "unauthorized", 70*time.Microsecond)
		tel.Refreshed("datacenter", "ok", 30*time.Millisecond)
		tel.Refreshed("datacenter", "timeout", 15*time.Second)
		tel.Reloaded(nil)
		tel.Reloaded(errors.New("no"))
		response := get(tel.Handler(), "/metrics")
		if response.Code != http.StatusOK {
			t.Fatalf("status = %d, want 200", response.Code)
		}
		testkit.Golden(t, "metrics.txt", ours(response.Body.String()))
		for _, want := range []string{"go_goroutines ", "process_start_time_seconds "} {
			if !strings.Contains(response.Body.String(), "\n"+want) {
				t.Errorf("the metrics lack %s", want)
			}
		}
	})
}

func TestMetricNamesAndHelpAreClean(t *testing.T) {
	tel := New(options(t))
	tel.Requested("aws", "/", 200, "listed", 70*time.Microsecond)
	tel.Refreshed("datacenter", "ok", time.Second)
	families, err := tel.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "purser_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if len(families) < 20 {
		t.Errorf("%d metrics were linted, want at least 20", len(families))
	}
}

func TestCountingARequestSeenBeforeDoesNotAllocate(t *testing.T) {
	tel := New(options(t))
	count := func() { tel.Requested("aws", "/{version}/meta-data/", 200, "listed", 70*time.Microsecond) }
	count()
	if got := testing.AllocsPerRun(1000, count); got != 0 {
		t.Errorf("%v allocations per request, want 0", got)
	}
}

func TestRequestsAreAllCountedByManyAtOnce(t *testing.T) {
	tel := New(options(t))
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := range 1000 {
				tel.Requested("aws", fmt.Sprintf("/%d", i%50), 200, "served", 70*time.Microsecond)
			}
		})
	}
	clients.Wait()
	if got := total(t, tel.requests.counters); got != 8000 {
		t.Errorf("%v requests were counted, want 8000", got)
	}
	if got := len(series(t, tel.requests.counters)); got != 50 {
		t.Errorf("%d series, want 50", got)
	}
}

// series gathers what one collector has.
func series(t *testing.T, c prometheus.Collector) (all []*dto.Metric) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		all = append(all, family.GetMetric()...)
	}
	return all
}

// total sums a counter over all labels.
func total(t *testing.T, c prometheus.Collector) (sum float64) {
	t.Helper()
	for _, metric := range series(t, c) {
		sum += metric.GetCounter().GetValue()
	}
	return sum
}

func TestSeriesOfRequestsAreBounded(t *testing.T) {
	tel := New(options(t))
	const sent = maxRequests + 500
	for i := range sent {
		tel.Requested("aws", fmt.Sprintf("/%d", i), 200, "served", 70*time.Microsecond)
	}
	if got, want := len(series(t, tel.requests.counters)), maxRequests+1; got != want {
		t.Errorf("%d series, want %d", got, want)
	}
	other := tel.requests.counters.WithLabelValues("other", "other", "other", "other")
	if got := total(t, other); got != 500 {
		t.Errorf("%v requests counted as other, want 500", got)
	}
}

func TestLabelsThatMakeNoSenseCountAsOther(t *testing.T) {
	tel := New(options(t))
	tel.Requested("aws", "\xff", 200, "served", 70*time.Microsecond)
	tel.Requested("aws", "/", 99999, "served", 70*time.Microsecond)
	if got := total(t, tel.requests.counters.WithLabelValues("other", "other", "other", "other")); got != 1 {
		t.Errorf("the route that is not UTF-8 was counted %v times as other, want 1", got)
	}
	if got := total(t, tel.requests.counters.WithLabelValues("aws", "/", "other", "served")); got != 1 {
		t.Errorf("the status that is none was counted %v times as other, want 1", got)
	}
}

func TestForgottenUpstreamHasNoSeries(t *testing.T) {
	tel := New(options(t))
	tel.Refreshed("old", "ok", time.Second)
	tel.Refreshed("old", "timeout", time.Second)
	tel.Refreshed("kept", "ok", time.Second)
	tel.Forget("old")
	for name, c := range map[string]prometheus.Collector{"counter": tel.refreshes, "histogram": tel.durations} {
		if got := len(series(t, c)); got != 1 {
			t.Errorf("%s: %d series are left, want 1", name, got)
		}
	}
}

func TestSeriesOfCredentialsAreBounded(t *testing.T) {
	opts := options(t)
	many := make([]Credential, maxCredentials+5000)
	for i := range many {
		many[i] = Credential{Name: fmt.Sprintf("role_%d", i), State: "fresh", Expires: time.Now().Add(time.Hour)}
	}
	opts.Credentials = func() []Credential { return many }
	scrape := get(New(opts).Handler(), "/metrics").Body.String()
	if got := strings.Count(scrape, "\npurser_credential_state{"); got != maxCredentials {
		t.Errorf("%d series of states, want %d", got, maxCredentials)
	}
	if want := fmt.Sprintf("\npurser_credentials{state=\"fresh\"} %d\n", len(many)); !strings.Contains(scrape, want) {
		t.Errorf("the total lacks%s", want)
	}
}

func TestDuplicateCredentialLeavesTheOtherMetricsReadable(t *testing.T) {
	opts := options(t)
	twice := Credential{Name: "a", Upstream: "x", State: "fresh"}
	opts.Credentials = func() []Credential { return []Credential{twice, twice} }
	opts.Log = zerolog.New(io.Discard)
	response := get(New(opts).Handler(), "/metrics")
	if response.Code != http.StatusOK || !strings.Contains(response.Body.String(), "\npurser_ready 1\n") {
		t.Errorf("status %d without purser_ready, want 200 with it", response.Code)
	}
}

func BenchmarkScrapeOf10000Credentials(b *testing.B) {
	opts := options(b)
	many := make([]Credential, 10_000)
	for i := range many {
		many[i] = Credential{Name: fmt.Sprintf("role_%d", i), Upstream: "datacenter", State: "fresh", Expires: time.Now().Add(time.Hour)}
	}
	opts.Credentials = func() []Credential { return many }
	handler := New(opts).Handler()
	b.ReportAllocs()
	for b.Loop() {
		get(handler, "/metrics")
	}
}

func BenchmarkRequested(b *testing.B) {
	tel := New(options(b))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tel.Requested("aws", "/{version}/meta-data/iam/security-credentials/{role}", 200, "served", 70*time.Microsecond)
		}
	})
}
