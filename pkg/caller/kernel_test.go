package caller

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/purser-agent/purser/pkg/testkit"
)

// Users that need no account.
const (
	alice = 54321
	bob   = 54322
)

// serve returns a Resolver and a listener in the namespace that the test is in.
func serve(t *testing.T, network, address string) (*Resolver, *net.TCPListener) {
	t.Helper()
	return newResolver(t), listen(t, network, address)
}

// TestUsersAreIdentifiedThroughTheRedirect is the set-up of production: the client
// asks for the metadata address and a DNAT rule leads it to the listener.
func TestUsersAreIdentifiedThroughTheRedirect(t *testing.T) {
	for _, c := range []struct{ name, network, listen, kind, ask, from string }{
		{"IPv4", "tcp4", "127.0.0.1:0", "plain", metadataIPv4, hostIPv4},
		{"IPv6", "tcp6", "[::1]:0", "plain", metadataIPv6, hostIPv6},
		{"IPv4 to a listener for both", "tcp", "[::]:0", "plain", metadataIPv4, hostIPv4},
		{"IPv6 to a listener for both", "tcp", "[::]:0", "plain", metadataIPv6, hostIPv6},
		{"IPv4 on an IPv6 socket", "tcp4", "127.0.0.1:0", "mapped", metadataIPv4, hostIPv4},
		{"IPv4, both on IPv6 sockets", "tcp", "[::]:0", "mapped", metadataIPv4, hostIPv4},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, _ := newHost(t)
			host.enter(t)
			r, listener := serve(t, c.network, c.listen)
			host.redirect(t, listener)
			for _, uid := range []uint32{alice, bob, 0} {
				to := net.JoinHostPort(c.ask, "80")
				client := start(t, syscall.SysProcAttr{}, uid, "client", c.kind, to)
				client.Says("connected")
				conn := accept(t, listener)
				got := resolve(t, r, conn)
				if got.Destination.String() != to || got.Peer.Addr().String() != c.from || !got.Local {
					t.Errorf("origin %+v", got)
				}
				if want := user(uid); withoutUnit(got.Identity) != want {
					t.Errorf("identity %s, want %s", got.Identity, want)
				}
				if _, err := r.queries.lookup(got.Peer, unmapped(conn.LocalAddr())); err != errNoSocket {
					t.Errorf("there is a socket to the address after DNAT: %v; this is no redirect", err)
				}

				client.Does("halfclose")
				if got, want := resolve(t, r, conn).Identity, user(uid); withoutUnit(got) != want {
					t.Errorf("half-closed: identity %s, want %s", got, want)
				}
				client.Does("close")
				if got := resolve(t, r, conn); got.Identity != (Identity{}) || !got.Local {
					t.Errorf("closed: origin %+v", got)
				}
			}
		})
	}
}

func TestUsersAreIdentifiedWithoutTheRedirect(t *testing.T) {
	host, _ := newHost(t)
	host.enter(t)
	r, listener := serve(t, "tcp", "[::]:0")
	host.redirect(t, listener)
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	for _, address := range []string{"127.0.0.1", "::1", hostIPv4, hostIPv6} {
		to := net.JoinHostPort(address, port)
		client := start(t, syscall.SysProcAttr{}, alice, "client", "plain", to)
		client.Says("connected")
		got := resolve(t, r, accept(t, listener))
		if withoutUnit(got.Identity) != user(alice) || !got.Local || got.Destination.String() != to {
			t.Errorf("%s: origin %+v", to, got)
		}
	}
}

func TestClientThatIsBoundToAnInterfaceIsUnknown(t *testing.T) {
	host, _ := newHost(t)
	host.enter(t)
	r, listener := serve(t, "tcp4", "127.0.0.1:0")
	client := start(t, syscall.SysProcAttr{}, 0, "client", "bound", listener.Addr().String())
	client.Says("connected")
	if got := resolve(t, r, accept(t, listener)); got.Identity != (Identity{}) || !got.Local {
		t.Errorf("origin %+v", got)
	}
}

func TestOtherHostsAreNeitherKnownNorLocal(t *testing.T) {
	for _, c := range []struct{ name, ask, from string }{
		{"IPv4", hostIPv4, neighbourIPv4},
		{"IPv6", hostIPv6, neighbourIPv6},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, neighbour := newHost(t)
			host.enter(t)
			r, listener := serve(t, "tcp", "[::]:0")
			to := net.JoinHostPort(c.ask, strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
			neighbour.enter(t)
			client := start(t, syscall.SysProcAttr{}, alice, "client", "plain", to)
			host.enter(t)
			client.Says("connected")
			got := resolve(t, r, accept(t, listener))
			if got.Identity != (Identity{}) || got.Local || got.Peer.Addr() != netip.MustParseAddr(c.from) {
				t.Errorf("origin %+v", got)
			}
		})
	}
}

