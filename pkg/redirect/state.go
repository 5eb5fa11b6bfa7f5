package redirect

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// stateFolder has a file for each network namespace in which rules were installed. It
// is gone after a boot, as they are. The kernel may give the number of a namespace that
// is gone to a new one: Wanted is then wrong, and the check that it asks for fails.
var stateFolder = "/run/purser-redirect"

func stateFile() (string, error) {
	info, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return "", err
	}
	return filepath.Join(stateFolder, strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)), nil
}

func remember() error {
	path, err := stateFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(stateFolder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o644)
}

func forget() error {
	path, err := stateFile()
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Wanted reports whether Install was called in this network namespace since the host
// booted and Remove was not: whoever removed the rules then was somebody else.
func Wanted() bool {
	path, err := stateFile()
	if err != nil {
		return false
	}
	_, err = os.Stat(path)
	return err == nil
}
