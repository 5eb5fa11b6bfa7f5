package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// kernelTests change what is the whole machine's, so they run in a virtual one, as root.
var kernelTests = []struct {
	name string
	run  func(*testing.T)
}{
	{"no signal leaves a core dump", noSignalLeavesACoreDump},
	{"no crash at the start leaves a secret", noCrashAtTheStartLeavesASecret},
	{"nobody looks into the memory", nobodyLooksIntoTheMemory},
	{"memory is locked where there is no limit", memoryIsLockedWhereThereIsNoLimit},
}

// set changes one of the kernel's settings until the test ends.
func set(t *testing.T, name, value string) {
	t.Helper()
	file := filepath.Join("/proc/sys", name)
	before, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, []byte(value), 0))
	t.Cleanup(func() { must(t, os.WriteFile(file, before, 0)) })
}

// limit changes a limit of this process, and so of those that it starts.
func limit(t *testing.T, resource int, value uint64) {
	t.Helper()
	var before unix.Rlimit
	must(t, unix.Getrlimit(resource, &before))
	must(t, unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: value}))
	t.Cleanup(func() { must(t, unix.Setrlimit(resource, &before)) })
}

// crashes makes Go programs crash as others do, instead of ending with exit code 2.
const crashes = "GOTRACEBACK=crash"

// All dumps go to one folder, each by its process ID, through a program or not.
const (
	coreFolder = "/cores"
	coreFile   = coreFolder + "/core.%p"
	corePipe   = "|/bin/keepcore %p"
)

// allowCores lets everything that crashes leave a dump.
func allowCores(t *testing.T, pattern, suidDumpable string) {
	t.Helper()
	must(t, os.MkdirAll(coreFolder, 0o777))
	must(t, os.Chmod(coreFolder, 0o777))
	must(t, os.WriteFile("/bin/keepcore", []byte("#!/bin/sh\ncat >"+coreFolder+"/core.$1\n"), 0o755))
	limit(t, unix.RLIMIT_CORE, unix.RLIM_INFINITY)
	set(t, "kernel/core_pattern", pattern)
	set(t, "kernel/core_pipe_limit", "16") // the kernel waits for the program
	set(t, "fs/suid_dumpable", suidDumpable)
	t.Cleanup(func() { must(t, os.RemoveAll(coreFolder)) })
}

// noSignalLeavesACoreDump in any setting, while an upstream that has the same secrets
// leaves one in the same way. Landlock would keep the kernel from writing files, so it is
// turned off to see the rest.
func noSignalLeavesACoreDump(t *testing.T) {
	for kind, pattern := range map[string]string{"file": coreFile, "pipe": corePipe} {
		for suidDumpable, other := range map[string]syscall.Signal{"0": syscall.SIGSEGV, "1": syscall.SIGABRT, "2": syscall.SIGQUIT} {
			if testing.Short() && suidDumpable != "1" {
				continue
			}
			t.Run(kind+", suid_dumpable "+suidDumpable, func(t *testing.T) {
				allowCores(t, pattern, suidDumpable)
				mock := startCrashingMock(t)
				o := harness.AgentOptions{Config: upstream(mock.URL()) + everything + "sandbox: {landlock: false}\n", Env: []string{crashes}}
				dropped := startServing(t, o)
				o.UID, o.GID = nobodyUID, nobodyUID
				user := startServing(t, o)
				crash(t, map[*harness.Process]syscall.Signal{
					dropped.Process: syscall.SIGABRT, user.Process: other, mock.Process: syscall.SIGABRT})
				left := remains(t)
				if want := fmt.Sprintf("%s/core.%d with a secret", coreFolder, mock.PID()); !slices.Equal(left, []string{want}) {
					t.Errorf("the upstream %d, Purser that was root %d and that never was %d left %q, want %q",
						mock.PID(), dropped.PID(), user.PID(), left, want)
				}
			})
		}
	}
}

// noCrashAtTheStartLeavesASecret: while a user database is slow, Purser is still root and
// has read its configuration.
func noCrashAtTheStartLeavesASecret(t *testing.T) {
	const asked = "/run/asked"
	must(t, os.MkdirAll("/usr/bin", 0o755))
	must(t, os.WriteFile("/usr/bin/getent", []byte("#!/bin/sh\necho >"+asked+"\nexec sleep 5\n"), 0o755))
	t.Cleanup(func() { must(t, os.Remove("/usr/bin/getent")) })
	for _, command := range []string{"serve", "check"} {
		t.Run(command, func(t *testing.T) {
			allowCores(t, corePipe, "1")
			agent, err := harness.NewAgent(harness.AgentOptions{Env: []string{crashes}, Config: "user: only-in-a-directory\n" +
				"upstreams: {user: {kind: static, credentials: {kept: {access_key_id: AKIAEXAMPLE, secret_access_key: " + harness.Marker + "}}}}\n" + everything})
			must(t, err)
			p, err := agent.Command(command).Start()
			must(t, err)
			must(t, harness.Await(10*time.Second, func() error { return os.Remove(asked) }))
			must(t, os.RemoveAll(agent.Dir)) // where the secret is in a file
			crash(t, map[*harness.Process]syscall.Signal{p: syscall.SIGABRT})
			if left := remains(t); len(left) > 0 {
				t.Errorf("Purser left %s", left)
			}
		})
	}
}

