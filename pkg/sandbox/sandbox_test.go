package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A confined process is this test binary once more, in the sandbox, with one thing to
// try. It is built without cgo, as Purser is.
const tryVariable = "PURSER_SANDBOX_TRY"

func TestMain(m *testing.M) {
	if what := os.Getenv(tryVariable); what != "" {
		fmt.Println(try(what, os.Args[1], os.Args[2]))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// try enters the sandbox of a folder and makes one attempt.
func try(what, file, runtimeFolder string) error {
	if _, err := Enter(Options{Landlock: true, Seccomp: true, Files: []string{file}, Runtime: runtimeFolder}); err != nil {
		return err
	}
	switch what {
	case "read":
		_, err := os.ReadFile(file)
		return err
	case "read elsewhere":
		_, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(file)), "elsewhere", "file"))
		return err
	case "rotate": // by somebody outside, who is told to
		return rotated(file)
	case "write beside":
		return os.WriteFile(file+".new", nil, 0o600)
	case "write in the runtime folder":
		return errors.Join(os.WriteFile(filepath.Join(runtimeFolder, "a"), []byte("x"), 0o600),
			os.Rename(filepath.Join(runtimeFolder, "a"), filepath.Join(runtimeFolder, "b")), os.Remove(filepath.Join(runtimeFolder, "b")))
	case "serve and ask":
		return serveAndAsk()
	case "exec":
		return exec.Command("/bin/true").Run()
	case "ptrace":
		return unix.PtraceSeize(os.Getppid())
	case "mount":
		return unix.Mount("none", runtimeFolder, "tmpfs", 0, "")
	case "process_vm_readv":
		_, err := unix.ProcessVMReadv(os.Getppid(), nil, nil, 0)
		return err
	case "chroot":
		return syscall.Chroot("/")
	case "sethostname":
		return unix.Sethostname([]byte("x"))
	case "mknod":
		return unix.Mknod(filepath.Join(runtimeFolder, "n"), unix.S_IFIFO, 0)
	case "name":
		_, err := net.LookupHost("localhost")
		return err
	}
	return errors.New("unknown attempt")
}

func rotated(file string) error {
	if err := os.WriteFile(filepath.Join(os.Args[2], "confined"), nil, 0o600); err != nil {
		return err
	}
	for range 500 {
		if text, err := os.ReadFile(file); err == nil && string(text) == "second" {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	text, err := os.ReadFile(file)
	return fmt.Errorf("still %q: %w", text, err)
}

func serveAndAsk() error {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	answer, err := http.Get(s.URL)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// program builds this package's test as Purser is built, once.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "confined")
	build := exec.Command("go", "test", "-c", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// A house is the folders of one confined process.
type house struct{ file, runtime string }

func newHouse(t *testing.T) house {
	t.Helper()
	root := t.TempDir()
	for _, folder := range []string{"material", "elsewhere", "run"} {
		if err := os.Mkdir(filepath.Join(root, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h := house{filepath.Join(root, "material", "file"), filepath.Join(root, "run")}
	for _, file := range []string{h.file, filepath.Join(root, "elsewhere", "file")} {
		if err := os.WriteFile(file, []byte("first"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h house) command(program, what string) *exec.Cmd {
	c := exec.Command(program, h.file, h.runtime)
	c.Env = []string{tryVariable + "=" + what}
	return c
}

func TestTheSandboxLetsThroughWhatPurserDoesAndNothingElse(t *testing.T) {
	program := program(t)
	for _, c := range []struct{ what, want string }{
		{"read", "<nil>"},
		{"read elsewhere", "permission denied"},
		{"write beside", "permission denied"},
		{"write in the runtime folder", "<nil>"},
		{"serve and ask", "<nil>"},
		{"name", "<nil>"},
		{"sethostname", "operation not permitted"},
		{"mknod", "operation not permitted"},
		{"exec", "signal: bad system call"}, // of the child
		{"ptrace", "killed"},
		{"mount", "killed"},
		{"process_vm_readv", "killed"},
		{"chroot", "killed"},
	} {
		out, err := newHouse(t).command(program, c.what).CombinedOutput()
		got := strings.TrimSpace(string(out))
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGSYS {
			got = "killed"
		}
		if !strings.HasSuffix(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
}

// TestARotatedFileIsReadInsideTheSandbox: by rename, and by a link that leads elsewhere.
func TestARotatedFileIsReadInsideTheSandbox(t *testing.T) {
	program := program(t)
	for name, rotate := range map[string]func(h house) error{
		"by rename": func(h house) error {
			return errors.Join(os.WriteFile(h.file+".new", []byte("second"), 0o600), os.Rename(h.file+".new", h.file))
		},
		"by link": func(h house) error {
			next := filepath.Join(filepath.Dir(h.file), "next")
			return errors.Join(os.WriteFile(next, []byte("second"), 0o600), os.Symlink(next, h.file+".new"), os.Rename(h.file+".new", h.file))
		},
	} {
		h := newHouse(t)
		c := h.command(program, "rotate")
		var out strings.Builder
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join(h.runtime, "confined")); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: the process does not start: %s", name, out.String())
			}
		}
		if err := rotate(h); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err != nil || strings.TrimSpace(out.String()) != "<nil>" {
			t.Errorf("%s: got %v, %s", name, err, out.String())
		}
	}
}

func TestFilesOutsideOfTheSandboxAreNamed(t *testing.T) {
	h := newHouse(t)
	link := filepath.Join(h.runtime, "link")
	elsewhere := filepath.Join(filepath.Dir(h.runtime), "elsewhere", "file")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	s := &Sandbox{readable: []string{"/etc", filepath.Dir(h.file), h.runtime}}
	for _, c := range []struct{ file, want string }{
		{h.file, ""},
		{h.file + ".missing", ""},
		{"/etc/passwd", ""},
		{elsewhere, elsewhere + ": the folder " + filepath.Dir(elsewhere) + " is outside of the sandbox"},
		{link, link + ": the folder " + filepath.Dir(elsewhere) + " is outside of the sandbox"},
	} {
		err := s.Check([]string{c.file})
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%s: got %v, want %q", c.file, err, c.want)
		}
	}
	if err := (*Sandbox)(nil).Check([]string{elsewhere}); err != nil {
		t.Errorf("without a sandbox: %v", err)
	}
}

func TestNoCallIsBothAllowedAndDeadly(t *testing.T) {
	for _, name := range deadly {
		if slices.Contains(allowed, name) {
			t.Errorf("%s is both", name)
		}
	}
}
