package testkit

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Serve serves a handler on loopback until the test ends. One of pkg/mock counts its
// connections.
func Serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	if h, ok := h.(interface {
		ConnState(net.Conn, http.ConnState)
	}); ok {
		server.Config.ConnState = h.ConnState
	}
	server.Start()
	t.Cleanup(server.Close)
	return server
}
