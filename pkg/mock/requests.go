package mock

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// Requests tells what a stand-in was asked.
type Requests struct {
	Connections int            `json:"connections"` // that were opened, with ConnState in place
	Total       int            `json:"total"`
	Lists       int            `json:"lists"`
	Fetches     map[string]int `json:"fetches"` // documents asked for, by role
	Latest      []Request      `json:"latest"`  // at most a thousand, the oldest first
}

// A Request is one of them.
type Request struct {
	Time   time.Time `json:"time"` // of the answer's end
	Method string    `json:"method"`
	URI    string    `json:"uri"` // as it was sent, escapes and all
	Part   string    `json:"part,omitempty"`
	Role   string    `json:"role,omitempty"`
	Status int       `json:"status"` // 0 if there was none
	Faults string    `json:"faults,omitempty"`
}

const (
	maxLatest = 1000
	maxNames  = 20_000 // roles that are counted each by itself
	maxText   = 1024   // bytes of a URI or a role that are kept
)

// Requests returns a copy of the record.
func (c *Control) Requests() Requests {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.requests
	r.Fetches = maps.Clone(r.Fetches)
	if r.Fetches == nil {
		r.Fetches = map[string]int{}
	}
	r.Latest = append([]Request{}, r.Latest...)
	return r
}

// ResetRequests begins the record anew.
func (c *Control) ResetRequests() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = Requests{}
}

func (c *Control) record(r *http.Request, part, role string, status int, hits faults, took time.Duration) {
	role = role[:min(len(role), maxText)]
	entry := Request{
		Time:   time.Now(),
		Method: r.Method,
		URI:    r.RequestURI[:min(len(r.RequestURI), maxText)],
		Part:   part,
		Role:   role,
		Status: status,
		Faults: hits.String(),
	}
	line := c.log.Info().Str("method", entry.Method).Str("uri", entry.URI).Int("status", status).
		Str("from", r.RemoteAddr).Stringer("took", took.Round(time.Microsecond))
	if entry.Faults != "" {
		line.Str("faults", entry.Faults)
	}
	line.Msg("request")

	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests.Total++
	if part == List {
		c.requests.Lists++
	}
	if part == Credentials {
		if c.requests.Fetches == nil {
			c.requests.Fetches = map[string]int{}
		}
		if _, known := c.requests.Fetches[role]; known || len(c.requests.Fetches) < maxNames {
			c.requests.Fetches[role]++
		}
	}
	c.requests.Latest = withLatest(c.requests.Latest, entry)
}

// withLatest is a record with one entry more, without the oldest where it is full.
func withLatest[Entry any](record []Entry, entry Entry) []Entry {
	if len(record) == maxLatest {
		record = slices.Delete(record, 0, 1)
	}
	return append(record, entry)
}
