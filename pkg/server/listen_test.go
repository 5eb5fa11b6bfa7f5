package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/testkit"
)

func listen(t *testing.T, specs ...Spec) []*Listener {
	t.Helper()
	listeners, err := Listen(t.Context(), specs, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	})
	return listeners
}

// pass duplicates a socket under a name, as systemd hands it over.
func pass(t *testing.T, name string, socket interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	file, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name)
}

// listenAsSystemd opens a socket of another process, as far as Listen can tell.
func listenAsSystemd(t *testing.T, multipath bool) *net.TCPListener {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(multipath)
	l, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

func TestListenBindsEverySpec(t *testing.T) {
	listeners := listen(t,
		Spec{Name: "four", Address: netip.MustParseAddrPort("127.0.0.1:0")},
		Spec{Name: "six", Address: netip.MustParseAddrPort("[::1]:0")},
		Spec{Name: "all", Address: netip.MustParseAddrPort("[::]:0")},
	)
	for i, address := range []string{"127.0.0.1", "::1", "::"} {
		got := listeners[i].Addr()
		if got.Addr() != netip.MustParseAddr(address) || got.Port() == 0 {
			t.Errorf("listener %q is bound to %s, want %s and a port", listeners[i].Name, got, address)
		}
	}
}

func TestListenClosesEverythingAfterAnError(t *testing.T) {
	free := listen(t, Spec{Name: "first", Address: loopback})[0]
	address := free.Addr()
	_ = free.Close()
	specs := []Spec{{Name: "good", Address: address}, {Name: "bad", Address: netip.MustParseAddrPort("192.0.2.1:80")}}
	if _, err := Listen(t.Context(), specs, nil); err == nil {
		t.Fatal("an address of another host was bound")
	}
	listen(t, Spec{Name: "again", Address: address})
}

func TestListenSaysWhatToDo(t *testing.T) {
	taken := listen(t, Spec{Name: "first", Address: loopback})[0].Addr()
	for _, test := range []struct {
		name    string
		address netip.AddrPort
		want    []string
	}{
		{"address in use", taken, []string{`listener "main"`, "address already in use", fmt.Sprintf("ss -ltnp sport = :%d", taken.Port())}},
		{"no address of this host", netip.MustParseAddrPort("192.0.2.1:80"), []string{"192.0.2.1 is no address of this host", "ip address add 192.0.2.1/32 dev lo"}},
		{"no IPv6 address of this host", netip.MustParseAddrPort("[2001:db8::1]:80"), []string{"ip address add 2001:db8::1/128 dev lo"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Listen(t.Context(), []Spec{{Name: "main", Address: test.address}}, nil)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to contain %q", err, want)
				}
			}
		})
	}
	if err := explainBind(taken, os.NewSyscallError("bind", unix.EACCES)); !strings.Contains(err.Error(), "CAP_NET_BIND_SERVICE") {
		t.Errorf("got %q, want it to name the capability", err)
	}
}

func TestListenAdoptsAnInheritedSocket(t *testing.T) {
	original := listenAsSystemd(t, false)
	spec := Spec{Name: "main", Address: addrPort(original.Addr()), HopLimit: 3}
	listeners, err := Listen(t.Context(), []Spec{spec}, []*os.File{pass(t, "main", original)})
	if err != nil {
		t.Fatal(err)
	}
	defer listeners[0].Close()
	if got := listeners[0].Addr(); got != spec.Address {
		t.Errorf("bound to %s, want %s", got, spec.Address)
	}
	if got := acceptedHops(t, listeners[0], spec.Address.String(), unix.IPPROTO_IP, unix.IP_TTL); got != 3 {
		t.Errorf("hop limit %d, want 3", got)
	}
}

