package telemetry

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// A crowd bounds the open connections of a server without keeping anybody out: one
// too many closes the one that has been at rest longest or, if all are being
// answered, the one whose answer takes longest. The zero value is ready to use.
type crowd struct {
	mu      sync.Mutex
	resting []net.Conn // no whole request has come; the longest first, as below
	busy    []net.Conn
}

// follow implements http.Server.ConnState. The server calls it with a new
// connection before it accepts the next one.
func (c *crowd) follow(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateNew {
		c.makeRoom()
	} else if !c.remove(conn) {
		return // it was closed to make room
	}
	switch state {
	case http.StateNew, http.StateIdle:
		c.resting = append(c.resting, conn)
	case http.StateActive:
		c.busy = append(c.busy, conn)
	}
}

func (c *crowd) makeRoom() {
	if conns := slices.Concat(c.resting, c.busy); len(conns) >= maxConnections {
		c.remove(conns[0])
		_ = conns[0].Close()
	}
}

func (c *crowd) remove(conn net.Conn) bool {
	for _, conns := range []*[]net.Conn{&c.resting, &c.busy} {
		if i := slices.Index(*conns, conn); i >= 0 {
			*conns = slices.Delete(*conns, i, i+1)
			return true
		}
	}
	return false
}
