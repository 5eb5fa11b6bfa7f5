package caller

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// The messages of sock_diag(7), as linux/netlink.h, linux/sock_diag.h and
// linux/inet_diag.h lay them out. Ports and addresses are in network byte order,
// everything else in the host's.
const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	diagCgroupID     = 21 // INET_DIAG_CGROUP_ID, since Linux 5.8

	headerLen  = 16                     // struct nlmsghdr
	socketLen  = 48                     // struct inet_diag_sockid
	requestLen = headerLen + 8 + 48     // struct inet_diag_req_v2
	answerLen  = 4 + socketLen + 5*4    // struct inet_diag_msg, without the attributes
	answerMax  = 4096                   // far above what a request without extensions yields
	noCookie   = math.MaxUint32         // INET_DIAG_NOCOOKIE
	anyState   = uint32(math.MaxUint32) // which states to look for; exact look-ups ignore it
	errnoLen   = headerLen + 4          // struct nlmsgerr up to its errno
	attrLen    = 4                      // struct nlattr
	attrType   = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	staleMax   = 16 // late answers to earlier requests that are skipped
)

// The states in which the client of an accepted connection can be (net/tcp_states.h).
const connectedStates = 1<<1 | // ESTABLISHED
	1<<4 | // FIN_WAIT1
	1<<5 | // FIN_WAIT2
	1<<8 | // CLOSE_WAIT
	1<<9 | // LAST_ACK
	1<<11 // CLOSING

var (
	errNoSocket     = errors.New("no such socket")
	errOtherRequest = errors.New("the answer belongs to another request")
	errMalformed    = errors.New("the kernel's answer makes no sense")
	errClosed       = errors.New("the resolver is closed")
)

// A socket is what the kernel says of one TCP socket.
type socket struct {
	local, remote netip.AddrPort // unmapped
	state         uint8
	uid           uint32
	inode         uint32 // 0 once the last descriptor is closed; the uid then reads 0, too
	cgroup        uint64 // inode number of the cgroup's folder; 0 if the kernel is too old to tell
}

// connects reports whether s is an open client socket from peer to destination.
// The kernel answers with a listener, or with what is left of a closed socket,
// where it finds nothing better; neither says who the client is.
func (s socket) connects(peer, destination netip.AddrPort) bool {
	return s.local == peer && s.remote == destination && s.state < 32 && connectedStates>>s.state&1 == 1
}

// A diagSocket is a netlink socket for one request at a time.
type diagSocket struct {
	fd       int
	sequence uint32
	request  [requestLen]byte
	answer   [answerMax]byte
}

func openDiagSocket() (*diagSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open a sock_diag socket (is AF_NETLINK allowed?): %w", os.NewSyscallError("socket", err))
	}
	s := &diagSocket{fd: fd}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare a sock_diag socket: %w", err), unix.Close(fd))
	}
	return s, nil
}

// prepare connects to the kernel, which keeps messages of other processes out,
// and bounds the wait for it.
func (s *diagSocket) prepare() error {
	if err := unix.Connect(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("connect", err)
	}
	// An answer is there as soon as the request was written; this is a last resort.
	patience := unix.Timeval{Sec: 1}
	return os.NewSyscallError("setsockopt", unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience))
}

// lookup returns the TCP socket from local to remote, both of one address family
// and unmapped, or errNoSocket.
func (s *diagSocket) lookup(local, remote netip.AddrPort) (socket, error) {
	s.sequence++
	s.compose(local, remote)
	if err := retry(func() error { _, err := unix.Write(s.fd, s.request[:]); return err }); err != nil {
		return socket{}, os.NewSyscallError("write", err)
	}
	for range staleMax {
		var n int
		err := retry(func() (err error) { n, err = unix.Read(s.fd, s.answer[:]); return err })
		if err != nil {
			return socket{}, os.NewSyscallError("read", err)
		}
		found, err := parseAnswer(s.answer[:n], s.sequence)
		if err != errOtherRequest {
			return found, err
		}
	}
	return socket{}, errOtherRequest
}