// startCrashingMock starts a mock that is an ordinary process, also when it ends.
func startCrashingMock(t *testing.T) *harness.Mock {
	t.Helper()
	binary, err := harness.Binary("purser-mock")
	must(t, err)
	address := loopback(t, nil)
	must(t, address.Close())
	p, err := harness.Command{Path: binary, Args: []string{"--listen", address.Addr().String()}, Env: []string{crashes}}.Start()
	must(t, err)
	mock := &harness.Mock{Process: p, Address: address.Addr().String()}
	t.Cleanup(func() { _, _ = mock.Stop() })
	must(t, harness.Await(10*time.Second, func() error {
		_, err := mock.Requests()
		return err
	}))
	return mock
}

// startServing starts an agent that has served a secret.
func startServing(t *testing.T, o harness.AgentOptions) *harness.Agent {
	t.Helper()
	agent, err := harness.NewAgent(o)
	must(t, err)
	t.Cleanup(func() {
		if agent.Process != nil {
			_, _ = agent.Stop()
		}
		must(t, os.RemoveAll(agent.Dir))
	})
	must(t, agent.Start())
	if !strings.Contains(newMetadata(t, agent).document(t, "test_role"), harness.Marker) {
		t.Fatal("the marker is not even in the document, so searching for it proves nothing")
	}
	return agent
}

// crash ends processes by signals. What they print then may not contain a secret.
func crash(t *testing.T, all map[*harness.Process]syscall.Signal) {
	t.Helper()
	for p, signal := range all {
		must(t, p.Signal(signal))
	}
	for p, signal := range all {
		if code, err := p.Exit(30 * time.Second); err != nil || code != -1 {
			t.Errorf("after %s it ended with %d, %v: it did not crash", unix.SignalName(signal), code, err)
		}
		if strings.Contains(p.Output(), harness.Marker) {
			t.Errorf("what it prints at %s contains a secret", unix.SignalName(signal))
		}
	}
}

// remains are the core dumps, and all files with a secret, of the whole machine but for
// the binaries.
func remains(t *testing.T) (all []string) {
	t.Helper()
	must(t, filepath.WalkDir("/", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == "/proc" || path == "/sys" || path == "/dev" || path == "/purser":
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(harness.Marker)) {
			all = append(all, path+" with a secret")
		} else if filepath.Dir(path) == coreFolder {
			all = append(all, path)
		}
		return err
	}))
	return all
}

// nobodyLooksIntoTheMemory as the same user, where a system is at its most open.
func nobodyLooksIntoTheMemory(t *testing.T) {
	set(t, "kernel/yama/ptrace_scope", "0")
	set(t, "fs/suid_dumpable", "1")
	mock := startMock(t)
	ordinary, err := harness.Command{Path: "/bin/sleep", Args: []string{"60"}, UID: nobodyUID, GID: nobodyUID}.Start()
	must(t, err)
	t.Cleanup(func() { _, _ = ordinary.Stop() })
	dropped := startServing(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	user := startServing(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything, UID: nobodyUID, GID: nobodyUID})
	for _, file := range []string{"mem", "environ", "maps"} {
		opens := func(p *harness.Process) bool {
			r, err := harness.Command{Path: "/bin/sh", Args: []string{"-c", fmt.Sprintf(": </proc/%d/%s", p.PID(), file)}, UID: nobodyUID, GID: nobodyUID}.Run()
			must(t, err)
			return r.Exit == 0
		}
		if !opens(ordinary) {
			t.Errorf("another process's %s is closed to all, which proves nothing for Purser", file)
		}
		if opens(dropped.Process) {
			t.Errorf("its user opens %s of a Purser that was root", file)
		}
		if opens(user.Process) {
			t.Errorf("its user opens %s of a Purser that was never root", file)
		}
	}
}

func memoryIsLockedWhereThereIsNoLimit(t *testing.T) {
	const limited = 64 << 30 // more than all that is mapped, so that the kernel would not refuse
	for _, c := range []struct {
		name   string
		uid    int
		limit  uint64
		locked bool
	}{
		{"root lifts the limit", 0, limited, true},
		{"a user without a limit", nobodyUID, unix.RLIM_INFINITY, true},
		{"a user with a limit", nobodyUID, limited, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit(t, unix.RLIMIT_MEMLOCK, c.limit)
			agent := startServing(t, harness.AgentOptions{Config: upstream(startMock(t).URL()) + everything, UID: c.uid, GID: c.uid})
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", agent.PID()))
			must(t, err)
			if locked := !strings.Contains(string(status), "VmLck:\t       0 kB\n"); locked != c.locked {
				t.Errorf("memory is locked: %t, want %t; status:\n%s", locked, c.locked, status)
			}
			if warned := strings.Contains(agent.Output(), "at most 68719476736 bytes may be locked (RLIMIT_MEMLOCK)"); warned == c.locked {
				t.Errorf("it warns: %t; it said:\n%s", warned, agent.Output())
			}
		})
	}
}
