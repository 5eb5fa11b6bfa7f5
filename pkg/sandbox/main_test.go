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
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// confine enters the sandbox of a folder, or with "landlock: " or "seccomp: " before what
// is tried that half of it, and returns the rest of what.
func confine(what, file, runtimeFolder string) (*Sandbox, string, error) {
	half, rest, one := strings.Cut(what, ": ")
	if !one {
		rest = half
	}
	o := Options{Landlock: half != "seccomp", Seccomp: half != "landlock", Files: []string{file}, Runtime: runtimeFolder}
	if rest == "a device that is named" {
		o.Devices = []string{"/dev/zero"}
	}
	if rest == "read what is there beside what has gone" {
		o.Removed = []string{filepath.Join(runtimeFolder, "gone", "secret")}
		rest = "read"
	}
	s, err := Enter(o)
	return s, rest, err
}

// try makes one attempt in the sandbox.
func try(what, file, runtimeFolder string) error {
	s, what, err := confine(what, file, runtimeFolder)
	if err != nil {
		return err
	}
	switch what {
	case "a device", "a device that is named":
		f, err := os.OpenFile("/dev/zero", os.O_RDWR, 0)
		if err == nil {
			err = f.Close()
		}
		return err
	case "namespace":
		c := exec.Command("/bin/true")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUTS}
		return c.Run()
	case "clone3":
		_, _, e := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0)
		return e
	case "inotify":
		_, err := unix.InotifyInit1(0)
		return err
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
	case "mknod":
		return unix.Mknod(filepath.Join(runtimeFolder, "n"), unix.S_IFIFO, 0)
	case "many calls that are refused":
		return refuseMany(s)
	case "the signal of a refused call, sent by somebody":
		return errors.Join(unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSYS), fmt.Errorf("counted: %v", s.Refused()))
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

// refuseMany makes refused calls on many threads while others collect garbage, and one
// that no kernel has. It returns what was counted.
func refuseMany(s *Sandbox) error {
	var wrong atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			runtime.LockOSThread()
			for i := range 2000 {
				if _, err := unix.InotifyInit1(0); !errors.Is(err, unix.EPERM) {
					wrong.Add(1)
				}
				if i%100 == 0 {
					runtime.GC()
				}
			}
		})
	}
	all.Wait()
	if n := wrong.Load(); n > 0 {
		return fmt.Errorf("%d calls were not refused", n)
	}
	if _, _, e := unix.Syscall(unix.SYS_MKNODAT, 0, 0, 0); e != unix.EPERM {
		return e
	}
	if _, _, e := unix.Syscall(7000, 0, 0, 0); e != unix.EPERM {
		return e
	}
	return fmt.Errorf("counted: %v", s.Refused())
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

// program is this package's test as Purser is built: this process's own, or one that is
// built without cgo.
func program(t *testing.T) string {
	t.Helper()
	if built, _ := debug.ReadBuildInfo(); slices.Contains(built.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"}) {
		return "/proc/self/exe"
	}
	path := filepath.Join(t.TempDir(), "confined")
	build := exec.Command("go", "test", "-c", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}
