package caller

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST of linux/netfilter_ipv4.h, an option of level
// SOL_IP, and IP6T_SO_ORIGINAL_DST of linux/netfilter_ipv6/ip6_tables.h, one of
// level SOL_IPV6.
const soOriginalDst = 80

// originalDestination returns the address that the client of an accepted
// connection asked for, before any DNAT. Connection tracking knows it; where it is
// not in use or has forgotten the connection there is no DNAT either, and the
// socket's own address is the answer.
func originalDestination(conn *net.TCPConn) (netip.AddrPort, error) {
	own := unmapped(conn.LocalAddr())
	raw, err := conn.SyscallConn()
	if err != nil {
		return own, err
	}
	tracked := own
	// What matters is the family of the addresses, not that of the socket: one that
	// listens on both families has IPv4 clients, too.
	lookup := trackedIPv4
	if own.Addr().Is6() {
		lookup = trackedIPv6
	}
	err = raw.Control(func(fd uintptr) {
		if destination, err := lookup(int(fd)); err == nil {
			tracked = destination
		}
	})
	return tracked, err
}

// trackedIPv4 asks for a struct sockaddr_in by the call that x/sys/unix offers for
// another option, whose result has room for one.
func trackedIPv4(fd int) (netip.AddrPort, error) {
	result, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := result.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), binary.BigEndian.Uint16(b[2:])), nil
}

// trackedIPv6 asks for a struct sockaddr_in6, with which struct ip6_mtuinfo begins.
func trackedIPv6(fd int) (netip.AddrPort, error) {
	result, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], result.Addr.Port) // kept in network byte order
	return netip.AddrPortFrom(netip.AddrFrom16(result.Addr.Addr).Unmap(), binary.BigEndian.Uint16(port[:])), nil
}

// unmapped is the address of a TCP connection's end, an IPv4 one as such also on a
// socket of both families.
func unmapped(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	addrPort := tcp.AddrPort()
	return netip.AddrPortFrom(addrPort.Addr().Unmap(), addrPort.Port())
}
