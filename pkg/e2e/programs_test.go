package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A shelf is a folder that the agent can read, with files that replace each other.
type shelf struct {
	t      *testing.T
	folder string
}

func newShelf(t *testing.T) shelf {
	t.Helper()
	folder, err := os.MkdirTemp("", "purser-e2e-shelf-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	must(t, os.Chmod(folder, 0o755))
	return shelf{t, folder}
}

func (s shelf) path(name string) string { return filepath.Join(s.folder, name) }

func (s shelf) put(name, text string) {
	s.t.Helper()
	must(s.t, os.WriteFile(s.path(name)+".new", []byte(text), 0o755))
	must(s.t, os.Rename(s.path(name)+".new", s.path(name)))
}

// number is a line of a file that counts something, or 0.
func (s shelf) number(name string) (n int) {
	text, err := os.ReadFile(s.path(name))
	if err == nil {
		_, _ = fmt.Sscan(string(text), &n)
	}
	return n
}

// userKey is one that a user of IAM has: without a token and without an end.
func userKey(n int) keys {
	id := fmt.Sprintf("AKIAE2E%09d", n)
	return keys{AccessKeyID: id, SecretAccessKey: harness.Marker + "/" + id, Expiration: time.Now().Add(time.Hour)}
}

// userKeys knows all of them.
func userKeys(id string) (keys, bool) {
	var n int
	_, err := fmt.Sscanf(id, "AKIAE2E%d", &n)
	return userKey(n), err == nil
}

// awaitKey waits until the agent serves a key.
func awaitKey(t *testing.T, m *metadata, want string) {
	t.Helper()
	err := harness.Await(5*time.Second, func() error {
		if got := parse(t, m.document(t, "test_role")).AccessKeyID; got != want {
			return fmt.Errorf("%s is served, want %s", got, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestKeysOfAUserWorkInEveryClientAndRotateByTheirFiles: they have no token, which SDKs
// must not take for an error.
func TestKeysOfAUserWorkInEveryClientAndRotateByTheirFiles(t *testing.T) {
	files := newShelf(t)
	put := func(n int) {
		files.put("id", userKey(n).AccessKeyID)
		files.put("secret", userKey(n).SecretAccessKey)
	}
	put(1)
	agent := startAgent(t, harness.AgentOptions{Config: fmt.Sprintf(
		"upstreams: {user: {kind: static, credentials: {test_role: {access_key_id: {file: %q}, secret_access_key: {file: %q}}}}}\n",
		files.path("id"), files.path("secret")) + everything + regionConfig})
	s := &stand{agent: agent, api: newAPI(t, loopback(t, nil), userKeys)}
	var clients []*session
	for _, w := range ways {
		if w.redirected {
			continue
		}
		for _, p := range programs(t) {
			client := p.start(t, nil, s.api, w.env(t, s, p)...)
			if got := client.call("call"); got != userKey(1).AccessKeyID {
				t.Errorf("%s by %s signs with %s", p.name, w.name, got)
			}
			clients = append(clients, client)
		}
	}
	put(2)
	awaitKey(t, newMetadata(t, agent), userKey(2).AccessKeyID)
	for _, client := range clients {
		if got := client.call("new"); got != userKey(2).AccessKeyID {
			t.Errorf("%s signs with %s after the rotation", client.program.name, got)
		}
	}
}

func TestAFileOfAnotherToolIsFollowed(t *testing.T) {
	files := newShelf(t)
	put := func(n int, secret string) {
		files.put("credentials", fmt.Sprintf("[default]\naws_access_key_id = %s\n%s\n", userKey(n).AccessKeyID, secret))
	}
	good := "aws_secret_access_key = " + harness.Marker
	put(1, good)
	agent := startAgent(t, harness.AgentOptions{Config: fmt.Sprintf(
		"upstreams: {tool: {kind: files, path: %q, profiles: {test_role: default}}}\n", files.path("credentials")) + everything})
	m := newMetadata(t, agent)
	awaitKey(t, m, userKey(1).AccessKeyID)
	put(2, good)
	awaitKey(t, m, userKey(2).AccessKeyID)
	put(3, harness.Marker) // half of it is there
	must(t, harness.Await(5*time.Second, func() error {
		if !strings.Contains(agent.Output(), "line 3: neither a [profile] nor a key with a value") {
			return fmt.Errorf("the log does not say what is wrong")
		}
		return nil
	}))
	awaitKey(t, m, userKey(2).AccessKeyID)
	must(t, os.Remove(files.path("credentials")))
	time.Sleep(1500 * time.Millisecond)
	awaitKey(t, m, userKey(2).AccessKeyID)
	put(4, good)
	awaitKey(t, m, userKey(4).AccessKeyID)
}

// login is a program that gives another key each time, and does what a file says.
const login = `#!/bin/sh
cd "$(dirname "$0")"
n=$(($(cat runs) + 1)); echo $n > runs
echo $$ > pid
case $(cat mood) in
hang) sleep 300 ;;
leave) sleep 300 & echo $! > left ;;
fail) echo "no ticket" >&2; exit 7 ;;
esac
id=$(printf 'AKIAE2E%%09d' $n)
echo "{\"Version\": 1, \"AccessKeyId\": \"$id\", \"SecretAccessKey\": \"%s/$id\"}"
`

// startLogin runs an agent that gets its keys from the program.
func startLogin(t *testing.T, files shelf, more ...string) *harness.Agent {
	t.Helper()
	files.put("login", fmt.Sprintf(login, harness.Marker))
	files.put("mood", "")
	for _, name := range []string{"runs", "pid", "left"} {
		must(t, os.WriteFile(files.path(name), []byte("0\n"), 0o666))
		must(t, os.Chmod(files.path(name), 0o666))
	}
	return startAgent(t, harness.AgentOptions{Config: fmt.Sprintf(
		"upstreams: {login: {kind: process, credentials: {test_role: {command: [%q], timeout: 2s}}}}\n", files.path("login")) + everything + strings.Join(more, "")})
}

func refresh(t *testing.T, agent *harness.Agent) harness.Result {
	t.Helper()
	r, err := agent.Run("refresh")
	must(t, err)
	return r
}

func TestAProgramGivesKeysAndWhateverItDoesChangesNothing(t *testing.T) {
	files := newShelf(t)
	agent := startLogin(t, files)
	m := newMetadata(t, agent)
	current := func() string { return userKey(files.number("runs")).AccessKeyID }
	awaitKey(t, m, current())
	if r := refresh(t, agent); r.Exit != 0 {
		t.Errorf("refresh: %s", r.Stderr)
	}
	before := current()
	awaitKey(t, m, before)

	for mood, want := range map[string]string{
		"hang": "it did not end within 2s and was killed", "fail": "it ended with exit code 7; see what it said on its standard error",
	} {
		files.put("mood", mood)
		if r := refresh(t, agent); r.Exit != 1 || !strings.Contains(r.Stderr, want) {
			t.Errorf("%s: exit %d, %s", mood, r.Exit, r.Stderr)
		}
		awaitKey(t, m, before)
		awaitGone(t, files.number("pid"))
	}
	if !strings.Contains(agent.Output(), `"line":"no ticket"`) {
		t.Error("what the program said is not in the log")
	}
	files.put("mood", "leave")
	if r := refresh(t, agent); r.Exit != 0 {
		t.Errorf("what a program leaves behind holds it up: %s", r.Stderr)
	}
	awaitKey(t, m, current())
	awaitGone(t, files.number("left"))
}

func awaitGone(t *testing.T, pid int) {
	t.Helper()
	err := harness.Await(5*time.Second, func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(stat), ") Z ") { // nobody may care for the orphans here
			return fmt.Errorf("process %d is still there: %s", pid, stat)
		}
		return nil
	})
	if pid == 0 || err != nil {
		t.Errorf("process %d: %v", pid, err)
	}
}

// helperOf finds the helper of an agent, its only child that lasts.
func helperOf(t *testing.T, agent *harness.Agent) (pid int) {
	t.Helper()
	must(t, harness.Await(5*time.Second, func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", agent.PID()))
		must(t, err)
		for _, task := range tasks {
			if text, _ := os.ReadFile(task); len(text) > 0 {
				_, err := fmt.Sscan(string(text), &pid)
				return err
			}
		}
		return fmt.Errorf("the agent has no helper")
	}))
	return pid
}

func TestPromise6TheHelperHasNoSecretAndNoSocketButItsOwn(t *testing.T) {
	needsRoot(t)
	agent := startLogin(t, newShelf(t))
	helper := helperOf(t, agent)
	expectNoPrivilege(t, helper, nobodyUID)
	for _, file := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", helper, file))
		must(t, err)
		if strings.Contains(string(text), harness.Marker) || strings.Contains(string(text), "PURSER") {
			t.Errorf("its %s is %q", file, text)
		}
	}
	open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", helper))
	must(t, err)
	sockets := 0
	for _, fd := range open {
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, "socket:") {
			sockets++
		}
	}
	if sockets != 1 {
		t.Errorf("the helper has %d sockets among %d descriptors", sockets, len(open))
	}
	r, err := harness.Command{Path: "/bin/dd", Args: []string{fmt.Sprintf("if=/proc/%d/mem", helper), "of=/dev/null", "count=1"},
		UID: nobodyUID, GID: nobodyUID}.Run()
	must(t, err)
	if r.Exit == 0 || !strings.Contains(r.Stderr, "ermission denied") {
		t.Errorf("another process of the same user opens its memory: %s", r.Stderr)
	}
	if _, found := searchMemory(t, agent.PID(), harness.Marker); !found {
		t.Error("not even the daemon's memory has the secret, so searching for it proves nothing")
	}
	if size, found := searchMemory(t, helper, harness.Marker); found || size < 1<<20 {
		t.Errorf("among %d bytes of its memory there is a secret: %v", size, found)
	}
}

// searchMemory looks for a text in what a process has in memory of its own.
func searchMemory(t *testing.T, pid int, text string) (size int, found bool) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	must(t, err)
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	must(t, err)
	defer memory.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		for at := from; at < to; at += 1 << 20 {
			part := make([]byte, min(to-at, 1<<20+int64(len(text))))
			n, _ := memory.ReadAt(part, at)
			size += n
			found = found || strings.Contains(string(part[:n]), text)
		}
	}
	return size, found
}

