package frontend

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// The link-local addresses at which clients look for a metadata service. A request
// that a DNAT rule led here still names them.
const (
	MetadataAddress    = "169.254.169.254" // of every cloud
	ContainerAddress   = "169.254.170.2"   // of ECS
	PodIdentityAddress = "169.254.170.23"  // of EKS Pod Identity
)

// portOfMetadata is the port behind which every cloud has its metadata service, so
// that it may stand in a Host header that came through a DNAT rule.
const portOfMetadata = "80"

// A Guard keeps out requests that a local client of a metadata service would not
// send: those for a host that is not ours, which is what a browser sends after DNS
// rebinding, and those that a proxy forwarded for somebody else. There is one per
// listener. It is immutable and safe for concurrent use.
type Guard struct {
	port      string
	names     map[string]bool
	addresses map[netip.Addr]bool
}

// NewGuard returns the guard of a listener at that address. It knows the address
// unless that is a wildcard, localhost, the loopback addresses, the link-local
// addresses above, and hosts: those of its dialects and the configured ones, without
// port. An IPv6 address may stand in brackets.
func NewGuard(listener netip.AddrPort, hosts ...string) *Guard {
	g := &Guard{
		port:      strconv.Itoa(int(listener.Port())),
		names:     map[string]bool{"localhost": true},
		addresses: map[netip.Addr]bool{},
	}
	for _, host := range append([]string{MetadataAddress, ContainerAddress, PodIdentityAddress}, hosts...) {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		if address, err := netip.ParseAddr(host); err == nil {
			g.addresses[address.Unmap()] = true
		} else {
			g.names[strings.ToLower(strings.TrimSuffix(host, "."))] = true
		}
	}
	delete(g.names, "")
	if own := listener.Addr().Unmap(); !own.IsUnspecified() {
		g.addresses[own.WithZone("")] = true // clients send no zone
	}
	return g
}

// Check says why the request must be refused, or nothing if it may pass. What it
// says is for the log. It does not allocate for a request that passes.
func (g *Guard) Check(r *http.Request) string {
	for _, value := range r.Header["X-Forwarded-For"] {
		if value != "" {
			return "it was forwarded: X-Forwarded-For is set"
		}
	}
	if r.Host == "" {
		if r.ProtoAtLeast(1, 1) {
			return "its Host header is empty"
		}
		return ""
	}
	host, port := splitHost(r.Host)
	if !g.knows(host) {
		return fmt.Sprintf("its Host %s is no name of this service, see listen.NAME.hosts", abridged(host))
	}
	if port != "" && port != g.port && port != portOfMetadata {
		return fmt.Sprintf("its Host has port %s, not %s or %s", abridged(port), g.port, portOfMetadata)
	}
	return ""
}

func (g *Guard) knows(host string) bool {
	if g.names[host] {
		return true
	}
	if address, err := netip.ParseAddr(host); err == nil {
		address = address.Unmap()
		return address.IsLoopback() || g.addresses[address]
	}
	return g.names[strings.ToLower(strings.TrimSuffix(host, "."))]
}

// splitHost splits a Host header, whose port is optional and whose IPv6 addresses
// stand in brackets, and returns the host without them.
func splitHost(value string) (host, port string) {
	if rest, found := strings.CutPrefix(value, "["); found {
		host, port, closed := strings.Cut(rest, "]")
		if !closed || port != "" && port[0] != ':' {
			return "", ""
		}
		return host, strings.TrimPrefix(port, ":")
	}
	host, port, _ = strings.Cut(value, ":")
	return host, port
}

// abridged quotes what a stranger sent and bounds its length in the log.
func abridged(text string) string {
	const most = 64
	if len(text) > most {
		return strconv.Quote(text[:most]) + "..."
	}
	return strconv.Quote(text)
}
