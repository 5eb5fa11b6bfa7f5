package testkit

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// roleVariable makes a test's program take a role, which is a process of its own: the
// kernel keeps users, groups and cgroups by process.
const roleVariable = "PURSER_TEST_ROLE"

// program is this program, where other users may execute it.
var program string

// Main runs the tests, or the role that this process was started in. Without cgo roles
// run in a program that is built anew if this one has it, as the race detector needs it.
func Main(m *testing.M, cgo bool, roles map[string]func(arguments []string) error) {
	if role := os.Getenv(roleVariable); role != "" {
		exit(roles[role](os.Args[1:]))
	}
	dir, err := os.MkdirTemp("", "purser-test-")
	if err == nil {
		program = filepath.Join(dir, "program")
		err = install(dir, cgo)
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

// install puts the program into a folder.
func install(dir string, cgo bool) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	built, _ := debug.ReadBuildInfo()
	if !cgo && !slices.Contains(built.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"}) {
		build := exec.Command("go", "test", "-c", "-o", program, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return os.Chmod(program, 0o755)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(program, self, 0o755)
}

// A Process is a test's program in a role.
type Process struct {
	t       *testing.T
	command *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
}

// Start runs a role. It ends with the test.
func Start(t *testing.T, attributes syscall.SysProcAttr, role string, arguments ...string) *Process {
	t.Helper()
	p := &Process{t: t, command: exec.Command(program, arguments...)}
	p.command.Env = []string{roleVariable + "=" + role, "GORACE=atexit_sleep_ms=0"}
	p.command.Dir = "/"
	p.command.Stderr = t.Output()
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
		t.Fatalf("start in the role %q: %v", role, err)
	}
	t.Cleanup(p.End)
	return p
}

// End closes the process's input, upon which it ends.
func (p *Process) End() {
	if p.command.ProcessState != nil {
		return
	}
	p.input.Close()
	if err := p.command.Wait(); err != nil {
		p.t.Errorf("%v: %v", p.command.Args, err)
	}
}

// PID is the process's.
func (p *Process) PID() int { return p.command.Process.Pid }

// Line waits for a line of output.
func (p *Process) Line() string {
	p.t.Helper()
	line, err := p.output.ReadString('\n')
	if err != nil {
		p.t.Fatalf("%v said %q, then %v", p.command.Args, line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// Says waits for a line of output that it knows.
func (p *Process) Says(want string) {
	p.t.Helper()
	if got := p.Line(); got != want {
		p.t.Fatalf("%v said %q, want %q", p.command.Args, got, want)
	}
}

// Does has the process do what a line of its input says, which it answers with done.
func (p *Process) Does(what string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.input, what); err != nil {
		p.t.Fatal(err)
	}
	p.Says("done")
}
