package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bootTimeout is for a cold disk cache; a warm boot takes two seconds.
const bootTimeout = 90 * time.Second

// A Host is a small Debian with its own systemd, booted in a container with a network
// of its own that is connected to nothing. The tree that install.sh made stays as it
// is: the host writes into an overlay.
type Host struct {
	*Process
	// Root is the host's file system as seen from outside. /run and /tmp are not in
	// it once the host has booted.
	Root string

	dir     string
	leader  int
	cgroups []string
}

// Tree is where install.sh keeps the Debian that hosts are booted from.
func Tree() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	tree := filepath.Join(cache, "purser-e2e", "host")
	if _, err := os.Stat(tree + ".made"); err != nil {
		return "", fmt.Errorf("no Debian to boot, run pkg/e2e/install.sh first: %w", err)
	}
	return tree, nil
}

// NewHost lays out a host without booting it, so that files can be put into Root.
// Call Close when done, also after an error of Boot.
func NewHost() (*Host, error) {
	tree, err := Tree()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "purser-e2e-host-")
	if err != nil {
		return nil, err
	}
	h := &Host{Root: filepath.Join(dir, "root"), dir: dir}
	for _, sub := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", tree, dir, dir)
	if err := syscall.Mount("overlay", h.Root, "overlay", 0, options); err != nil {
		return nil, errors.Join(fmt.Errorf("mounting an overlay over %s: %w", tree, err), os.RemoveAll(dir))
	}
	return h, nil
}

// Write puts a file into the host, with the folders that it needs.
func (h *Host) Write(path, text string, mode fs.FileMode) error {
	path = filepath.Join(h.Root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode))
}

// Copy puts an executable from outside into the host.
func (h *Host) Copy(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return h.Write(to, string(text), 0o755)
}

// Boot starts the host and waits until systemd has started everything. Its network
// is that of a Namespace.
func (h *Host) Boot() error {
	name := filepath.Base(h.dir)
	procs, err := h.enterCgroups(name)
	if err != nil {
		return err
	}
	// nspawn makes its cgroups beside itself, so it gets a place of its own first.
	script := `for f in ` + strings.Join(procs, " ") + `; do echo $$ >"$f"; done; exec "$@"`
	h.Process, err = Command{Path: "/bin/sh", Args: []string{"-c", script, "sh",
		"/usr/bin/systemd-nspawn", "--quiet", "--boot", "--directory", h.Root, "--machine", name,
		"--private-network", "--register=no", "--keep-unit", "--console=pipe",
		// On a real host nothing keeps a service from confining itself.
		"--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
		"systemd.show_status=0"}}.Start()
	if err != nil {
		return err
	}
	err = Await(bootTimeout, func() error {
		if h.leader, err = h.findLeader(); err != nil {
			return err
		}
		r, err := h.Run("systemctl", "is-system-running")
		if state := strings.TrimSpace(r.Stdout); err == nil && state != "running" {
			err = fmt.Errorf("the host is %s: %s", state, r.Stderr)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("booting a host: %w; it said:\n%s", err, h.Output())
	}
	_, err = h.Must("sh", "-ec", `ip link add eth0 type veth peer name far0
		ip link set far0 up
		ip link set eth0 up
		ip address add `+HostIPv4+`/24 dev eth0
		ip address add `+HostIPv6+`/64 dev eth0 nodad
		ip route add default via 192.0.2.1
		ip -6 route add default via 2001:db8::1 dev eth0`)
	return err
}

// enterCgroups makes the host's cgroup in systemd's hierarchies and returns the files
// through which a process enters it.
func (h *Host) enterCgroups(name string) (procs []string, err error) {
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
			continue
		}
		group := filepath.Join(mount, name)
		if err := os.Mkdir(group, 0o755); err != nil {
			return nil, err
		}
		h.cgroups = append(h.cgroups, group)
		procs = append(procs, filepath.Join(group, "cgroup.procs"))
	}
	return procs, nil
}

// findLeader finds the host's PID 1: nspawn's only child that lasts.
func (h *Host) findLeader() (int, error) {
	pid := strconv.Itoa(h.PID())
	children, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	if err != nil {
		return 0, err
	}
	for child := range strings.FieldsSeq(string(children)) {
		if comm, err := os.ReadFile(filepath.Join("/proc", child, "comm")); err == nil && string(comm) == "systemd\n" {
			return strconv.Atoi(child)
		}
	}
	return 0, errors.New("the host's systemd has not started yet")
}

// Run runs a command in the host as root, outside of any unit.
func (h *Host) Run(args ...string) (Result, error) {
	return Command{Path: "/usr/bin/nsenter", Args: append([]string{"--target", strconv.Itoa(h.leader), "--all", "--"}, args...)}.Run()
}

// Must is Run for commands that have to succeed. It returns their output.
func (h *Host) Must(args ...string) (string, error) {
	r, err := h.Run(args...)
	if err == nil && r.Exit != 0 {
		err = fmt.Errorf("%q in the host ended with %d: %s%s", args, r.Exit, r.Stdout, r.Stderr)
	}
	return r.Stdout, err
}

// Unit runs a command as a service unit with that name, as the user, and waits for
// its end.
func (h *Host) Unit(name, user string, args ...string) (Result, error) {
	return h.Run(append([]string{"systemd-run", "--quiet", "--wait", "--collect", "--pipe",
		"--unit=" + name, "--property=User=" + user}, args...)...)
}

// Network is the host's network, to listen in.
func (h *Host) Network() *Namespace {
	return &Namespace{filepath.Base(h.dir), fmt.Sprintf("/proc/%d/ns/net", h.leader)}
}

// Show returns one property of a unit.
func (h *Host) Show(unit, property string) (string, error) {
	out, err := h.Must("systemctl", "show", "--value", "--property="+property, unit)
	return strings.TrimSpace(out), err
}

// Reboot halts the host and boots it with what it wrote. Its network is a new one.
func (h *Host) Reboot() error { return errors.Join(h.halt(), h.Boot()) }

// Close halts the host and removes what it wrote.
func (h *Host) Close() error {
	return errors.Join(h.halt(), syscall.Unmount(h.Root, 0), os.RemoveAll(h.dir))
}

// halt halts the host and removes its cgroups.
func (h *Host) halt() error {
	var errs []error
	if h.Process != nil {
		_, err := h.Stop()
		errs = append(errs, err)
	}
	for _, group := range h.cgroups {
		errs = append(errs, removeCgroup(group))
	}
	h.cgroups = nil
	return errors.Join(errs...)
}

// removeCgroup removes a cgroup and those below it.
func removeCgroup(group string) error {
	var dirs []string
	err := filepath.WalkDir(group, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, dir := range slices.Backward(dirs) {
		err = errors.Join(err, syscall.Rmdir(dir))
	}
	return err
}
