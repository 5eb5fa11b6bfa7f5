package caller

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

func newResolver(t testing.TB) *Resolver {
	t.Helper()
	r, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func listen(t *testing.T, network, address string) *net.TCPListener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.(*net.TCPListener)
}

// accept returns the connection of a client that has said it is connected.
func accept(t *testing.T, listener *net.TCPListener) *net.TCPConn {
	t.Helper()
	conn, err := listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func resolve(t *testing.T, r *Resolver, conn *net.TCPConn) Origin {
	t.Helper()
	origin, err := r.Resolve(conn)
	if err != nil {
		t.Errorf("resolve: %v", err)
	}
	return origin
}

// user is the Identity of a caller of whom just the uid matters.
func user(uid uint32) Identity { return Identity{UID: uid, Known: true} }

func withoutUnit(i Identity) Identity {
	i.Unit = ""
	return i
}

func TestResolverIdentifiesItself(t *testing.T) {
	r := newResolver(t)
	if err := r.SelfTest(); err != nil && !errors.Is(err, ErrNoUnits) {
		t.Error(err)
	}
}

func TestResolverIdentifiesLocalClients(t *testing.T) {
	r := newResolver(t)
	for _, c := range []struct{ name, network, listen, kind, ask string }{
		{"IPv4", "tcp4", "127.0.0.1:0", "plain", "127.0.0.1"},
		{"IPv6", "tcp6", "[::1]:0", "plain", "::1"},
		{"IPv4 client of a listener for both", "tcp", "[::]:0", "plain", "127.0.0.1"},
		{"IPv4 client on an IPv6 socket", "tcp4", "127.0.0.1:0", "mapped", "127.0.0.1"},
		{"both on IPv6 sockets", "tcp", "[::]:0", "mapped", "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			listener := listen(t, c.network, c.listen)
			to := net.JoinHostPort(c.ask, strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
			client := start(t, syscall.SysProcAttr{}, uint32(os.Geteuid()), "client", c.kind, to)
			client.Says("connected")
			got := resolve(t, r, accept(t, listener))
			if want := user(uint32(os.Geteuid())); withoutUnit(got.Identity) != want {
				t.Errorf("identity %s, want %s", got.Identity, want)
			}
			if !got.Local || got.Destination.String() != to || got.Peer.Addr().String() != c.ask {
				t.Errorf("origin %+v", got)
			}
		})
	}
}

func TestClosedClientIsUnknownAndHalfClosedIsNot(t *testing.T) {
	r := newResolver(t)
	listener := listen(t, "tcp4", "127.0.0.1:0")
	client := start(t, syscall.SysProcAttr{}, uint32(os.Geteuid()), "client", "plain", listener.Addr().String())
	client.Says("connected")
	conn := accept(t, listener)
	client.Does("halfclose")
	if got, want := withoutUnit(resolve(t, r, conn).Identity), user(uint32(os.Geteuid())); got != want {
		t.Errorf("half-closed: %s, want %s", got, want)
	}
	client.Does("close")
	got := resolve(t, r, conn)
	if got.Identity != (Identity{}) {
		t.Errorf("closed: %s, want unknown", got.Identity)
	}
	if !got.Local {
		t.Error("closed: not local")
	}
}

// TestListenerIsNotTakenForTheClient covers an answer that the kernel gives instead
// of none: a socket that listens on the client's port.
func TestListenerIsNotTakenForTheClient(t *testing.T) {
	r := newResolver(t)
	listener := listen(t, "tcp4", "127.0.0.1:0")
	local := unmapped(listener.Addr())
	remote := netip.MustParseAddrPort("127.0.0.1:1")
	found, err := r.queries.lookup(local, remote)
	if err != nil {
		t.Fatalf("the kernel does not answer with the listener: %v", err)
	}
	if found.connects(local, remote) {
		t.Errorf("taken for a client: %+v", found)
	}
}

func TestResolverServesManyAtOnce(t *testing.T) {
	r := newResolver(t)
	var conns []*net.TCPConn
	for range 32 {
		client, server, err := loopback()
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		defer server.Close()
		conns = append(conns, server)
	}
	var running sync.WaitGroup
	for _, conn := range conns {
		running.Go(func() {
			for range 100 {
				got, err := r.Resolve(conn)
				if err != nil || withoutUnit(got.Identity) != user(uint32(os.Geteuid())) || got.Peer != unmapped(conn.RemoteAddr()) {
					t.Errorf("origin %+v, %v", got, err)
					return
				}
			}
		})
	}
	running.Wait()
}

func TestClosedResolverSaysSo(t *testing.T) {
	r := newResolver(t)
	client, server, err := loopback()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	defer server.Close()
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Errorf("close twice: %v", err)
	}
	got, err := r.Resolve(server)
	if !errors.Is(err, errClosed) || got.Identity.Known || !got.Local {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAnswersToEarlierRequestsAreSkipped(t *testing.T) {
	s, err := openDiagSocket()
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(s.fd)
	client, server, err := loopback()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	defer server.Close()
	for range 3 { // asked, but never read
		s.sequence++
		s.compose(unmapped(server.LocalAddr()), unmapped(server.RemoteAddr()))
		if _, err := syscall.Write(s.fd, s.request[:]); err != nil {
			t.Fatal(err)
		}
	}
	peer, destination := unmapped(server.RemoteAddr()), unmapped(server.LocalAddr())
	if got, err := s.lookup(peer, destination); err != nil || !got.connects(peer, destination) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestOverflowUserIsUnknown(t *testing.T) {
	r := newResolver(t)
	r.overflow = overflow{possible: true, uid: uint32(os.Geteuid())} // as in a user namespace without us
	client, server, err := loopback()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	defer server.Close()
	if got := resolve(t, r, server); got.Identity.Known || got.Identity.Unit != "" || !got.Local {
		t.Errorf("origin %+v", got)
	}
	if got := r.Process(uint32(os.Geteuid()), int32(os.Getpid())); got != (Identity{}) {
		t.Errorf("by pid: %s", got)
	}
	if err := r.SelfTest(); err == nil || errors.Is(err, ErrNoUnits) {
		t.Errorf("self-test: %v", err)
	}
}

func TestProcessThatHasEndedHasNoUnit(t *testing.T) {
	r := newResolver(t)
	for _, pid := range []int32{-1, 0, 1<<31 - 1} {
		if got := r.Process(1000, pid); got != user(1000) {
			t.Errorf("pid %d: %+v", pid, got)
		}
	}
}

func TestOwnServiceIsToldByItsEnvironment(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		name, pid, socket, cgroup string
		want                      bool
	}{
		{"service", own, "", "/system.slice/purser.service", true},
		{"service with a delegated tree", own, "", "/system.slice/purser.service/main", true},
		{"shell in a service", "1", "/run/systemd/notify", "/system.slice/ci.service", false},
		{"older systemd", "", "/run/systemd/notify", "/system.slice/purser.service", true},
		{"socket of a test", "", "/tmp/notify", "/user.slice/user-1000.slice/session-1.scope", false},
		{"shell", "", "", "/user.slice/user-1000.slice/session-1.scope", false},
		{"shell in an older service", "", "", "/system.slice/ssh.service", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("SYSTEMD_EXEC_PID", c.pid)
			t.Setenv("NOTIFY_SOCKET", c.socket)
			if got := ownService(c.cgroup); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

func BenchmarkResolve(b *testing.B) {
	r := newResolver(b)
	client, server, err := loopback()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if origin, err := r.Resolve(server); err != nil || !origin.Identity.Known {
			b.Fatal(origin, err)
		}
	}
	runtime.KeepAlive(client) // a client that is closed is another case
}

func BenchmarkResolveConcurrently(b *testing.B) {
	r := newResolver(b)
	client, server, err := loopback()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if origin, err := r.Resolve(server); err != nil || !origin.Identity.Known {
				b.Error(origin, err)
				return
			}
		}
	})
	runtime.KeepAlive(client)
}
