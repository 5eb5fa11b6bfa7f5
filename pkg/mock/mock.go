// Package mock holds stand-ins for upstreams, for a first try and for tests: HTTP
// handlers that answer like the real service, and wrongly on demand. Every secret
// they make carries Marker.
//
// It leaves sockets, TLS and flags to cmd/purser-mock. A stand-in asks nobody who he
// is: it is not for a network.
package mock

import (
	"crypto/rand"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Marker is part of every secret that a stand-in makes, so that a test can search
// all output for it.
const Marker = "PURSERMOCKSECRET"

// A Control is what all stand-ins have: faults, a schedule of them and a record of
// requests. Its methods are safe for concurrent use while the stand-in serves.
type Control struct {
	log zerolog.Logger

	mu       sync.Mutex
	faults   []*planned
	requests Requests
}

// maxFaults bounds the faults of a stand-in.
const maxFaults = 1000

// A planned fault is a Fault with what is left of it.
type planned struct {
	fault Fault
	from  time.Time
	until time.Time // zero for no end
	left  int       // zero for any number
}

// A Step is a fault that begins some time after its schedule.
type Step struct {
	At    time.Duration
	Fault Fault
}

// SetFaults replaces all faults, scheduled ones too. Without arguments it ends them.
func (c *Control) SetFaults(faults ...Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
	for _, fault := range faults {
		c.plan(0, fault)
	}
}

// AddFaults adds to the faults there are.
func (c *Control) AddFaults(faults ...Fault) {
	for _, fault := range faults {
		c.Schedule(Step{Fault: fault})
	}
}

// Schedule adds faults that begin later, counted from now.
func (c *Control) Schedule(steps ...Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, step := range steps {
		c.plan(step.At, step.Fault)
	}
}

func (c *Control) plan(at time.Duration, fault Fault) {
	if len(c.faults) >= maxFaults {
		return
	}
	p := &planned{fault: fault, from: time.Now().Add(at), left: fault.Count}
	if fault.For > 0 {
		p.until = p.from.Add(fault.For)
	}
	c.faults = append(c.faults, p)
}

// Faults returns those that are active or still to come, with the count that is left.
func (c *Control) Faults() []Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(time.Now())
	faults := []Fault{}
	for _, p := range c.faults {
		fault := p.fault
		fault.Count = p.left
		faults = append(faults, fault)
	}
	return faults
}

// forget drops the faults that are over. The caller holds mu.
func (c *Control) forget(now time.Time) {
	kept := c.faults[:0]
	for _, p := range c.faults {
		over := !p.until.IsZero() && !now.Before(p.until) || p.fault.Count > 0 && p.left == 0
		if !over {
			kept = append(kept, p)
		}
	}
	clear(c.faults[len(kept):])
	c.faults = kept
}

// take returns the faults that hit a request for a part of the service and counts
// them down.
func (c *Control) take(part, name string) faults {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.forget(now)
	var hits faults
	for _, p := range c.faults {
		if now.Before(p.from) || !p.fault.hits(part, name) {
			continue
		}
		if p.left > 0 {
			p.left--
		}
		hits = append(hits, p.fault)
	}
	return hits
}

// ConnState counts connections if it is the http.Server's ConnState.
func (c *Control) ConnState(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests.Connections++
	}
}

// secret makes a secret of n characters with the Marker in front.
func secret(n int) string {
	var b strings.Builder
	b.WriteString(Marker)
	for b.Len() < n {
		b.WriteString(rand.Text())
	}
	return b.String()[:n]
}
