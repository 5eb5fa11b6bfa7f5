package caller

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestADumpFindsTheClientOfAConnection by the port that it asked for.
func TestADumpFindsTheClientOfAConnection(t *testing.T) {
	l := listen(t, "tcp4", "127.0.0.1:0")
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	from, to := unmapped(client.LocalAddr()), unmapped(l.Addr())
	clients, err := dump(to)
	if err != nil || !slices.ContainsFunc(clients, func(s socket) bool { return s.connects(from, to) && s.inode != 0 }) {
		t.Errorf("the client is not among %v, %v", clients, err)
	}
}

// TestPromise5ACallerWithAnotherPortIsItselfOrNobody: whoever brings it about that a
// port is changed must not be taken for another who is there at the same time.
func TestPromise5ACallerWithAnotherPortIsItselfOrNobody(t *testing.T) {
	host, _ := newHost(t)
	host.enter(t)
	r, listener := serve(t, "tcp4", "127.0.0.1:0")
	host.redirect(t, listener)
	host.run(t, fmt.Sprintf("iptables -t nat -A POSTROUTING -p tcp --dport %d ! --sport 40000 -j SNAT --to-source %s:1024-30000 --random",
		listener.Addr().(*net.TCPAddr).Port, hostIPv4))
	to := net.JoinHostPort(metadataIPv4, "80")
	comes := func(uid uint32, kind, to string) Origin {
		t.Helper()
		start(t, syscall.SysProcAttr{}, uid, "client", kind, to).Says("connected")
		return resolve(t, r, accept(t, listener))
	}
	if got := comes(alice, "plain", to); withoutUnit(got.Identity) != user(alice) {
		t.Errorf("alone: %+v", got)
	}
	// Alice's connection stays. Bob takes a port on the far side, and comes from it again.
	const port = "40000"
	if got := comes(bob, "from "+net.JoinHostPort(hostIPv4, port), listener.Addr().String()); withoutUnit(got.Identity) != user(bob) {
		t.Errorf("without the redirect: %+v", got)
	}
	got := comes(bob, "from "+net.JoinHostPort(hostIPv4, port), to)
	if strconv.Itoa(int(got.Peer.Port())) == port || got.Destination.String() != to {
		t.Fatalf("the port was not changed: %+v", got)
	}
	if got.Identity != (Identity{}) {
		t.Errorf("beside another: %+v", got)
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
