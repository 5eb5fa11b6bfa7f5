package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/elastic/go-seccomp-bpf/arch"
)

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
		{"read what is there beside what has gone", "<nil>"},
		{"read elsewhere", "permission denied"},
		{"write beside", "permission denied"},
		{"write in the runtime folder", "<nil>"},
		{"serve and ask", "<nil>"},
		{"name", "<nil>"},
		{"inotify", "operation not permitted"},
		{"a device", "permission denied"},
		{"a device that is named", "<nil>"},
		{"namespace", "killed"},
		{"clone3", "function not implemented"},
		{"landlock: read elsewhere", "permission denied"},
		{"landlock: inotify", "<nil>"},
		{"seccomp: read elsewhere", "<nil>"},
		{"seccomp: inotify", "operation not permitted"},
		{"mknod", "operation not permitted"},
		{"many calls that are refused", "counted: [{inotify_init1 32000} {mknodat 1} {other 1}]"},
		{"landlock: many calls that are refused", "32000 calls were not refused"},
		{"the signal of a refused call, sent by somebody", "counted: []"},
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

// swap makes a link lead somewhere else, at once.
func swap(link, target string) error {
	return errors.Join(os.Symlink(target, link+".new"), os.Rename(link+".new", link))
}

func write(t *testing.T, text string, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestARotatedFileIsReadInsideTheSandbox, also by links that lead elsewhere.
func TestARotatedFileIsReadInsideTheSandbox(t *testing.T) {
	program := program(t)
	for name, prepare := range map[string]func(h *house) (rotate func() error){
		"by rename": func(h *house) func() error {
			next := write(t, "second", h.file+".new")
			return func() error { return os.Rename(next, h.file) }
		},
		"by a link to a folder elsewhere": func(h *house) func() error {
			folder := filepath.Dir(h.file)
			write(t, "first", folder, "releases/1/file")
			write(t, "second", folder, "releases/2/file")
			current := filepath.Join(folder, "current")
			if err := os.Symlink("releases/1", current); err != nil {
				t.Fatal(err)
			}
			h.file = filepath.Join(current, "file")
			return func() error { return swap(current, "releases/2") }
		},
		"by a relative link below a folder that is a link": func(h *house) func() error {
			root := filepath.Dir(h.runtime)
			store := filepath.Join(root, "store")
			write(t, "first", store, "data/1/file")
			write(t, "second", store, "data/2/file")
			if err := errors.Join(os.Mkdir(filepath.Join(store, "live"), 0o700), os.Symlink("../data/1/file", filepath.Join(store, "live", "file")),
				os.Symlink(filepath.Join(store, "live"), filepath.Join(root, "linked"))); err != nil {
				t.Fatal(err)
			}
			h.file = filepath.Join(root, "linked", "file")
			return func() error { return os.WriteFile(filepath.Join(store, "data/1/file"), []byte("second"), 0o600) }
		},
	} {
		h := newHouse(t)
		rotate := prepare(&h)
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
		if err := rotate(); err != nil {
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
	inward := filepath.Join(filepath.Dir(elsewhere), "inward")
	if err := os.Symlink(h.file, inward); err != nil {
		t.Fatal(err)
	}
	s := &Sandbox{readable: []string{"/etc", filepath.Dir(h.file), h.runtime}}
	for _, c := range []struct{ file, want string }{
		{h.file, ""},
		{h.file + ".missing", ""},
		{"/etc/passwd", ""},
		{elsewhere, elsewhere + ": the folder " + filepath.Dir(elsewhere) + " is outside of the sandbox"},
		{inward, ""},
		{link, link + ": the folder " + filepath.Dir(elsewhere) + " is outside of the sandbox"},
	} {
		err := s.Check(Options{Files: []string{c.file}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%s: got %v, want %q", c.file, err, c.want)
		}
	}
	if err := (*Sandbox)(nil).Check(Options{Files: []string{elsewhere}}); err != nil {
		t.Errorf("without a sandbox: %v", err)
	}
}

func TestWhatCannotBeRemovedOrUsedInTheSandboxIsNamed(t *testing.T) {
	h := newHouse(t)
	s := &Sandbox{readable: []string{"/etc", filepath.Dir(h.file)}, writable: []string{h.runtime}, devices: []string{"/dev/null"}}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Removed: []string{filepath.Join(h.runtime, "secret")}, Devices: []string{"/dev/null"}}, ""},
		{Options{Removed: []string{h.file}}, h.file + ": the folder " + filepath.Dir(h.file) + " is read-only in the sandbox"},
		{Options{Devices: []string{"/dev/zero"}}, "the device /dev/zero is outside of the sandbox"},
	} {
		err := s.Check(c.o)
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%+v: got %v, want %q", c.o, err, c.want)
		}
	}
}

// TestEveryArchitectureHasTheCallsOfGo: a name that none has is a mistake, and one that
// Go calls everywhere is on each list.
func TestEveryArchitectureHasTheCallsOfGo(t *testing.T) {
	both := []*arch.Info{arch.X86_64, arch.AARCH64}
	for _, name := range slices.Concat(allowed, deadly) {
		if len(known([]string{name}, both[0]))+len(known([]string{name}, both[1])) == 0 {
			t.Errorf("neither amd64 nor arm64 has a call %q", name)
		}
	}
	// As Go's syscall and runtime call them, by their numbers on each of the two.
	needed := map[*arch.Info][]int{
		arch.X86_64:  {0, 1, 3, 5, 9, 11, 13, 14, 15, 28, 35, 39, 41, 42, 44, 45, 47, 49, 50, 51, 54, 72, 131, 186, 202, 217, 231, 232, 233, 234, 257, 262, 263, 267, 281, 288, 290, 291, 293, 302, 318, 319, 332},
		arch.AARCH64: {20, 21, 22, 24, 25, 35, 38, 48, 56, 57, 59, 61, 62, 63, 64, 78, 79, 80, 94, 98, 101, 113, 115, 123, 131, 132, 134, 135, 139, 172, 178, 198, 200, 201, 202, 203, 206, 207, 208, 211, 212, 215, 222, 233, 242, 260, 261, 278, 279, 291},
	}
	for _, on := range both {
		names := known(allowed, on)
		for _, number := range needed[on] {
			if name := on.SyscallNumbers[number]; !slices.Contains(names, name) {
				t.Errorf("%s: call %d, %q, is not allowed", on.Name, number, name)
			}
		}
		if len(known([]string{plainClone.Name}, on)) == 0 {
			t.Errorf("%s has no clone", on.Name)
		}
	}
}

func TestNoCallIsBothAllowedAndDeadly(t *testing.T) {
	for _, name := range deadly {
		if slices.Contains(allowed, name) {
			t.Errorf("%s is both", name)
		}
	}
}

func TestALinkOfTheSystemsOwnOpensNoWideFolder(t *testing.T) {
	if target, err := os.Readlink("/var/run"); err != nil || target != "/run" {
		t.Skip("SKIPPED, needs /var/run to be a link to /run")
	}
	if got := folders("/var/run/purser/file"); !slices.Equal(got, []string{"/run/purser"}) {
		t.Errorf("got %v", got)
	}
}