func TestHelperAndProgramsEndWithAKilledDaemon(t *testing.T) {
	files := newShelf(t)
	agent := startLogin(t, files)
	helper := helperOf(t, agent)
	runs := files.number("runs")
	files.put("mood", "hang")
	go func() { _, _ = agent.Run("refresh") }()
	must(t, harness.Await(5*time.Second, func() error {
		if files.number("runs") == runs {
			return fmt.Errorf("the program does not run")
		}
		return nil
	}))
	time.Sleep(100 * time.Millisecond)
	must(t, agent.Signal(syscall.SIGKILL))
	awaitGone(t, helper)
	awaitGone(t, files.number("pid"))
	files.put("mood", "")
	must(t, agent.Start())
}

// TestAHelperThatIsKilledInTheSandboxChangesNothing: it cannot be replaced there, and
// where nothing takes over, what is in stock is served on.
func TestAHelperThatIsKilledInTheSandboxChangesNothing(t *testing.T) {
	files := newShelf(t)
	agent := startLogin(t, files)
	m := newMetadata(t, agent)
	before := parse(t, m.document(t, "test_role")).AccessKeyID
	must(t, syscall.Kill(helperOf(t, agent), syscall.SIGKILL))
	must(t, harness.Await(5*time.Second, func() error {
		if r := refresh(t, agent); !strings.Contains(r.Stderr, "has ended, and the sandbox lets this process start no other: restart it") {
			return fmt.Errorf("refresh: exit %d, %s", r.Exit, r.Stderr)
		}
		return nil
	}))
	awaitKey(t, m, before)
}

