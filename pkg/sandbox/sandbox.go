// Package sandbox confines the running daemon to what it has a use for: files that it
// reads again and its runtime folder (Landlock), and the system calls of a network
// server (seccomp). Whoever takes over the process finds little to go on with.
//
// It is entered after everything was opened that needs more, and cannot be left. The
// programs that Purser runs are not bound by it, as their helper was started before.
// Giving up root is left to pkg/privilege. A kernel that cannot do one of the two is no
// error: what is in force is told.
package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	"github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// Options say what stays possible.
type Options struct {
	Landlock, Seccomp bool // which of the two to use
	// Files are those that are read again. The folders that they are in stay readable,
	// as they are replaced by others of the same name, and so does every folder on the
	// way that has a link in it, as that may lead beside its former target next.
	Files []string
	// Runtime is the one folder that stays writable.
	Runtime string
	// Removed are files that are removed once they were read: their folders are writable.
	Removed []string
	// Devices are device files that stay usable.
	Devices []string
}

// In every case readable: name resolution, the user database, time zones, the system's
// authorities, and who is at the other end of a connection.
var always = []string{
	"/etc", "/run/systemd/resolve", "/sys/fs/cgroup", "/proc",
	"/usr/share/zoneinfo", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
}

// resolving are files of /etc that may be links to somewhere else.
var resolving = []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime"}

// A Sandbox is what is in force.
type Sandbox struct {
	// Landlock and Seccomp are empty where they are in force, and say otherwise why
	// they are not.
	Landlock, Seccomp string
	// Real folders and device files; readable is nil if there is no such limit.
	readable, writable, devices []string
}

// Enter confines this process, all of its threads, for good. The error is a bug or an
// odd kernel; a missing feature is none.
func Enter(o Options) (*Sandbox, error) {
	s := &Sandbox{Landlock: "turned off (sandbox.landlock)", Seccomp: "turned off (sandbox.seccomp)"}
	if o.Landlock {
		if err := s.restrictFiles(o); err != nil {
			return nil, fmt.Errorf("landlock: %w", err)
		}
	}
	if o.Seccomp {
		if err := s.restrictCalls(); err != nil {
			return nil, fmt.Errorf("seccomp: %w", err)
		}
	}
	return s, nil
}

func (s *Sandbox) restrictFiles(o Options) error {
	switch version, err := syscall.LandlockGetABIVersion(); {
	case errors.Is(err, fs.ErrPermission):
		s.Landlock = "what Purser runs in forbids it, such as the seccomp filter of a container"
		return nil
	case err != nil || version < 1:
		s.Landlock = "the kernel does not have Landlock, or it is off at boot (lsm=)"
		return nil
	}
	readable := slices.Clone(always)
	for _, file := range slices.Concat(o.Files, resolving) {
		readable = append(readable, folders(file)...)
	}
	slices.Sort(readable)
	readable = slices.Compact(readable)
	var emptied []string // that may be gone with the file
	for _, file := range o.Removed {
		emptied = append(emptied, filepath.Dir(file))
	}
	err := landlock.V5.BestEffort().RestrictPaths(
		landlock.RODirs(readable...).IgnoreIfMissing(),
		landlock.RWDirs(o.Runtime),
		landlock.RWDirs(emptied...).IgnoreIfMissing(),
		landlock.RWFiles(append([]string{"/dev/null"}, o.Devices...)...).IgnoreIfMissing().WithIoctlDev(),
	)
	if err != nil {
		return err
	}
	s.Landlock = ""
	s.writable = real(append(emptied, o.Runtime))
	s.readable = append(real(readable), s.writable...)
	s.devices = real(o.Devices)
	return nil
}

// real are those of paths that exist, without links.
func real(paths []string) (all []string) {
	for _, path := range paths {
		if path, err := filepath.EvalSymlinks(path); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				all = append(all, path)
			}
		}
	}
	return all
}

// mostLinks bounds a way by links, as the kernel does.
const mostLinks = 40

// tooWide are folders in which a link of the system's own, such as /var/run, would make
// too much readable.
var tooWide = []string{"/", "/var"}

// folders are those that a file is read by: the one that it is really in, and each one
// on the way to it that has a link in it.
func folders(file string) (all []string) {
	if whole, err := filepath.Abs(file); err == nil {
		file = whole
	}
	at, links := "/", 0 // at has no link in it
	for rest := strings.Split(file, "/"); len(rest) > 0; {
		path := filepath.Join(at, rest[0])
		rest = rest[1:]
		target, err := os.Readlink(path)
		if err != nil || links == mostLinks {
			at = path
			continue
		}
		links++
		if !slices.Contains(tooWide, at) {
			all = append(all, at)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return append(all, filepath.Dir(at))
}

// Check reports what of a later configuration is not possible, as it was not named at
// the start: files to read, files to remove and devices.
func (s *Sandbox) Check(o Options) error {
	if s == nil || s.readable == nil {
		return nil
	}
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	for _, file := range o.Files {
		for _, path := range real([]string{file}) { // whoever needs one that is missing says so
			if folder := filepath.Dir(path); !within(folder, s.readable) {
				fault("%s: the folder %s is outside of the sandbox", file, folder)
			}
		}
	}
	for _, file := range o.Removed {
		for _, folder := range real([]string{filepath.Dir(file)}) {
			if !within(folder, s.writable) {
				fault("%s: the folder %s is read-only in the sandbox", file, folder)
			}
		}
	}
	for _, device := range real(o.Devices) {
		if !slices.Contains(s.devices, device) {
			fault("the device %s is outside of the sandbox", device)
		}
	}
	return errors.Join(all...)
}

// within reports whether a folder is one of those that are known, or below one.
func within(folder string, known []string) bool {
	return slices.ContainsFunc(known, func(known string) bool {
		return folder == known || strings.HasPrefix(folder, strings.TrimSuffix(known, "/")+"/")
	})
}
