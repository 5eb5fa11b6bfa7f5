package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/upstream"
)

// TestMain makes the test binary the helper when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == Command {
		if err := Serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func start(t *testing.T) *Helper {
	t.Helper()
	h := Start(zerolog.New(t.Output()))
	t.Cleanup(h.Close)
	return h
}

// sh is a program of one line of shell.
func sh(line string) upstream.Program {
	return upstream.Program{Args: []string{"/bin/sh", "-c", line}, Timeout: 10 * time.Second, Most: 1000}
}

// said collects what a program says on standard error.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) diagnose(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func run(t *testing.T, h *Helper, p upstream.Program) (stdout string, stderr []string, err error) {
	t.Helper()
	var s said
	text, err := h.Run(t.Context(), p, s.diagnose)
	return string(text), s.lines, err
}

// Descriptors returns what the process has open beside the socket to its parent and
// what Go's runtime needs.
func descriptors(t *testing.T, pid int) []string {
	t.Helper()
	open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	if len(open) == 0 {
		t.Fatalf("process %d has no descriptors to be seen", pid)
	}
	own := regexp.MustCompile(`^(/dev/null$|pipe:|anon_inode:\[event|/sys/fs/cgroup/)`) // the last is how Go's runtime learns of limits
	var others []string
	parent := "" // the socket to it, which may be there twice at the start
	for _, fd := range open {
		to, err := os.Readlink(fd)
		if err != nil { // closed by now
			continue
		}
		if parent == "" && strings.HasPrefix(to, "socket:") {
			parent = to
		}
		if to != parent && !own.MatchString(to) {
			others = append(others, fd+" -> "+to)
		}
	}
	return others
}

func TestAProgramHasWhatIsConfiguredAndNothingElse(t *testing.T) {
	t.Setenv("PURSER_LOG__LEVEL", "debug")
	leaked, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0) // without O_CLOEXEC, so that it is inherited
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaked)
	h := start(t)
	var others []string
	for range 50 { // what is inherited stays; what a runtime reads at its start, as the race detector's does, is closed soon
		if others = descriptors(t, h.pid()); len(others) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if len(others) != 0 {
		t.Errorf("the helper has %q", others)
	}
	p := sh("env | sort; pwd; umask; ulimit -c; cat; ls -l /proc/self/fd | sed 's/.*-> //'; cut -d ' ' -f 5,6 /proc/$$/stat | tr ' ' '\\n' | uniq | wc -l")
	p.Env = []string{"NAME=value", "EMPTY=", "LC_ALL=C"}
	p.Most = 4000
	out, _, err := run(t, h, p)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{"EMPTY=", "HOME=" + h.home, "LC_ALL=C", "NAME=value", path, "PWD=/", "/", "0077", "0", "/dev/null", "pipe:", "pipe:", "/proc/", "1"}, "\n")
	var got []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		for _, short := range []string{"pipe:", "/proc/"} {
			if strings.HasPrefix(line, short) {
				line = short
			}
		}
		if line != "" && !strings.HasPrefix(line, "total") {
			got = append(got, line)
		}
	}
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