// TestClientsInAHurryAreNeverRoot covers the closed socket, of which the kernel says
// that it is root's, at whatever moment the client closes it.
func TestClientsInAHurryAreNeverRoot(t *testing.T) {
	host, _ := newHost(t)
	host.enter(t)
	r, listener := serve(t, "tcp4", "127.0.0.1:0")
	host.redirect(t, listener)
	start(t, syscall.SysProcAttr{}, alice, "hurry", net.JoinHostPort(metadataIPv4, "80"))
	for range hurries {
		conn, err := listener.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		origin, err := r.Resolve(conn)
		if got := withoutUnit(origin.Identity); got != (Identity{}) && got != user(alice) {
			t.Errorf("identity %s, want unknown or uid %d; %v", got, alice, err)
		}
		conn.Close()
	}
}

// newCgroup makes a cgroup that is named like a unit and returns a descriptor with
// which a process can be started in it.
func newCgroup(t *testing.T, components ...string) int {
	t.Helper()
	testkit.NeedRoot(t)
	cgroups, err := findHierarchy()
	if err != nil {
		t.Skipf("needs units: %v", err)
	}
	dir := cgroups.dir
	for _, component := range components {
		dir = filepath.Join(dir, component)
		made := dir
		if err := os.Mkdir(made, 0o755); err != nil {
			t.Skipf("needs a writable cgroup2: %v", err)
		}
		t.Cleanup(func() {
			if err := os.Remove(made); err != nil {
				t.Errorf("leaves a cgroup behind: %v", err)
			}
		})
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

func TestUnitsAreIdentifiedThroughTheRedirect(t *testing.T) {
	slice := fmt.Sprintf("purser-test-%d.slice", os.Getpid())
	service := fmt.Sprintf("purser-test-%d.service", os.Getpid())
	manager := fmt.Sprintf("user@%d.service", os.Getpid())
	for _, c := range []struct {
		name   string
		cgroup []string
		want   string
	}{
		{"service", []string{slice, service}, service},
		{"folder of a service", []string{slice, service, "worker"}, service},
		{"user's unit with the name of a service", []string{slice, manager, "app.slice", service}, manager},
		{"slice", []string{slice}, ""},
		{"no unit", []string{fmt.Sprintf("purser-test-%d", os.Getpid()), service}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, _ := newHost(t)
			host.enter(t)
			r, listener := serve(t, "tcp4", "127.0.0.1:0")
			host.redirect(t, listener)
			if err := r.SelfTest(); err != nil {
				t.Fatal(err) // the table of units is from before the cgroup
			}
			in := syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: newCgroup(t, c.cgroup...)}
			client := start(t, in, alice, "client", "plain", net.JoinHostPort(metadataIPv4, "80"))
			client.Says("connected")
			want := Identity{UID: alice, Known: true, Unit: c.want}
			if got := resolve(t, r, accept(t, listener)).Identity; got != want {
				t.Errorf("identity %+v, want %+v", got, want)
			}
			if got := r.Process(alice, int32(client.PID())); got != want {
				t.Errorf("identity by pid %+v, want %+v", got, want)
			}
		})
	}
}

func TestOnlyAServiceTakesItsCgroupForItself(t *testing.T) {
	for _, c := range []struct {
		name, pid string
		want      bool
	}{
		{"as a service", strconv.Itoa(os.Getpid()), true},
		{"from a shell", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("SYSTEMD_EXEC_PID", c.pid)
			t.Setenv("NOTIFY_SOCKET", "")
			r := newResolver(t)
			if r.noUnits != nil {
				t.Skipf("needs units: %v", r.noUnits)
			}
			listener := listen(t, "tcp4", "127.0.0.1:0")
			client := start(t, syscall.SysProcAttr{}, uint32(os.Geteuid()), "client", "plain", listener.Addr().String())
			client.Says("connected")
			if got := resolve(t, r, accept(t, listener)).Identity; got.Self != c.want || !got.Known {
				t.Errorf("identity %+v, want self %t", got, c.want)
			}
			if os.Geteuid() != 0 {
				return
			}
			in := syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: newCgroup(t, fmt.Sprintf("purser-test-%d.slice", os.Getpid()))}
			other := start(t, in, alice, "client", "plain", listener.Addr().String())
			other.Says("connected")
			if got := resolve(t, r, accept(t, listener)).Identity; got.Self {
				t.Errorf("another cgroup: identity %+v", got)
			}
		})
	}
}

func TestResolverNeedsNoPrivilege(t *testing.T) {
	testkit.NeedRoot(t)
	process := start(t, syscall.SysProcAttr{}, alice, "selftest")
	process.Says("identified")
}

// TestFolderThatHidesItsContentsHidesOnlyThese covers a user who takes the right to
// read away from a cgroup that is his.
func TestFolderThatHidesItsContentsHidesOnlyThese(t *testing.T) {
	testkit.NeedRoot(t)
	dir := newTree(t, "a.slice/x.service/hidden/below", "b.slice/y.service")
	for folder := dir; folder != "/tmp" && folder != "/"; folder = filepath.Dir(folder) {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "a.slice/x.service/hidden"), 0); err != nil {
		t.Fatal(err)
	}
	start(t, syscall.SysProcAttr{}, alice, "walk", dir).Says("6 true") // all but what is below
}
