package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/testkit"
)

func TestAUsersFolderIsBelowTheirRuntimeFolder(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", base)
	checkOwnFolder(t, filepath.Join(base, "purser"))
}

func TestAUsersFolderIsATemporaryOneOtherwise(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("TMPDIR", base)
	checkOwnFolder(t, filepath.Join(base, fmt.Sprintf("purser-%d", os.Getuid())))
}

// checkOwnFolder demands that the folder is made, and used again.
func checkOwnFolder(t *testing.T, want string) {
	t.Helper()
	for _, time := range []string{"first", "second"} {
		got, err := makeOwnFolder()
		if got != want || err != nil {
			t.Fatalf("the %s time: got %q, %v, want %q", time, got, err, want)
		}
		info, err := os.Lstat(got)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != os.ModeDir|0o700 {
			t.Errorf("the %s time: got mode %v", time, info.Mode())
		}
	}
}

func TestAFolderThatSomebodyElseMadeIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(folder string) error
	}{
		{"another user's", func(folder string) error {
			return errors.Join(os.Mkdir(folder, 0o700), os.Chown(folder, 12345, 12345))
		}},
		{"open to everybody", func(folder string) error {
			return errors.Join(os.Mkdir(folder, 0o700), os.Chmod(folder, 0o777))
		}},
		{"open to the group", func(folder string) error {
			return errors.Join(os.Mkdir(folder, 0o700), os.Chmod(folder, 0o770))
		}},
		{"a link to a folder of this user", func(folder string) error {
			return errors.Join(os.Mkdir(folder+".elsewhere", 0o700), os.Symlink(folder+".elsewhere", folder))
		}},
		{"a file", func(folder string) error { return os.WriteFile(folder, nil, 0o600) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "another user's" && os.Getuid() != 0 {
				testkit.Lacks(t, "root, to make a folder that belongs to somebody else")
			}
			t.Setenv("XDG_RUNTIME_DIR", "")
			t.Setenv("TMPDIR", t.TempDir())
			if err := c.make(ownFolder()); err != nil {
				t.Fatal(err)
			}
			if _, err := makeOwnFolder(); err == nil || !strings.Contains(err.Error(), "remove it, or set XDG_RUNTIME_DIR") {
				t.Errorf("got error %v", err)
			}
			if isOwn(ownFolder()) {
				t.Error("an operator's commands would trust it")
			}
		})
	}
}

func TestTheSystemsSocketIsTheDefault(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if got := defaultSocket(); got != systemSocket {
		t.Errorf("got %s, although this user has no Purser", got)
	}
	if exists(ownFolder()) {
		t.Error("asking made a folder")
	}
}