func TestHowAProgramEndsIsOneSentence(t *testing.T) {
	h := start(t)
	folder := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	quick := func(p upstream.Program) upstream.Program {
		p.Timeout = 200 * time.Millisecond
		return p
	}
	only := func(path string) upstream.Program {
		return upstream.Program{Args: []string{path}, Timeout: 10 * time.Second, Most: 1000}
	}
	for _, test := range []struct {
		name    string
		program upstream.Program
		class   upstream.Class
		text    string
	}{
		{"exit code", sh("echo CONFIDENTIAL; exit 3"), upstream.ClassExit, "program /bin/sh: it ended with exit code 3; see what it said on its standard error"},
		{"signal", sh("kill -SEGV $$"), upstream.ClassExit, "program /bin/sh: it was ended by signal 11 (SIGSEGV); see what it said on its standard error"},
		{"time", quick(sh("sleep 60")), upstream.ClassTimeout, "program /bin/sh: it did not end within 200ms and was killed; what it waits for, or timeout, needs a change"},
		{"too much", sh("exec tr '\\0' x < /dev/zero"), upstream.ClassTooLarge, "program /bin/sh: it printed more than 1000 bytes and was killed"},
		{"not there", only(folder + "/none"), upstream.ClassProgram, "program DIR/none: there is no such program"},
		{"a folder", only(folder), upstream.ClassProgram, "program DIR: it is no program but another kind of file"},
		{"no interpreter", only(file("loose", "#!/no/such/shell\n", 0o700)), upstream.ClassProgram, "program DIR/loose: what its first line names to run it, or its loader, does not exist"},
		{"no program", only(file("text", "hello\n", 0o700)), upstream.ClassProgram, "program DIR/text: it is neither a program for this machine nor a script whose first line says what runs it (#!/bin/sh)"},
		{"too long", upstream.Program{Args: []string{"/bin/true", strings.Repeat("x", maxMessage)}, Timeout: time.Second}, upstream.ClassTransport, "program /bin/true: its arguments and environment take more than 131072 bytes in a message to the helper that runs programs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := run(t, h, test.program)
			fault, ok := errors.AsType[*upstream.Error](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if got := strings.ReplaceAll(fault.Error(), folder, "DIR"); got != test.text || fault.Kind != test.class {
				t.Errorf("got %s: %s\nwant %s: %s", fault.Kind, got, test.class, test.text)
			}
		})
	}
	if out, _, err := run(t, h, sh("echo still there")); err != nil || out != "still there\n" {
		t.Errorf("after all that: %q, %v", out, err)
	}
}

func TestStandardErrorIsBoundedPrintableAndWithoutWhatIsOnStandardOutput(t *testing.T) {
	h := start(t)
	_, lines, err := run(t, h, sh(`echo '{"SecretAccessKey": "CONFIDENTIAL/0123+456="}'; printf 'one\033[31m\n\n+ echo CONFIDENTIAL/0123+456=\n' >&2; seq 100 >&2`))
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != maxLines+1 || lines[0] != "one [31m" || lines[1] != "+ echo [redacted]" || lines[maxLines] != "and more" {
		t.Errorf("got %q", lines)
	}
	_, lines, err = run(t, h, sh(`head -c 1000000 /dev/zero | tr '\0' x >&2`))
	if err != nil || len(lines) != 1 || len(lines[0]) > 600 {
		t.Errorf("got %d lines, %v", len(lines), err)
	}
}

// written waits until a program has written a file, and returns it.
func written(t *testing.T, path string) string {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if text, _ := os.ReadFile(path); bytes.HasSuffix(text, []byte("\n")) {
			return strings.TrimSpace(string(text))
		}
	}
	t.Fatalf("no program has written %s", path)
	return ""
}

// gone fails if a process is still there after a while.
func gone(t *testing.T, pid string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(end) {
			stat, _ := os.ReadFile("/proc/" + pid + "/stat")
			t.Fatalf("process %s is still there: %s", pid, stat)
		}
	}
}

func TestWhatAProgramLeavesBehindIsKilledAndHoldsNothingUp(t *testing.T) {
	for name, left := range map[string]string{
		"child":               "sleep 300 & echo $!",
		"in another session":  "setsid sh -c 'echo $$; exec sleep 300' &\nsleep 0.2",
		"two sessions deeper": "setsid sh -c 'setsid sh -c \"echo \\$\\$; exec sleep 300\" & sleep 0.1' &\nsleep 0.3",
		"stopped":             "sleep 300 & kill -STOP $!; echo $!",
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t)
			began := time.Now()
			out, _, err := run(t, h, sh(left))
			if err != nil || time.Since(began) > 20*time.Second { // far from the 300 that it would take
				t.Errorf("after %v: %q, %v", time.Since(began), out, err)
			}
			pid := strings.TrimSpace(out)
			if pid == "" {
				t.Fatal("it left nothing behind, which proves nothing")
			}
			gone(t, pid)
		})
	}
}

func TestWhatAProgramLeavesBehindDoesNotLastUntilOthersEnd(t *testing.T) {
	h := start(t)
	over := filepath.Join(t.TempDir(), "over")
	other := make(chan error, 1)
	go func() {
		p := sh("until [ -e " + over + " ]; do sleep 0.05; done")
		p.Timeout = time.Minute
		_, err := h.Run(t.Context(), p, func(string) {})
		other <- err
	}()
	out, _, err := run(t, h, sh("sleep 300 & echo $!"))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, strings.TrimSpace(out))
	select {
	case err := <-other:
		t.Fatalf("it lasted until another program ended (%v)", err)
	default:
	}
	if err := os.WriteFile(over, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-other; err != nil {
		t.Error(err)
	}
}

