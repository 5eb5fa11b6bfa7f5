package upstream

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFile bounds a certificate file, in bytes; the bundle of all public authorities
// takes a quarter of it.
const maxFile = 1 << 20

// A FileError says what is wrong with a file.
type FileError struct {
	Path string
	Err  error // does not begin with the path
}

// Error implements error.
func (e *FileError) Error() string {
	if errors.Is(e.Err, fs.ErrNotExist) {
		return e.Path + " does not exist"
	}
	return e.Path + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// CheckReadable reports each file that the current user cannot read, with its owner
// and mode, as a FileError. A file that is read again later must be readable after root was given
// up, so serve and check call this as Purser's own user.
func CheckReadable(paths []string) error {
	var all []error
	for _, path := range paths {
		f, err := openFile(path)
		if err == nil {
			err = f.Close()
		}
		if err == nil {
			continue
		}
		if wrapped, ok := errors.AsType[*fs.PathError](err); ok {
			err = wrapped.Err
		}
		if errors.Is(err, fs.ErrPermission) {
			err = Denied(path, "read")
		}
		all = append(all, &FileError{path, err})
	}
	return errors.Join(all...)
}

// openFile opens a regular file without waiting for anything: opening a named pipe
// would.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// ReadFile reads a regular file of a megabyte at most, and waits for nothing: opening
// a named pipe would.
func ReadFile(path string) ([]byte, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return text, nil
}

// CheckExecutable reports why the current user cannot run a program, with its owner and
// mode if that is it. The error does not begin with the path.
func CheckExecutable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return Denied(path, "run")
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no such program")
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is no program but another kind of file")
	case unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) != nil:
		return Denied(path, "run")
	}
	return nil
}

// Denied names what stands between the current user and a file: the file itself or
// the outermost folder on the way that cannot be entered. The error does not begin with
// the path.
func Denied(path, to string) error {
	me := userName(uint32(os.Geteuid()))
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err == nil {
			owner, group := "?", "?"
			if sys, ok := info.Sys().(*syscall.Stat_t); ok {
				owner, group = userName(sys.Uid), groupName(sys.Gid)
			}
			kind := "file"
			if info.IsDir() {
				kind = "folder"
			}
			return fmt.Errorf("user %s may not %s it: the %s %s belongs to %s:%s with mode %04o%s",
				me, to, kind, at, owner, group, info.Mode().Perm(), remedy(at, info.Mode(), to))
		}
		if at == filepath.Dir(at) {
			return fmt.Errorf("user %s may not %s it: %w", me, to, err)
		}
	}
}

// remedy says what most often helps against the mode of what denies a file.
func remedy(at string, mode fs.FileMode, to string) string {
	switch {
	case mode.IsRegular() && to == "read":
		return fmt.Sprintf("; chgrp %s %s && chmod 640 %s", groupName(uint32(os.Getegid())), at, at)
	case mode.IsDir() && mode.Perm() == 0 && slices.Contains([]string{"/home", "/root", "/run/user"}, at):
		return "; the unit's ProtectHome= hides it, so put the file elsewhere, such as below /etc/purser"
	}
	return ""
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

// Fingerprint tells apart two states of a set of files, without reading them. It
// follows symbolic links, so it sees a rotation by rename, by a swapped link and in
// place, and a change of owner or mode. A missing file is a state like any other.
func Fingerprint(paths []string) string {
	var b strings.Builder
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			b.WriteString("-;")
			continue
		}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			fmt.Fprintf(&b, "%d.%d.%d.%d.%d.%d.%d;", sys.Dev, sys.Ino, sys.Size,
				sys.Mtim.Sec, sys.Mtim.Nsec, sys.Ctim.Sec, sys.Ctim.Nsec)
		}
	}
	return b.String()
}

// A Watch notices that one of a set of files changed. It is asked now and then
// rather than told: a look costs one stat per file, and it works on every file
// system.
type Watch struct {
	paths []string

	mu   sync.Mutex
	seen string
}

// NewWatch returns a Watch that takes the present state as known.
func NewWatch(paths []string) *Watch {
	return &Watch{paths: paths, seen: Fingerprint(paths)}
}

// Changed reports whether a file changed since the Watch was made or last asked. It
// is safe for concurrent use; one of the callers learns of a change.
func (w *Watch) Changed() bool {
	if len(w.paths) == 0 {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := Fingerprint(w.paths)
	changed := now != w.seen
	w.seen = now
	return changed
}