func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// compose writes the request for one socket. Both addresses being unmapped, an
// IPv4 client on an IPv6 socket is found, too: the kernel keeps it under its IPv4
// addresses.
func (s *diagSocket) compose(local, remote netip.AddrPort) {
	family := byte(unix.AF_INET6)
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	b := s.request[:0]
	b = binary.NativeEndian.AppendUint32(b, requestLen)
	b = binary.NativeEndian.AppendUint16(b, sockDiagByFamily)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, s.sequence)
	b = binary.NativeEndian.AppendUint32(b, 0) // our port: the kernel knows it
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, anyState)
	b = binary.BigEndian.AppendUint16(b, local.Port())
	b = binary.BigEndian.AppendUint16(b, remote.Port())
	b = appendAddr(b, local.Addr())
	b = appendAddr(b, remote.Addr())
	b = binary.NativeEndian.AppendUint32(b, 0) // any interface
	b = binary.NativeEndian.AppendUint32(b, noCookie)
	_ = binary.NativeEndian.AppendUint32(b, noCookie)
}

// appendAddr adds an address in the 16 bytes that sock_diag has for one.
func appendAddr(b []byte, addr netip.Addr) []byte {
	if addr.Is4() {
		v4 := addr.As4()
		return append(append(b, v4[:]...), make([]byte, 12)...)
	}
	v6 := addr.As16()
	return append(b, v6[:]...)
}

// parseAnswer reads the kernel's answer to the request with the given sequence
// number.
func parseAnswer(b []byte, sequence uint32) (socket, error) {
	if len(b) < headerLen {
		return socket{}, errMalformed
	}
	length := binary.NativeEndian.Uint32(b)
	if length < headerLen || uint64(length) > uint64(len(b)) {
		return socket{}, errMalformed
	}
	if binary.NativeEndian.Uint32(b[8:]) != sequence {
		return socket{}, errOtherRequest
	}
	b = b[:length]
	switch kind := binary.NativeEndian.Uint16(b[4:]); {
	case kind == unix.NLMSG_ERROR && len(b) >= errnoLen:
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[headerLen:])))
		if errno == unix.ENOENT {
			return socket{}, errNoSocket
		}
		return socket{}, fmt.Errorf("sock_diag: %w", errno)
	case kind == sockDiagByFamily && len(b) >= headerLen+answerLen:
		return parseSocket(b[headerLen:])
	}
	return socket{}, errMalformed
}

// parseSocket reads a struct inet_diag_msg and its attributes.
func parseSocket(b []byte) (socket, error) {
	addr := func(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b)).Unmap() }
	switch b[0] {
	case unix.AF_INET:
		addr = func(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }
	case unix.AF_INET6:
	default:
		return socket{}, errMalformed
	}
	s := socket{
		state:  b[1],
		local:  netip.AddrPortFrom(addr(b[8:]), binary.BigEndian.Uint16(b[4:])),
		remote: netip.AddrPortFrom(addr(b[24:]), binary.BigEndian.Uint16(b[6:])),
		uid:    binary.NativeEndian.Uint32(b[64:]),
		inode:  binary.NativeEndian.Uint32(b[68:]),
	}
	for b = b[answerLen:]; len(b) >= attrLen; {
		length := int(binary.NativeEndian.Uint16(b))
		if length < attrLen || length > len(b) {
			return socket{}, errMalformed
		}
		if binary.NativeEndian.Uint16(b[2:])&attrType == diagCgroupID {
			if length != attrLen+8 {
				return socket{}, errMalformed
			}
			s.cgroup = binary.NativeEndian.Uint64(b[attrLen:])
		}
		b = b[min((length+3)&^3, len(b)):] // attributes are padded to four bytes
	}
	return s, nil
}

// A diagPool holds netlink sockets that are not in use. It is safe for concurrent
// use: as many look-ups run at once as it has sockets, the others wait for theirs.
type diagPool chan *diagSocket

func newDiagPool(size int) (diagPool, error) {
	pool := make(diagPool, size)
	for range size {
		s, err := openDiagSocket()
		if err != nil {
			close(pool)
			for s := range pool {
				err = errors.Join(err, unix.Close(s.fd))
			}
			return nil, err
		}
		pool <- s
	}
	return pool, nil
}

func (p diagPool) lookup(local, remote netip.AddrPort) (socket, error) {
	s, open := <-p
	if !open {
		return socket{}, errClosed
	}
	defer func() { p <- s }()
	return s.lookup(local, remote)
}

// close waits for the look-ups in progress. Later ones fail with errClosed.
func (p diagPool) close() error {
	var errs []error
	for range cap(p) {
		s, open := <-p
		if !open {
			return nil
		}
		errs = append(errs, os.NewSyscallError("close", unix.Close(s.fd)))
	}
	close(p)
	return errors.Join(errs...)
}