func TestATimeOutKillsAllOfAProgramAndOfNoOther(t *testing.T) {
	h := start(t)
	folder := t.TempDir()
	pids, over, waits := filepath.Join(folder, "pids"), filepath.Join(folder, "over"), filepath.Join(folder, "waits")
	other := make(chan error, 1)
	go func() {
		// It waits for an orphan of its own, which waits until the first program is over.
		p := sh("(setsid sh -c 'echo >" + waits + "; until [ -e " + over + " ]; do sleep 0.05; done; echo other; echo >" + over + ".seen' &); until [ -e " + over + ".seen ]; do sleep 0.05; done")
		p.Timeout = time.Minute
		out, err := h.Run(t.Context(), p, func(string) {})
		if err == nil && string(out) != "other\n" {
			err = fmt.Errorf("the other program printed %q", out)
		}
		other <- err
	}()
	written(t, waits)
	p := sh("trap '' TERM HUP INT; sleep 300 & setsid sleep 300 & echo $$ $! > " + pids + "; wait")
	p.Timeout = 3 * time.Second
	if _, _, err := run(t, h, p); err == nil || !strings.Contains(err.Error(), "did not end within 3s") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(over, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-other; err != nil {
		t.Error(err)
	}
	for pid := range strings.FieldsSeq(written(t, pids)) {
		gone(t, pid)
	}
}

func TestACallerThatGivesUpEndsTheProgram(t *testing.T) {
	h := start(t)
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := h.Run(ctx, sh("echo $$ > "+file+"; sleep 300"), func(string) {})
		ended <- err
	}()
	pid := written(t, file)
	cancel()
	if fault, _ := errors.AsType[*upstream.Error](<-ended); fault == nil || fault.Kind != upstream.ClassCanceled {
		t.Errorf("got %v", fault)
	}
	gone(t, pid)
}

func TestProgramsBeyondTheBoundWaitForTheirTurn(t *testing.T) {
	h := start(t)
	counts := filepath.Join(t.TempDir(), "counts")
	var all sync.WaitGroup
	for range 3 * mostAtOnce {
		all.Go(func() {
			if _, err := h.Run(t.Context(), sh("sleep 0.1; ls /proc/"+fmt.Sprint(h.pid())+"/task/*/children > /dev/null; cat /proc/"+fmt.Sprint(h.pid())+"/task/*/children | wc -w >> "+counts), func(string) {}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	text, err := os.ReadFile(counts)
	if err != nil {
		t.Fatal(err)
	}
	for count := range strings.FieldsSeq(string(text)) {
		var n int
		if _, err := fmt.Sscan(count, &n); err != nil || n > mostAtOnce {
			t.Errorf("%s programs at once, %v", count, err)
		}
	}
}

func TestAProgramThatDoesNotGetItsTurnWasNotKilled(t *testing.T) {
	h := start(t)
	for range mostAtOnce {
		h.slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := h.Run(ctx, sh("true"), func(string) {})
	if err == nil || err.Error() != "program /bin/sh: it did not get its turn in time, as 16 others were running" {
		t.Errorf("got %v", err)
	}
}

func (h *Helper) pid() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.process == nil {
		return 0
	}
	return h.process.Pid
}

func TestCloseEndsWhatRuns(t *testing.T) {
	h := Start(zerolog.New(t.Output()))
	file := filepath.Join(t.TempDir(), "pids")
	ended := make(chan error, 1)
	go func() {
		_, err := h.Run(t.Context(), sh("setsid sleep 300 & echo $$ $! > "+file+"; wait"), func(string) {})
		ended <- err
	}()
	pids, helper := written(t, file), h.pid()
	h.Close()
	if err := <-ended; err == nil {
		t.Error("a program that was killed is no error")
	}
	for pid := range strings.FieldsSeq(pids + " " + fmt.Sprint(helper)) {
		gone(t, pid)
	}
}

func TestServeByHandSaysWhoseItIs(t *testing.T) {
	var out bytes.Buffer
	if err := Serve(); err == nil || err.Error() != "this is for the daemon to start" {
		t.Errorf("got %v, %s", err, &out)
	}
}