func TestAHelperThatIsKilledIsReplaced(t *testing.T) {
	files := newShelf(t)
	agent := startLogin(t, files, "sandbox: {landlock: false, seccomp: false}\n")
	m := newMetadata(t, agent)
	before := parse(t, m.document(t, "test_role")).AccessKeyID
	helper := helperOf(t, agent)
	must(t, syscall.Kill(helper, syscall.SIGKILL))
	awaitKey(t, m, before)
	must(t, harness.Await(5*time.Second, func() error {
		if r := refresh(t, agent); r.Exit != 0 {
			return fmt.Errorf("refresh: %s", r.Stderr)
		}
		return nil
	}))
	if next := helperOf(t, agent); next == helper {
		t.Error("there is no other helper")
	}
}

// TestASocketGivesKeysIfItsListenerIsBelieved: the test listens in the place of systemd.
func TestASocketGivesKeysIfItsListenerIsBelieved(t *testing.T) {
	needsRoot(t)
	files := newShelf(t)
	path := files.path("keys.sock")
	l, err := net.Listen("unix", path)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	must(t, os.Chmod(path, 0o666))
	answer := fmt.Sprintf(`{"Version": 1, "AccessKeyId": %q, "SecretAccessKey": %q}`, userKey(1).AccessKeyID, userKey(1).SecretAccessKey)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
		}
	}()
	agent := startAgent(t, harness.AgentOptions{Config: "upstreams: {login: {kind: process, credentials: {test_role: {socket: " + path + "}}}}\n" + everything})
	awaitKey(t, newMetadata(t, agent), userKey(1).AccessKeyID)

	must(t, l.Close())
	must(t, os.Chmod(files.folder, 0o777))
	other, err := harness.Command{Path: "/usr/bin/python3", UID: daemonUID, GID: daemonUID, Args: []string{"-c", `
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
s.listen()
while True:
    s.accept()[0].close()
`, path}}.Start()
	must(t, err)
	t.Cleanup(func() { _, _ = other.Stop() })
	want := fmt.Sprintf("socket %s: uid %d listens there, and only root and Purser's own account are believed; let systemd listen (a .socket unit with Accept=yes)", path, daemonUID)
	must(t, harness.Await(10*time.Second, func() error {
		if r := refresh(t, agent); r.Exit != 1 || !strings.Contains(r.Stderr, want) {
			return fmt.Errorf("exit %d, %s", r.Exit, r.Stderr)
		}
		return nil
	}))
	awaitKey(t, newMetadata(t, agent), userKey(1).AccessKeyID)
}
