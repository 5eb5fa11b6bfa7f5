package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/caller"
)

// A Spec describes one socket to listen on.
type Spec struct {
	// Name is the listener's name in the configuration, in the log, and as
	// FileDescriptorName= of a systemd socket unit.
	Name string
	// Address is the TCP address to bind; port 0 lets the kernel choose.
	Address netip.AddrPort
	// HopLimit is the IP TTL (IPv6: hop limit) of everything that the listener
	// sends, 1 to 255; 0 leaves the system's default. With 1 an answer does not
	// survive a router.
	HopLimit int
	// From lists the networks whose callers may ask although they are not on this
	// host, or came by another way than Destinations.
	From []netip.Prefix
	// Destinations lists the addresses that a caller may have dialled before the
	// kernel redirected the connection here. The listener's own address, as the
	// caller sees it, is always allowed.
	Destinations []netip.AddrPort
}

// A Listener is a bound socket that does not accept yet: connections wait in the
// kernel until Server.Serve takes them.
type Listener struct {
	Spec
	// Inherited is set if systemd holds the socket.
	Inherited bool
	socket    *net.TCPListener
}

// Listen binds every spec, or takes the inherited socket of the same name where
// systemd passed one (activation.Files of go-systemd). It is separate from
// serving because only binding may need privileges. An inherited socket that is not
// what the spec of its name says, or that no spec names, is an error. Listen closes
// the inherited files in any case, and on an error everything that it opened.
func Listen(ctx context.Context, specs []Spec, inherited []*os.File) (listeners []*Listener, err error) {
	defer func() {
		for _, file := range inherited {
			_ = file.Close()
		}
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			listeners = nil
		}
	}()
	if err := checkNames(specs, inherited); err != nil {
		return nil, err
	}
	for _, spec := range specs {
		i := slices.IndexFunc(inherited, func(f *os.File) bool { return f.Name() == spec.Name })
		l := &Listener{Spec: spec, Inherited: i >= 0}
		if l.Inherited {
			l.socket, err = adopt(spec, inherited[i])
		} else {
			l.socket, err = bind(ctx, spec)
		}
		if err != nil {
			return listeners, fmt.Errorf("listener %q: %w", spec.Name, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// Close closes the socket in this process; a socket that systemd passed stays open
// in systemd, and connections wait there for the next process.
func (l *Listener) Close() error { return l.socket.Close() }

// Addr returns the address that is really bound.
func (l *Listener) Addr() netip.AddrPort { return addrPort(l.socket.Addr()) }

// checkNames pairs inherited sockets with specs, which systemd knows by name only.
func checkNames(specs []Spec, inherited []*os.File) error {
	names := make([]string, len(specs))
	for i, spec := range specs {
		names[i] = spec.Name
	}
	seen := make(map[string]bool)
	for _, file := range inherited {
		name := file.Name()
		if !slices.Contains(names, name) {
			return fmt.Errorf("inherited socket %q: no listener has this name; set FileDescriptorName= in the socket unit to one of: %s",
				name, strings.Join(names, ", "))
		}
		if seen[name] {
			return fmt.Errorf("inherited socket %q: systemd passed two of this name, but a listener has one address; use a socket unit with its own FileDescriptorName= for each", name)
		}
		seen[name] = true
	}
	return nil
}

// bind opens a socket of our own. Multipath TCP, which Go would ask for, knows
// neither hop limits nor the original destination. Keep-alive probes cost four
// system calls for each connection; callers are on this host, and the idle
// time-out finds the others.
func bind(ctx context.Context, spec Spec) (*net.TCPListener, error) {
	config := net.ListenConfig{
		KeepAlive: -1,
		Control: func(_, _ string, raw syscall.RawConn) error {
			return limitHops(raw, spec.HopLimit)
		},
	}
	config.SetMultipathTCP(false)
	l, err := config.Listen(ctx, "tcp", spec.Address.String())
	if err != nil {
		return nil, explainBind(spec.Address, err)
	}
	return l.(*net.TCPListener), nil
}

// adopt takes over a listening socket that systemd opened.
func adopt(spec Spec, file *os.File) (*net.TCPListener, error) {
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("the inherited socket is no TCP listener (%w); the socket unit needs ListenStream=%s", err, spec.Address)
	}
	socket, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("the inherited socket is %s, no TCP listener; the socket unit needs ListenStream=%s", l.Addr().Network(), spec.Address)
	}
	if err := checkAdopted(spec, socket); err != nil {
		_ = socket.Close()
		return nil, err
	}
	return socket, nil
}

func checkAdopted(spec Spec, socket *net.TCPListener) error {
	if bound := addrPort(socket.Addr()); bound != unmap(spec.Address) {
		return fmt.Errorf("the inherited socket is bound to %s, but the configured address is %s; make ListenStream= of the socket unit and the address the same", bound, spec.Address)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var listening, protocol int
	var optErr error
	err = raw.Control(func(fd uintptr) {
		if listening, optErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN); optErr == nil {
			protocol, optErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		}
	})
	if err := errors.Join(err, optErr); err != nil {
		return fmt.Errorf("state of the inherited socket: %w", err)
	}
	if listening == 0 {
		return errors.New("the inherited socket is bound but does not listen; the socket unit needs Accept=no")
	}
	if protocol != unix.IPPROTO_TCP {
		return errors.New("the inherited socket does not speak plain TCP; the socket unit must not set SocketProtocol=")
	}
	return limitHops(raw, spec.HopLimit)
}

// limitHops sets the hop limit on a listening socket; connections inherit it. An
// IPv6 socket also needs the IPv4 option, for its IPv4-mapped connections.
func limitHops(raw syscall.RawConn, limit int) error {
	if limit == 0 {
		return nil
	}
	var optErr error
	err := raw.Control(func(fd uintptr) {
		var domain int
		domain, optErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		if optErr == nil && domain == unix.AF_INET6 {
			optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, limit)
		}
		if optErr == nil {
			optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, limit)
		}
	})
	if err := errors.Join(err, optErr); err != nil {
		return fmt.Errorf("set the hop limit to %d: %w", limit, err)
	}
	return nil
}

// explainBind adds what to do about the usual errors.
func explainBind(address netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		bits, device := address.Addr().BitLen(), "lo"
		return fmt.Errorf("%w; %s is no address of this host: add it (ip address add %s/%d dev %s), or listen on a loopback address and redirect to it",
			err, address.Addr(), address.Addr(), bits, device)
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w; another process has this address, and `ss -ltnp sport = :%d` shows which", err, address.Port())
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w; a port below 1024 needs a start as root, CAP_NET_BIND_SERVICE, or a systemd socket unit", err)
	}
	return err
}

// refusal says why a caller may not ask at all, or returns "". local is the
// connection's address on this side.
func (l *Listener) refusal(origin caller.Origin, local netip.AddrPort) string {
	address := origin.Peer.Addr()
	if slices.ContainsFunc(l.From, func(p netip.Prefix) bool { return p.Contains(address) }) {
		return ""
	}
	if !origin.Local {
		return "the peer is no address of this host"
	}
	if origin.Destination != local && !slices.Contains(l.Destinations, origin.Destination) {
		return "the original destination is no address of a front end"
	}
	return ""
}

// addrPort returns a TCP address in the form in which addresses are compared.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return unmap(tcp.AddrPort())
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
