package privilege

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/testkit"
)

// TestMain has roles give up their privileges: there is no way back for the test itself.
// Drop refuses a program with cgo.
func TestMain(m *testing.M) {
	testkit.Main(m, false, map[string]func(arguments []string) error{
		"drop":       drop,
		"one thread": dropOnOneThread,
		"peek":       peek,
		"wait":       waitForEnd,
	})
}

func withCgo() bool {
	return errors.Is(onAllThreads(unix.SYS_GETUID, 0, 0), errCgo)
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

func drop(arguments []string) error {
	var o orders
	if err := json.Unmarshal([]byte(arguments[0]), &o); err != nil {
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
	return waitForEnd(nil)
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
func dropOnOneThread([]string) error {
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
func peek(arguments []string) error {
	for _, name := range []string{"mem", "environ", "maps"} {
		f, err := os.Open("/proc/" + arguments[0] + "/" + name)
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

func waitForEnd([]string) error {
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func startDrop(t *testing.T, attributes syscall.SysProcAttr, o orders) (*testkit.Process, outcome) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	p := testkit.Start(t, attributes, "drop", string(text))
	var result outcome
	line := p.Line()
	if err := json.Unmarshal([]byte(line), &result); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return p, result
}

// threads returns lines of the status of every thread, by name, as another process
// sees them.
func threads(t *testing.T, p *testkit.Process) []map[string]string {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(p.PID()) + "/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		status := make(map[string]string)
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			status[name] = strings.Join(strings.Fields(value), " ")
		}
		all = append(all, status)
	}
	return all
}
