package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The addresses inside a Namespace, all from the documentation ranges.
const (
	HostIPv4 = "192.0.2.10"
	HostIPv6 = "2001:db8::10"
)

// A Namespace is a network namespace that looks like a host with one network card
// and a default route, but is connected to nothing: what is sent out is lost, so that
// no test reaches a metadata service of the machine it runs on.
type Namespace struct {
	Name string
	file string
}

var namespaces atomic.Int32

func named(name string) *Namespace { return &Namespace{name, "/run/netns/" + name} }

// NewNamespace makes one; only root can. Call Delete when done.
func NewNamespace() (*Namespace, error) {
	n := named(fmt.Sprintf("purser-e2e-%d-%d", os.Getpid(), namespaces.Add(1)))
	if err := command("ip", "netns", "add", n.Name); err != nil {
		return nil, err
	}
	for _, line := range []string{
		"link set lo up",
		"link add eth0 type veth peer name far0",
		"link set far0 up",
		"link set eth0 up",
		"address add " + HostIPv4 + "/24 dev eth0",
		"address add " + HostIPv6 + "/64 dev eth0 nodad",
		"route add default via 192.0.2.1",
		"-6 route add default via 2001:db8::1 dev eth0",
	} {
		if err := command("ip", append([]string{"-n", n.Name}, strings.Fields(line)...)...); err != nil {
			return nil, errors.Join(err, n.Delete())
		}
	}
	return n, nil
}

// Neighbour makes a second host at the other end of the first one's network card.
// Delete it, too.
func (n *Namespace) Neighbour() (*Namespace, error) {
	far := named(n.Name + "-far")
	if err := command("ip", "netns", "add", far.Name); err != nil {
		return nil, err
	}
	err := command("ip", "-n", n.Name, "link", "set", "far0", "netns", far.Name)
	for _, line := range []string{"link set lo up", "link set far0 up", "address add 192.0.2.1/24 dev far0"} {
		if err == nil {
			err = command("ip", append([]string{"-n", far.Name}, strings.Fields(line)...)...)
		}
	}
	if err != nil {
		return nil, errors.Join(err, far.Delete())
	}
	return far, nil
}

// Redirect installs the rule of alppaca's manual: what local processes send to the
// metadata address arrives at the port on loopback.
func (n *Namespace) Redirect(port int) error {
	return n.iptables("iptables", "169.254.169.254/32", fmt.Sprintf("127.0.0.1:%d", port))
}

// RedirectIPv6 does the same for the IPv6 metadata address.
func (n *Namespace) RedirectIPv6(port int) error {
	return n.iptables("ip6tables", "fd00:ec2::254/128", fmt.Sprintf("[::1]:%d", port))
}

func (n *Namespace) iptables(tool, metadata, to string) error {
	return command("nsenter", "--net="+n.file, "--", tool, "-w", "-t", "nat", "-A", "OUTPUT",
		"-d", metadata, "-p", "tcp", "-m", "addrtype", "--src-type", "LOCAL", "-j", "DNAT", "--to-destination", to)
}

// Listen opens a listening socket inside the namespace for the calling process.
func (n *Namespace) Listen(address string) (net.Listener, error) {
	var l net.Listener
	err := n.inside(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// ListenPacket is Listen for UDP.
func (n *Namespace) ListenPacket(address string) (net.PacketConn, error) {
	var c net.PacketConn
	err := n.inside(func() (err error) {
		c, err = net.ListenPacket("udp", address)
		return err
	})
	return c, err
}

// Dial connects from inside the namespace.
func (n *Namespace) Dial(network, address string) (net.Conn, error) {
	var c net.Conn
	err := n.inside(func() (err error) {
		c, err = net.Dial(network, address)
		return err
	})
	return c, err
}

// inside calls do on a thread that has entered the namespace. The thread is never
// unlocked and so ends with its goroutine: no other code can run on it by accident.
func (n *Namespace) inside(do func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		result <- func() error {
			f, err := os.Open(n.file)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("entering network namespace %s: %w", n.Name, err)
			}
			return do()
		}()
	}()
	return <-result
}

// Delete removes the namespace. Processes in it must have ended.
func (n *Namespace) Delete() error { return command("ip", "netns", "delete", n.Name) }

// command runs a tool of the system and puts what it said into the error.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// HTTP returns a client whose connections begin inside the namespace; a nil namespace
// is where the test runs. It uses no proxy and follows no redirect.
func (n *Namespace) HTTP() *http.Client {
	transport := &http.Transport{}
	if n != nil {
		transport.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
			return n.Dial(network, address)
		}
	}
	return &http.Client{
		Transport:     transport,
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ChangePorts gives every connection to a port another source port.
func (n *Namespace) ChangePorts(port int) error {
	return command("nsenter", "--net="+n.file, "--", "iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-p", "tcp",
		"--dport", fmt.Sprint(port), "-j", "SNAT", "--to-source", HostIPv4+":1024-30000", "--random")
}
