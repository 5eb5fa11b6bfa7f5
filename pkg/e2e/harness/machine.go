package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A Machine is a small virtual one with a kernel of its own, whose settings a test may
// change. Its processor is emulated, so it may be of another architecture than this one;
// its file system is in memory, its only network is loopback, and all that it says comes
// by a serial port.
type Machine struct {
	tree   string // what becomes its file system
	kernel string // the file
	board  board
}

// A board is what differs by architecture.
type board struct {
	console string
	qemu    []string
}

var boards = map[string]board{
	"amd64": {"ttyS0", []string{"/usr/bin/qemu-system-x86_64", "-cpu", "max"}},
	// Pointer authentication as the architecture describes it takes most of the time.
	"arm64": {"ttyAMA0", []string{"/usr/bin/qemu-system-aarch64", "-machine", "virt", "-cpu", "max,pauth-impdef=on"}},
}

// firstProcess runs the script. Two modules let Purser find its callers.
const firstProcess = `#!/bin/sh
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
insmod /lib/inet_diag.ko
insmod /lib/tcp_diag.ko
ip link set lo up
sh /script
echo "the script ended with $?"
poweroff -f
`

var scriptEnd = regexp.MustCompile(`(?m)^the script ended with (\d+)$`)

// NewMachine lays out a machine without booting it, so that files can be put into it.
// The architecture has Go's name. Call Close when done.
func NewMachine(arch string) (*Machine, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	parts := filepath.Join(cache, "purser-e2e", "machines")
	for _, needed := range []string{parts + ".made", boards[arch].qemu[0], "/bin/cpio"} {
		if _, err := os.Stat(needed); err != nil {
			return nil, fmt.Errorf("no machine to boot, run pkg/e2e/install.sh first: %w", err)
		}
	}
	tree, err := os.MkdirTemp("", "purser-e2e-machine-")
	if err != nil {
		return nil, err
	}
	parts = filepath.Join(parts, arch)
	m := &Machine{tree: tree, kernel: filepath.Join(parts, "vmlinuz"), board: boards[arch]}
	for _, folder := range []string{"bin", "lib", "proc", "sys", "dev", "run", "root", "tmp", "var"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(tree, folder), 0o755))
	}
	err = errors.Join(err,
		os.Chmod(tree, 0o755), // as it becomes the root of all users
		os.Chmod(filepath.Join(tree, "tmp"), 0o777|fs.ModeSticky),
		m.Copy(filepath.Join(parts, "busybox"), "/bin/busybox"),
		os.Symlink("busybox", filepath.Join(tree, "bin/sh")),
		os.Symlink("/run", filepath.Join(tree, "var/run")),
		m.Copy(filepath.Join(parts, "inet_diag.ko"), "/lib/inet_diag.ko"),
		m.Copy(filepath.Join(parts, "tcp_diag.ko"), "/lib/tcp_diag.ko"),
		m.Write("/init", firstProcess, 0o755),
		m.Write("/etc/hosts", "127.0.0.1 localhost\n", 0o644),
		m.Write("/etc/passwd", "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n", 0o644),
		m.Write("/etc/group", "root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n", 0o644))
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Path is where a file of the machine is before it boots.
func (m *Machine) Path(path string) string { return filepath.Join(m.tree, path) }

// Write puts a file into the machine, with the folders that it needs.
func (m *Machine) Write(path, text string, mode fs.FileMode) error {
	path = m.Path(path)
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode))
}

// Copy puts an executable from outside into the machine.
func (m *Machine) Copy(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return m.Write(to, string(text), 0o755)
}

// Run boots the machine, runs a shell script in it as root, and halts it. The exit code
// is the script's, and the output all that came by the serial port.
func (m *Machine) Run(script string, timeout time.Duration) (Result, error) {
	if err := m.Write("/script", script, 0o644); err != nil {
		return Result{}, err
	}
	image := m.tree + ".cpio"
	defer os.Remove(image)
	packed, err := Command{Path: "/bin/sh", Args: []string{"-c", `cd "$1" && find . | /bin/cpio --quiet --format=newc --owner=+0:+0 --create >"$2"`, "sh", m.tree, image}}.Run()
	if err != nil || packed.Exit != 0 {
		return Result{}, fmt.Errorf("packing the machine's files: %w%s", err, packed.Stderr)
	}
	p, err := Command{Path: m.board.qemu[0], Args: append(m.board.qemu[1:],
		"-accel", "tcg", "-smp", "2", "-m", "768", "-nodefaults", "-display", "none", "-nic", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", m.kernel, "-initrd", image, "-append", "quiet panic=-1 console="+m.board.console)}.Start()
	if err != nil {
		return Result{}, err
	}
	_, err = p.Exit(timeout)
	r := Result{Stdout: strings.ReplaceAll(p.Output(), "\r\n", "\n")}
	end := scriptEnd.FindStringSubmatch(r.Stdout)
	if err == nil && end == nil {
		err = errors.New("the machine halted before the script ended")
	}
	if err != nil {
		return r, err
	}
	_, err = fmt.Sscan(end[1], &r.Exit)
	return r, err
}

// Close removes what was laid out.
func (m *Machine) Close() error { return os.RemoveAll(m.tree) }
