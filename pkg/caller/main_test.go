package caller

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/testkit"
)

func TestMain(m *testing.M) {
	testkit.Main(m, true, map[string]func(arguments []string) error{
		"client":   client,
		"hurry":    hurry,
		"walk":     walkTree,
		"selftest": selfTest,
	})
}

// client connects a socket of a kind to an address. Then it does one thing
// per line of its input (halfclose, close) and answers each with a line, until the
// input ends.
func client(arguments []string) error {
	kind, address := arguments[0], arguments[1]
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	fd, err := connect(kind, to)
	if err != nil {
		return err
	}
	fmt.Println("connected")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch lines.Text() {
		case "halfclose":
			err = unix.Shutdown(fd, unix.SHUT_WR)
		case "close":
			err = unix.Close(fd)
		}
		if err != nil {
			return err
		}
		fmt.Println("done")
	}
	return nil
}

// hurries is how many connections the client in a hurry makes.
const hurries = 500

// hurry connects and closes at once, half of the time with a reset.
func hurry(arguments []string) error {
	to, err := netip.ParseAddrPort(arguments[0])
	if err != nil {
		return err
	}
	for i := range hurries {
		fd, err := connect("plain", to)
		if err != nil {
			return err
		}
		linger := unix.Linger{Onoff: int32(i % 2)}
		if err := errors.Join(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &linger), unix.Close(fd)); err != nil {
			return err
		}
	}
	return nil
}

func connect(kind string, to netip.AddrPort) (int, error) {
	family, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if kind != "mapped" && to.Addr().Is4() {
		family, address = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if kind == "bound" {
		if err := unix.BindToDevice(fd, "lo"); err != nil {
			return 0, err
		}
	}
	if from, ok := strings.CutPrefix(kind, "from "); ok {
		own, err := netip.ParseAddrPort(from)
		if err != nil {
			return 0, err
		}
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Port: int(own.Port()), Addr: own.Addr().As4()}))
		if err != nil {
			return 0, err
		}
	}
	return fd, unix.Connect(fd, address)
}

func selfTest([]string) error {
	r, err := New()
	if err != nil {
		return err
	}
	if err := r.SelfTest(); err != nil && !errors.Is(err, ErrNoUnits) {
		return err
	}
	fmt.Println("identified")
	return r.Close()
}

// walkTree counts the cgroups below a folder as whoever runs this.
func walkTree(arguments []string) error {
	c, err := hierarchy{dir: arguments[0]}.count()
	if err == nil {
		fmt.Println(len(c.units), c.whole)
	}
	return err
}

// start runs a role as a user.
func start(t *testing.T, attributes syscall.SysProcAttr, uid uint32, role string, arguments ...string) *testkit.Process {
	t.Helper()
	if uid != uint32(os.Geteuid()) {
		attributes.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	return testkit.Start(t, attributes, role, arguments...)
}
