package upstream

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/testkit"
)

// asNobody makes this test's file accesses those of a user without rights. Root may
// read everything, so for root it changes the file system uid of the thread.
func asNobody(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	const setfsuid, nobody = syscall.SYS_SETFSUID, 65534
	if _, _, errno := syscall.RawSyscall(setfsuid, nobody, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
}

func TestCheckReadableNamesOwnerAndMode(t *testing.T) {
	dir := t.TempDir()
	for at := dir; at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	open := filepath.Join(dir, "open.pem")
	locked := filepath.Join(dir, "locked.pem")
	hidden := filepath.Join(dir, "folder", "hidden.pem")
	if err := os.Mkdir(filepath.Dir(hidden), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{open: 0o644, locked: 0o200, hidden: 0o644} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(hidden), 0o600); err != nil {
		t.Fatal(err)
	}
	owner := userName(uint32(os.Geteuid())) + ":" + groupName(uint32(os.Getegid()))

	done := make(chan error)
	go func() {
		asNobody(t)
		done <- CheckReadable([]string{open, locked, hidden})
	}()
	err := <-done
	if err == nil {
		t.Fatal("no error")
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Dir(hidden), 0o700) })
	for _, want := range []string{
		locked + ": user ",
		"may not read it: the file " + locked + " belongs to " + owner + " with mode 0200; chgrp " + groupName(uint32(os.Getegid())) + " " + locked + " && chmod 640 " + locked,
		hidden + ": user ",
		"may not read it: the folder " + filepath.Dir(hidden) + " belongs to " + owner + " with mode 0600",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), open) {
		t.Errorf("%v\nmentions a file that can be read", err)
	}
}

func TestWhatTheUnitHidesIsToldFromWrongModes(t *testing.T) {
	for _, c := range []struct {
		at   string
		mode os.FileMode
		want string
	}{
		{"/home", os.ModeDir, "; the unit's ProtectHome= hides it, so put the file elsewhere, such as below /etc/purser"},
		{"/home", os.ModeDir | 0o700, ""},
		{"/srv", os.ModeDir, ""},
		{"/srv/pipe", os.ModeNamedPipe, ""},
	} {
		if got := remedy(c.at, c.mode, "read"); got != c.want {
			t.Errorf("%s, %v: got %q, want %q", c.at, c.mode, got, c.want)
		}
	}
	if got := remedy("/bin/x", 0o644, "run"); got != "" {
		t.Errorf("a program: got %q", got)
	}
}

func TestCheckReadableWaitsForNothing(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		pipe:                          "not a regular file",
		dir:                           "not a regular file",
		filepath.Join(dir, "missing"): "does not exist",
	} {
		if err := CheckReadable([]string{path}); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want ...%s", path, err, want)
		}
	}
	if err := CheckReadable(nil); err != nil {
		t.Errorf("no files: %v", err)
	}
}

func TestReadFileIsBounded(t *testing.T) {
	path := testkit.File(t, "bundle.pem", make([]byte, maxFile+1))
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v, want an error", err)
	}
}

func TestWatchSeesEachWayOfRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	testkit.Replace(t, path, "one")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	testkit.Replace(t, other, "one")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	watch := NewWatch([]string{link, filepath.Join(dir, "absent")})
	for _, step := range []struct {
		name string
		do   func()
		want bool
	}{
		{"nothing", func() {}, false},
		{"rename", func() { testkit.Replace(t, path, "two") }, true},
		{"in place", func() { must(os.WriteFile(path, []byte("three"), 0o600)) }, true},
		{"same size and time, in place", func() {
			info, err := os.Stat(path)
			must(err)
			time.Sleep(10 * time.Millisecond) // file times advance with the kernel's tick
			must(os.WriteFile(path, []byte("eerht"), 0o600))
			must(os.Chtimes(path, info.ModTime(), info.ModTime()))
		}, true},
		{"swapped link", func() {
			must(os.Symlink(other, link+".new"))
			must(os.Rename(link+".new", link))
		}, true},
		{"mode", func() { time.Sleep(10 * time.Millisecond); must(os.Chmod(other, 0o644)) }, true},
		{"gone", func() { must(os.Remove(link)) }, true},
		{"still gone", func() {}, false},
		{"back", func() { must(os.Symlink(path, link)) }, true},
		{"the other file appears", func() { testkit.Replace(t, filepath.Join(dir, "absent"), "") }, true},
	} {
		step.do()
		if got := watch.Changed(); got != step.want {
			t.Errorf("%s: changed is %v, want %v", step.name, got, step.want)
		}
		if watch.Changed() {
			t.Errorf("%s: the change is reported twice", step.name)
		}
	}
}
