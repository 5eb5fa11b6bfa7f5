package caller

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// How long the list of this host's addresses is good for. An address that came is
// seen after a second, one that went after ten.
const (
	absenceFor  = time.Second
	presenceFor = 10 * time.Second
)

// hostAddresses knows which addresses are this host's. The zero value is ready; it
// is safe for concurrent use.
type hostAddresses struct {
	list func() ([]net.Addr, error) // net.InterfaceAddrs if nil

	mu    sync.Mutex
	known map[netip.Addr]struct{}
	read  time.Time // when
}

// contains reports whether addr, unmapped, is an address of this host. It asks the
// kernel at most once a second.
func (h *hostAddresses) contains(addr netip.Addr) (bool, error) {
	if addr.IsLoopback() {
		return true, nil
	}
	addr = addr.WithZone("")
	h.mu.Lock()
	defer h.mu.Unlock()
	_, known := h.known[addr]
	age := time.Since(h.read)
	if age < absenceFor || known && age < presenceFor {
		return known, nil
	}
	h.read = time.Now()
	list := h.list
	if list == nil {
		list = net.InterfaceAddrs
	}
	interfaces, err := list()
	if err != nil {
		return known, err
	}
	h.known = make(map[netip.Addr]struct{}, len(interfaces))
	for _, network := range interfaces {
		if prefix, ok := network.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(prefix.IP); ok {
				h.known[own.Unmap()] = struct{}{}
			}
		}
	}
	_, known = h.known[addr]
	return known, nil
}
