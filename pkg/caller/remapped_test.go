package caller

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestADumpFindsTheSocketsOfAConnection: both of its ends, by their ports.
func TestADumpFindsTheSocketsOfAConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	from, to := unmapped(client.LocalAddr()), unmapped(l.Addr())
	clients, err := dump(to.Addr(), connectedStates, 0, to.Port())
	if err != nil || !slices.ContainsFunc(clients, func(s socket) bool { return s.connects(from, to) && s.inode != 0 }) {
		t.Errorf("the client is not among %v, %v", clients, err)
	}
	servers, err := dump(to.Addr(), acceptedStates, to.Port(), 0)
	if err != nil || !slices.ContainsFunc(servers, func(s socket) bool { return s.connects(to, from) }) {
		t.Errorf("the server's end is not among %v, %v", servers, err)
	}
	if _, err := remapped(netip.AddrPortFrom(from.Addr(), 1), to, to); err != errNoSocket {
		t.Errorf("a client that has its other end is taken for another's: %v", err)
	}
}

func FuzzParseDump(f *testing.F) {
	message := func(kind uint16, body []byte) []byte {
		b := binary.NativeEndian.AppendUint32(nil, uint32(headerLen+len(body)))
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = append(b, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0)
		return append(b, body...)
	}
	one := make([]byte, answerLen)
	one[0] = unix.AF_INET
	f.Add(slices.Concat(message(sockDiagByFamily, one), message(sockDiagByFamily, one), message(unix.NLMSG_DONE, make([]byte, 4))))
	f.Add(message(unix.NLMSG_ERROR, make([]byte, 20)))
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, _, err := parseDump(b, 7)
		if err == nil && len(all) > len(b)/answerLen {
			t.Errorf("%d sockets in %d bytes", len(all), len(b))
		}
	})
}
