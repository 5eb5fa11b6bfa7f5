package telemetry

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxRequestSeries bounds the combinations of labels. All dialects together have a
// fraction of it; what comes beyond is counted as "other", so that a route which is
// no pattern after all cannot eat the memory.
const maxRequestSeries = 1000

// A request is one combination of labels.
type request struct {
	dialect, route string
	code           int
	decision       string
}

// requestCounters finds the counter of a request by one look at an immutable map:
// the vector's own look-up hashes four strings under a lock.
type requestCounters struct {
	vec    *prometheus.CounterVec
	known  atomic.Pointer[map[request]prometheus.Counter]
	adding sync.Mutex // serialises writers of known
}

func newRequestCounters() *requestCounters {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "purser_requests_total",
		Help: "Requests to the front ends, by dialect, route, HTTP status and decision.",
	}, []string{"dialect", "route", "code", "decision"})
	c := &requestCounters{vec: vec}
	c.known.Store(&map[request]prometheus.Counter{})
	return c
}

func (c *requestCounters) get(r request) prometheus.Counter {
	if counter, ok := (*c.known.Load())[r]; ok {
		return counter
	}
	return c.add(r)
}

func (c *requestCounters) add(r request) prometheus.Counter {
	c.adding.Lock()
	defer c.adding.Unlock()
	known := *c.known.Load()
	if counter, ok := known[r]; ok {
		return counter
	}
	if len(known) >= maxRequestSeries {
		return c.vec.WithLabelValues("other", "other", "other", "other")
	}
	code := "other"
	if r.code >= 100 && r.code <= 599 {
		code = strconv.Itoa(r.code)
	}
	counter, err := c.vec.GetMetricWithLabelValues(r.dialect, r.route, code, r.decision)
	if err != nil { // a label that is not UTF-8
		return c.vec.WithLabelValues("other", "other", "other", "other")
	}
	next := maps.Clone(known)
	next[r] = counter
	c.known.Store(&next)
	return counter
}
