package privilege

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVariable makes the test binary act as a process that gives up its privileges:
// there is no way back for the test itself.
const roleVariable = "PURSER_TEST_ROLE"

// program is a copy of the test binary without cgo that other users may execute.
var program string

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "drop":
		exit(drop(os.Args[1]))
	case "one thread":
		exit(dropOnOneThread())
	case "peek":
		exit(peek(os.Args[1]))
	case "wait":
		exit(waitForEnd())
	}
	dir, err := os.MkdirTemp("", "purser-privilege-")
	if err == nil {
		program, err = buildProgram(dir)
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
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// buildProgram builds the test anew if it was built with cgo, which the race
// detector needs and Drop refuses.
func buildProgram(dir string) (string, error) {
	path := filepath.Join(dir, "privilege.test")
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	if withCgo() {
		build := exec.Command("go", "test", "-c", "-o", path, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, output)
		}
		return path, os.Chmod(path, 0o755)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, self, 0o755)
}

func withCgo() bool {
	return errors.Is(onAllThreads(unix.SYS_GETUID, 0, 0), ErrCgo)
}

// orders are what a process in the role "drop" does.
type orders struct {
	To     IDs
	Listen string // before the drop
	Lack   uint   // a capability to be without, from the start
	Limit  uint64 // of locked memory, from the start; 0 leaves it
}

// outcome is what became of it.
type outcome struct {
	Report      Report
	Error       string
	BindsAgain  bool
	LockWarning string
	OwnFiles    string // why a file in /proc/self cannot be read
}

func drop(text string) error {
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	var result outcome
	if o.Listen != "" {
		listener, err := net.Listen("tcp", o.Listen)
		if err != nil {
			return err
		}
		defer listener.Close()
	}
	if o.Lack != 0 {
		if err := giveUpOne(o.Lack); err != nil {
			return err
		}
	}
	if o.Limit != 0 {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: o.Limit, Max: o.Limit}); err != nil {
			return err
		}
	}
	occupyThreads(8)
	var err error
	if result.Report, err = Drop(o.To); err != nil {
		result.Error = err.Error()
		return json.NewEncoder(os.Stdout).Encode(result)
	}
	if err := Harden(); err != nil {
		return err
	}
	if err := LockMemory(); err != nil {
		result.LockWarning = err.Error()
	}
	occupyThreads(8)
	if listener, err := net.Listen("tcp", ":81"); err == nil {
		result.BindsAgain = true
		listener.Close()
	}
	result.OwnFiles = readOwnFiles()
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		return err
	}
	return waitForEnd()
}

// readOwnFiles reads what Purser reads of itself while it serves.
func readOwnFiles() string {
	for _, name := range []string{"status", "mountinfo", "cgroup", "uid_map", "limits", "stat"} {
		if _, err := os.ReadFile("/proc/self/" + name); err != nil {
			return err.Error()
		}
	}
	return ""
}

// occupyThreads starts threads that live as long as the process.
func occupyThreads(count int) {
	started := make(chan struct{})
	for range count {
		go func() {
			runtime.LockOSThread()
			started <- struct{}{}
			select {}
		}()
		<-started
	}
}

// giveUpOne takes one capability from all threads.
func giveUpOne(capability uint) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	sets[capability/32].Effective &^= 1 << (capability % 32)
	sets[capability/32].Permitted &^= 1 << (capability % 32)
	return setCapabilities(&sets)
}

// dropOnOneThread does what setuid(2) does in a program of many threads, and says
// what a proof makes of it.
func dropOnOneThread() error {
	occupyThreads(4)
	runtime.LockOSThread()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, service, service, service); errno != 0 {
		return errno
	}
	want, err := ownState()
	if err != nil {
		return err
	}
	_, err = prove(want)
	fmt.Println(err)
	return nil
}

// peek tries to read another process's memory and environment.
func peek(pid string) error {
	for _, name := range []string{"mem", "environ", "maps"} {
		f, err := os.Open("/proc/" + pid + "/" + name)
		if err == nil {
			_, err = f.Read(make([]byte, 1))
		}
		if err == nil {
			fmt.Print(name, " ")
		}
	}
	fmt.Println()
	return nil
}

func waitForEnd() error {
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// A process is a running copy of the test binary in a role.
type process struct {
	t       *testing.T
	command *exec.Cmd
	output  *bufio.Reader
}

// start runs the test binary in a role. It ends with the test.
func start(t *testing.T, attributes syscall.SysProcAttr, role string, arguments ...string) *process {
	t.Helper()
	p := &process{t: t, command: exec.Command(program, arguments...)}
	p.command.Env = []string{roleVariable + "=" + role, "SECRET=of the environment"}
	p.command.Dir = "/"
	p.command.Stderr = t.Output()
	p.command.SysProcAttr = &attributes
	output, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.output = bufio.NewReader(output)
	input, err := p.command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		input.Close()
		if err := p.command.Wait(); err != nil {
			t.Errorf("%v: %v", p.command.Args, err)
		}
	})
	return p
}

func (p *process) line() string {
	p.t.Helper()
	line, err := p.output.ReadString('\n')
	if err != nil {
		p.t.Fatalf("%v said %q, then %v", p.command.Args, line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

func startDrop(t *testing.T, attributes syscall.SysProcAttr, o orders) (*process, outcome) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, attributes, "drop", string(text))
	var result outcome
	line := p.line()
	if err := json.Unmarshal([]byte(line), &result); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return p, result
}

// threads returns lines of the status of every thread, by name, as another process
// sees them.
func (p *process) threads() []map[string]string {
	p.t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(p.command.Process.Pid) + "/task/*/status")
	if err != nil {
		p.t.Fatal(err)
	}
	var threads []map[string]string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatal(err)
		}
		status := make(map[string]string)
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			status[name] = strings.Join(strings.Fields(value), " ")
		}
		threads = append(threads, status)
	}
	return threads
}
