package server

import (
	"context"
	"fmt"
	"time"
)

// Sweep intervals.
const (
	longestSweep  = time.Second
	shortestSweep = 5 * time.Millisecond
)

// sweep closes connections that are in one phase for too long, and tells how many
// access lines were left out.
func (s *Server) sweep(done <-chan struct{}) {
	interval := longestSweep
	for _, limit := range s.limits {
		interval = min(interval, max(limit/4, shortestSweep))
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		now := s.now()
		s.closeAll(s.conns.claimWhere(func(_ *conn, p phase, since time.Duration) bool { return now-since > s.limits[p] }))
		s.access.tick(now)
	}
}

// closeAll closes connections that were claimed.
func (s *Server) closeAll(all []claimed) {
	for _, c := range all {
		if c.was == reading {
			s.reportMalformed(c.conn)
		}
		_ = c.Close()
	}
}

// Shutdown's patience with connections that have nothing to be answered.
const (
	quiet     = 50 * time.Millisecond  // since the last sign of a client
	lastCall  = 100 * time.Millisecond // since Shutdown began
	stopCheck = 5 * time.Millisecond
)

// Shutdown stops accepting, lets every request in progress get its answer and
// closes the other connections: at first those without a sign of life for 50 ms,
// since a client may be between two requests or about to send its first one, and
// after 100 ms all but those whose request is here and only not read yet, as on a busy
// machine. If ctx ends first it cuts off the rest and says how many.
// Serve must not be called again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop.Do(func() { close(s.stopping) })
	s.closeListeners()
	defer s.access.reportLeftOut()
	defer s.http.Close()
	begin := s.now()
	ticker := time.NewTicker(stopCheck)
	defer ticker.Stop()
	last := false
	for {
		now := s.now()
		if !last && now-begin >= lastCall {
			last = true
			s.http.SetKeepAlivesEnabled(false)
		}
		s.closeAll(s.conns.claimWhere(func(c *conn, p phase, since time.Duration) bool {
			return atRest(p, since, now) && (last || now-since >= quiet) && !c.asks(p)
		}))
		// Whoever is still being identified at the last call may have asked, and gets half
		// as long again.
		if placed, open := s.conns.count(); open == 0 || placed == 0 && now-begin >= lastCall*3/2 {
			return nil
		}
		select {
		case <-ctx.Done():
			placed, _ := s.conns.count()
			return fmt.Errorf("stop: cut off %d connections that still wait for an answer: %w", placed, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// closeListeners closes every listener that Serve was given.
func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.Close()
	}
}
