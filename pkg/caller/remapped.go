package caller

import (
	"encoding/binary"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Where a host makes very many connections, connection tracking gives one of them now
// and then another source port, as the client's own is still in use on the far side of
// the DNAT. The kernel then has no client socket at the address that the connection
// seems to come from, and to ask connection tracking takes a privilege.

// Bounds of the search for such a client.
const (
	mostSockets = 4096     // to choose from
	dumpBuffer  = 32 << 10 // bytes, of which the kernel fills as much as it likes
)

// The states of a client to whom this end has not said that it closes.
const askingStates = 1<<1 | 1<<4 | 1<<5 // ESTABLISHED, FIN_WAIT1, FIN_WAIT2

// remapped returns the client socket of a connection that came from another port than
// the client's own: any of those from the peer's address towards destination. Only if all
// of them are one user's in one cgroup that is the caller; otherwise it is errNoSocket.
// None may be left out because its other end seems to be known: whoever makes a
// connection to this very listener decides from which port that comes.
func remapped(peer, destination netip.AddrPort) (socket, error) {
	clients, err := dump(destination)
	if err != nil {
		return socket{}, err
	}
	var found []socket
	for _, s := range clients {
		if s.remote == destination && s.local.Addr() == peer.Addr() {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return socket{}, errNoSocket
	}
	for _, s := range found {
		if s.inode == 0 || s.uid != found[0].uid || s.cgroup != found[0].cgroup {
			return socket{}, errNoSocket
		}
	}
	return found[0], nil
}

// dump lists the sockets of clients that ask at the port of a destination, whatever its
// address. Those of IPv4 addresses may be of either family.
func dump(destination netip.AddrPort) ([]socket, error) {
	families := []byte{unix.AF_INET6}
	if destination.Addr().Is4() {
		families = append(families, unix.AF_INET)
	}
	s, err := openDiagSocket()
	if err != nil {
		return nil, err
	}
	defer unix.Close(s.fd)
	var all []socket
	for _, family := range families {
		if all, err = s.dump(all, family, destination.Port()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (s *diagSocket) dump(all []socket, family byte, remote uint16) ([]socket, error) {
	s.sequence++
	b := s.request[:0]
	b = binary.NativeEndian.AppendUint32(b, requestLen)
	b = binary.NativeEndian.AppendUint16(b, sockDiagByFamily)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = binary.NativeEndian.AppendUint32(b, s.sequence)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, askingStates)
	b = binary.BigEndian.AppendUint16(b, 0) // any port of theirs
	b = binary.BigEndian.AppendUint16(b, remote)
	clear(b[len(b):requestLen]) // any address, interface and cookie
	if err := retry(func() error { _, err := unix.Write(s.fd, s.request[:]); return err }); err != nil {
		return nil, os.NewSyscallError("write", err)
	}
	buffer := make([]byte, dumpBuffer)
	for {
		var n int
		if err := retry(func() (err error) { n, err = unix.Read(s.fd, buffer); return err }); err != nil {
			return nil, os.NewSyscallError("read", err)
		}
		more, done, err := parseDump(buffer[:n], s.sequence)
		all = append(all, more...)
		switch {
		case err != nil:
			return nil, err
		case len(all) > mostSockets:
			return nil, errNoSocket
		case done:
			return all, nil
		}
	}
}

// parseDump reads one part of the kernel's answer to a dump, which may have several
// messages. done says that there is no further part.
func parseDump(b []byte, sequence uint32) (all []socket, done bool, err error) {
	for len(b) > 0 {
		if len(b) < headerLen {
			return nil, false, errMalformed
		}
		length := binary.NativeEndian.Uint32(b)
		if length < headerLen || uint64(length) > uint64(len(b)) {
			return nil, false, errMalformed
		}
		switch kind := binary.NativeEndian.Uint16(b[4:]); {
		case binary.NativeEndian.Uint32(b[8:]) != sequence:
		case kind == unix.NLMSG_DONE:
			return all, true, nil
		default:
			found, err := parseAnswer(b[:length], sequence)
			if err != nil {
				return nil, false, err
			}
			all = append(all, found)
		}
		b = b[min((length+3)&^3, uint32(len(b))):] // messages are padded to four bytes
	}
	return all, false, nil
}
