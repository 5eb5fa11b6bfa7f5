// Package harness starts the built binaries of Purser for tests and benchmarks: an
// agent and a mock on free loopback ports with a configuration of their own, network
// namespaces with the real redirect, a booted host in a container, and a virtual machine
// with a kernel of its own. It collects everything that the processes say and ends them
// by their process ID.
//
// It knows the command line, the configuration and the HTTP interfaces of the
// binaries and nothing of their source; what they should do is for the tests to say.
package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopTimeout is how long a process may take to end after it was told to.
const stopTimeout = 10 * time.Second

// A Command says how a process is started.
type Command struct {
	Path string
	Args []string
	// Env is the whole environment besides PATH and LANG.
	Env []string
	// UID and GID start the process as another user, which only root can. Groups are
	// never inherited then.
	UID, GID int
	// Namespace is where the process runs, nil for where the test does.
	Namespace *Namespace
	// Stdin may be nil for none. Stdout is nil where Output shall have it.
	Stdin  io.Reader
	Stdout io.Writer
}

// cmd builds what os/exec needs. A namespace is entered by nsenter, and not by
// `ip netns exec`, which would hide the cgroup mounts below /sys.
func (c Command) cmd() *exec.Cmd {
	path, args := c.Path, c.Args
	if c.Namespace != nil {
		wrapped := []string{"--net=" + c.Namespace.file}
		if c.UID != 0 {
			wrapped = append(wrapped, "--setuid", strconv.Itoa(c.UID), "--setgid", strconv.Itoa(c.GID))
		}
		path, args = "/usr/bin/nsenter", append(append(wrapped, "--", path), args...)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, c.Env...)
	cmd.Stdin = c.Stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.UID != 0 && c.Namespace == nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(c.UID), Gid: uint32(c.GID)}
	}
	return cmd
}

// A Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Exit           int
}

// Run starts the command and waits for its end, at most 60 seconds. The error is
// only for a command that could not be run.
func (c Command) Run() (Result, error) {
	cmd := c.cmd()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return Result{}, err
	}
	slow := time.AfterFunc(time.Minute, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer slow.Stop()
	err := cmd.Wait()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return Result{}, err
	}
	return Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}, nil
}

// A Process is a running command whose output is kept.
type Process struct {
	cmd  *exec.Cmd
	out  output
	done chan struct{}
}

// Start starts the command.
func (c Command) Start() (*Process, error) {
	p := &Process{cmd: c.cmd(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if c.Stdout != nil {
		p.cmd.Stdout = c.Stdout
	}
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Path, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output is everything that was written to stdout and stderr so far.
func (p *Process) Output() string { return p.out.String() }

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Ended is closed when the process has ended and its output is complete.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Exit waits for the end and returns the exit code, or -1 for a signal. A process
// that does not end in time is killed with all of its group.
func (p *Process) Exit(timeout time.Duration) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(timeout):
	}
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.done
	return -1, fmt.Errorf("%s did not end within %v and was killed", filepath.Base(p.cmd.Path), timeout)
}

// Stop ends the process with SIGTERM and returns its exit code. Stopping twice is
// fine.
func (p *Process) Stop() (int, error) {
	select {
	case <-p.done:
	default:
		_ = p.Signal(syscall.SIGTERM)
	}
	return p.Exit(stopTimeout)
}

// output keeps what a process writes, for several readers at once.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Root is the repository's top folder, found from the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module github.com/purser-agent/purser\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside Purser's repository")
		}
		dir = parent
	}
}

// Binary is the path of a built binary.
func Binary(name string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not built, run `make build` first: %w", name, err)
	}
	return path, nil
}

// The ports that FreePort hands out lie below those that the kernel takes for outgoing
// connections, so that none of these gets in the way before the port is used.
const (
	firstPort = 10_000
	lastPort  = 32_000
)

var handedOut sync.Map // of ports, each only once

// FreePort returns a loopback port that nobody listened on a moment ago.
func FreePort() (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if _, taken := handedOut.LoadOrStore(port, true); taken {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port on loopback: %w", err)
}

// Await calls check about every 10 ms until it returns nil, and returns its last
// error when the time is over.
func Await(timeout time.Duration, check func() error) error {
	deadline := time.Now().Add(timeout)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", timeout, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