func TestListenRefusesAnInheritedSocketThatDoesNotFit(t *testing.T) {
	tcp, multipath := listenAsSystemd(t, false), listenAsSystemd(t, true)
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	path, err := net.Listen("unix", t.TempDir()+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	bound := boundOnly(t)
	address := addrPort(tcp.Addr())

	for _, test := range []struct {
		name    string
		address netip.AddrPort
		passed  []*os.File
		want    string
	}{
		{"another address", netip.MustParseAddrPort("127.0.0.1:1"), []*os.File{pass(t, "main", tcp)}, "the configured address is 127.0.0.1:1"},
		{"unknown name", address, []*os.File{pass(t, "purser.socket", tcp)}, "set FileDescriptorName= in the socket unit to one of: main"},
		{"two of a name", address, []*os.File{pass(t, "main", tcp), pass(t, "main", tcp)}, "two of this name"},
		{"datagrams", address, []*os.File{pass(t, "main", udp.(*net.UDPConn))}, "no TCP listener"},
		{"a path", address, []*os.File{pass(t, "main", path.(*net.UnixListener))}, "no TCP listener"},
		{"multipath TCP", addrPort(multipath.Addr()), []*os.File{pass(t, "main", multipath)}, "must not set SocketProtocol="},
		{"not listening", bound.address, []*os.File{bound.file}, "does not listen"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "multipath TCP" && !kernelSpeaksMultipathTCP() {
				t.Skip("SKIPPED, the kernel speaks no multipath TCP")
			}
			_, err := Listen(t.Context(), []Spec{{Name: "main", Address: test.address}}, test.passed)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to contain %q", err, test.want)
			}
			for _, file := range test.passed {
				if file.Close() == nil {
					t.Error("the inherited file is still open")
				}
			}
		})
	}
}

func kernelSpeaksMultipathTCP() bool {
	enabled, err := os.ReadFile("/proc/sys/net/mptcp/enabled")
	return err == nil && strings.TrimSpace(string(enabled)) == "1"
}

// boundOnly returns a TCP socket that is bound but does not listen.
func boundOnly(t *testing.T) (b struct {
	file    *os.File
	address netip.AddrPort
}) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	b.file = os.NewFile(uintptr(fd), "main")
	b.address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*unix.SockaddrInet4).Port))
	return b
}

func TestAcceptedConnectionsInheritTheHopLimit(t *testing.T) {
	for _, test := range []struct {
		name, bind, dial string
		level, option    int
	}{
		{"IPv4", "127.0.0.1:0", "127.0.0.1", unix.IPPROTO_IP, unix.IP_TTL},
		{"IPv6", "[::1]:0", "::1", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS},
		{"IPv4 on an IPv6 socket", "[::]:0", "127.0.0.1", unix.IPPROTO_IP, unix.IP_TTL},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, limit := range []int{1, 2, 255} {
				l := listen(t, Spec{Name: "main", Address: netip.MustParseAddrPort(test.bind), HopLimit: limit})[0]
				address := net.JoinHostPort(test.dial, fmt.Sprint(l.Addr().Port()))
				if got := acceptedHops(t, l, address, test.level, test.option); got != limit {
					t.Errorf("hop limit of an accepted connection: %d, want %d", got, limit)
				}
			}
		})
	}
}

// acceptedHops connects and returns a hop limit option of the accepted socket.
func acceptedHops(t *testing.T, l *Listener, address string, level, option int) int {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := l.socket.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	raw, err := accepted.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	if err := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), level, option) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Vector T27: what a router would see.
func TestEveryPacketOfAnAnswerCarriesTheHopLimit(t *testing.T) {
	raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		testkit.Lacks(t, "root for a raw socket: "+err.Error())
	}
	defer unix.Close(raw)
	if err := unix.SetsockoptTimeval(raw, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	f := startOn(t, Options{}, Spec{Name: "main", Address: loopback, HopLimit: 1})
	f.dial(1).get()

	port := f.listener.Addr().Port()
	packet := make([]byte, 1<<16)
	for seen, deadline := 0, time.Now().Add(10*time.Second); seen < 2; {
		if time.Now().After(deadline) {
			t.Fatal("the handshake and the answer were not seen on the wire")
		}
		n, _, err := unix.Recvfrom(raw, packet, 0)
		if err != nil {
			t.Fatal(err)
		}
		tcp := packet[int(packet[0]&15)*4 : n]
		if binary.BigEndian.Uint16(tcp) != port {
			continue
		}
		seen++
		if ttl := packet[8]; ttl != 1 {
			t.Errorf("packet with hop limit %d, want 1", ttl)
		}
	}
}

func TestInheritedSocketStaysOpenElsewhere(t *testing.T) {
	original := listenAsSystemd(t, false)
	spec := Spec{Name: "main", Address: addrPort(original.Addr())}
	listeners, err := Listen(t.Context(), []Spec{spec}, []*os.File{pass(t, "main", original)})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Resolver: &fakeResolver{}, Handler: answer})
	served := make(chan error, 1)
	go func() { served <- s.Serve(listeners...) }()
	dialTo(t, 1, spec.Address.String()).get()
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}

	waiting := dialTo(t, 1, spec.Address.String())
	waiting.send(get)
	accepted, err := original.Accept()
	if err != nil {
		t.Fatalf("the next process cannot accept: %v", err)
	}
	_ = accepted.Close()
}
