package caller

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVariable makes the test binary act as a client, a process of its own, since
// the user and the cgroup that the kernel reports are a process's.
const roleVariable = "PURSER_TEST_ROLE"

// program is a copy of the test binary that other users may execute.
var program string

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "client":
		exit(client(os.Args[1], os.Args[2:]))
	case "hurry":
		exit(hurry(os.Args[1]))
	case "walk":
		exit(walkTree(os.Args[1]))
	case "selftest":
		exit(selfTest())
	}
	dir, err := os.MkdirTemp("", "purser-caller-")
	if err == nil {
		program, err = copyProgram(dir)
	}
	if err != nil {
		exit(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func copyProgram(dir string) (string, error) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "caller.test")
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, self, 0o755)
}

// client connects a socket of the named kind to an address. Then it does one thing
// per line of its input (halfclose, close) and answers each with a line, until the
// input ends.
func client(kind string, arguments []string) error {
	to, err := netip.ParseAddrPort(arguments[0])
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
func hurry(address string) error {
	to, err := netip.ParseAddrPort(address)
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

func selfTest() error {
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
func walkTree(dir string) error {
	c, err := hierarchy{dir: dir}.count()
	if err == nil {
		fmt.Println(len(c.units), c.whole)
	}
	return err
}

// A process is a running copy of the test binary in a role.
type process struct {
	t       *testing.T
	command *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
}

// start runs the test binary in a role as a user. It ends with the test.
func start(t *testing.T, attributes syscall.SysProcAttr, uid uint32, role string, arguments ...string) *process {
	t.Helper()
	p := &process{t: t, command: exec.Command(program, arguments...)}
	p.command.Env = []string{roleVariable + "=" + role, "GORACE=atexit_sleep_ms=0"}
	p.command.Dir = "/"
	p.command.Stderr = t.Output()
	if uid != uint32(os.Geteuid()) {
		attributes.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	p.command.SysProcAttr = &attributes
	output, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.output = bufio.NewReader(output)
	if p.input, err = p.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatalf("start a %s as uid %d: %v", role, uid, err)
	}
	t.Cleanup(p.end)
	return p
}

// end closes the process's input, upon which it ends.
func (p *process) end() {
	if p.command.ProcessState != nil {
		return
	}
	p.input.Close()
	if err := p.command.Wait(); err != nil {
		p.t.Errorf("%v: %v", p.command.Args, err)
	}
}

// says waits for a line of output.
func (p *process) says(want string) {
	p.t.Helper()
	if line, err := p.output.ReadString('\n'); strings.TrimSuffix(line, "\n") != want {
		p.t.Fatalf("%v said %q, %v; want %q", p.command.Args, line, err, want)
	}
}

// does has the process do one thing.
func (p *process) does(what string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.input, what); err != nil {
		p.t.Fatal(err)
	}
	p.says("done")
}
