package server

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/purser-agent/purser/pkg/caller"
)

// CallerStats is what one caller asked for since Purser started. All callers that
// could not be identified count as one.
type CallerStats struct {
	Identity    caller.Identity
	Requests    int64
	Denied      int64 // requests that were refused or unauthorized
	Connections int64 // opened so far
	Open        int64 // connections open now
	Last        time.Time
	UserAgent   string // of the latest connection that sent one
}

// maxAccounts bounds the table of callers. Units come and go, and a user may have
// many.
const maxAccounts = 1000

// An account counts for one caller. A connection finds it once; counting then takes
// no lock.
type account struct {
	identity    caller.Identity
	requests    atomic.Int64
	denied      atomic.Int64
	connections atomic.Int64
	open        atomic.Int64
	last        atomic.Int64 // nanoseconds of Server.now
	userAgent   atomic.Pointer[string]
}

type accounts struct {
	mu    sync.Mutex
	table map[caller.Identity]*account
}

// enter returns the account of a caller who opened a connection.
func (a *accounts) enter(id caller.Identity, now time.Duration) *account {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := a.table[id]
	if found == nil {
		if len(a.table) >= maxAccounts {
			a.forget()
		}
		found = &account{identity: id}
		a.table[id] = found
	}
	found.connections.Add(1)
	found.last.Store(int64(now))
	return found
}

// forget drops the caller who was here least recently, one without connections
// before one with.
func (a *accounts) forget() {
	var least *account
	for _, candidate := range a.table {
		if least == nil || older(candidate, least) {
			least = candidate
		}
	}
	delete(a.table, least.identity)
}

func older(a, b *account) bool {
	if gone := a.open.Load() <= 0; gone != (b.open.Load() <= 0) {
		return gone
	}
	return a.last.Load() < b.last.Load()
}

// Callers returns who asked so far, the busiest first. At most 1,000 callers are
// remembered; the least recent goes. It is safe for concurrent use.
func (s *Server) Callers() []CallerStats {
	wall, now := time.Now(), s.now()
	s.accounts.mu.Lock()
	all := make([]CallerStats, 0, len(s.accounts.table))
	for id, a := range s.accounts.table {
		stats := CallerStats{
			Identity:    id,
			Requests:    a.requests.Load(),
			Denied:      a.denied.Load(),
			Connections: a.connections.Load(),
			Open:        a.open.Load(),
			Last:        wall.Add(time.Duration(a.last.Load()) - now).Round(0),
		}
		if agent := a.userAgent.Load(); agent != nil {
			stats.UserAgent = *agent
		}
		all = append(all, stats)
	}
	s.accounts.mu.Unlock()
	slices.SortFunc(all, func(a, b CallerStats) int {
		return cmp.Or(
			cmp.Compare(b.Requests, a.Requests),
			cmp.Compare(b.Connections, a.Connections),
			cmp.Compare(a.Identity.UID, b.Identity.UID),
			strings.Compare(a.Identity.Unit, b.Identity.Unit),
		)
	})
	return all
}
