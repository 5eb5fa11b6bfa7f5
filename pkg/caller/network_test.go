package caller

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/testkit"
)

// The addresses of a network made for a test: the host's own, a neighbour's, and
// those at which the metadata services are expected.
const (
	hostIPv4      = "192.0.2.10"
	hostIPv6      = "2001:db8::10"
	neighbourIPv4 = "192.0.2.20"
	neighbourIPv6 = "2001:db8::20"
	metadataIPv4  = "169.254.169.254"
	metadataIPv6  = "fd00:ec2::254"
)

// A network is a network namespace of its own.
type network struct{ namespace *os.File }

// newNetwork returns a namespace with nothing in it but a loopback interface. It
// goes when the test and the processes in it have ended.
func newNetwork(t *testing.T) *network {
	t.Helper()
	testkit.NeedRoot(t)
	made := make(chan error)
	n := &network{}
	go func() {
		runtime.LockOSThread() // never unlocked, so the thread goes with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.namespace, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		testkit.Lacks(t, "network namespaces: "+err.Error())
	}
	t.Cleanup(func() { n.namespace.Close() })
	n.run(t, "ip link set lo up")
	return n
}

// within calls f with sockets and processes that f makes being in the namespace.
func (n *network) within(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(int(n.namespace.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// enter brings the rest of the test into the namespace.
func (n *network) enter(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Setns(int(n.namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// run executes commands, one per line, in the namespace.
func (n *network) run(t *testing.T, commands string) {
	t.Helper()
	n.within(t, func() error {
		for line := range strings.Lines(commands) {
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			command := exec.Command(words[0], words[1:]...)
			if output, err := command.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", strings.TrimSpace(line), err, output)
			}
		}
		return nil
	})
}

// newHost returns a namespace like a host with an uplink, and its neighbour.
func newHost(t *testing.T) (host, neighbour *network) {
	t.Helper()
	host, neighbour = newNetwork(t), newNetwork(t)
	host.run(t, fmt.Sprintf(`
		ip link add uplink0 type veth peer name uplink1
		ip link set uplink1 netns /proc/%d/fd/%d
		ip address add %s/24 dev uplink0
		ip address add %s/64 dev uplink0 nodad
		ip link set uplink0 up`, os.Getpid(), neighbour.namespace.Fd(), hostIPv4, hostIPv6))
	neighbour.run(t, fmt.Sprintf(`
		ip address add %s/24 dev uplink1
		ip address add %s/64 dev uplink1 nodad
		ip link set uplink1 up
		ip route add default via %s
		ip route add default via %s`, neighbourIPv4, neighbourIPv6, hostIPv4, hostIPv6))
	host.run(t, fmt.Sprintf(`
		ip route add default via %s
		ip route add default via %s`, neighbourIPv4, neighbourIPv6))
	return host, neighbour
}

// redirect leads what local processes ask of the metadata services to a listener.
func (n *network) redirect(t *testing.T, listener *net.TCPListener) {
	t.Helper()
	port := listener.Addr().(*net.TCPAddr).Port
	const rule = " -t nat -A OUTPUT -p tcp --dport 80 -m addrtype --src-type LOCAL -j DNAT -d "
	n.run(t, fmt.Sprintf(`
		iptables`+rule+`%s --to-destination 127.0.0.1:%d
		ip6tables`+rule+`%s --to-destination [::1]:%d`, metadataIPv4, port, metadataIPv6, port))
}
