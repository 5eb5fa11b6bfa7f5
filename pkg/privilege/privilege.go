//go:build linux

// Package privilege gives up root for good, and proves it: another user and group
// on all threads, no capabilities, no way to new ones. It also keeps the memory of
// the process from other processes, from core dumps and from swap.
//
// In this order, once everything is bound that needs root: Drop, Harden,
// LockMemory. The first needs a build without cgo, where the Go runtime can make
// all threads do the same. Which account is meant by a name is for pkg/caller.
package privilege

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// IDs are the account to become.
type IDs struct {
	UID, GID uint32
	Groups   []uint32 // the supplementary groups; all others are given up
}

// A Report is what Drop found and did.
type Report struct {
	// Dropped is set if there was anything to give up. A process that a normal user
	// started without capabilities stays what it is.
	Dropped bool
	// Threads is on how many threads the kernel confirmed the result.
	Threads int
	// BoundingEmpty is set if not even a program of root's could have capabilities
	// when started from this process. Only a process with CAP_SETPCAP can see to that.
	BoundingEmpty bool
	// NoNewPrivileges is set if programs started from this process gain nothing by
	// set-user-ID bits or file capabilities. It is unset in builds with cgo only,
	// where Drop can do nothing for all threads.
	NoNewPrivileges bool
}

// errCgo is a process that cannot give up its privileges on all threads.
var errCgo = errors.New("this build uses cgo, which cannot give up privileges on all threads; build with CGO_ENABLED=0")

// Drop gives up for good what this process may do beyond a normal user. Started as
// root it becomes the given account; started as anyone else it stays who it is, in
// the groups it is in, and gives up its capabilities if it has any. Then it proves
// the result on every thread. After an error the process must not go on: it may
// have given up a part.
//
// Its last use of root is to lift the limit for locked memory, see LockMemory.
func Drop(to IDs) (Report, error) {
	before, err := ownState()
	if err != nil {
		return Report{}, err
	}
	if before.isRoot() {
		if err := to.check(); err != nil {
			return Report{}, err
		}
	}
	want := before.unprivileged()
	report := Report{Dropped: before.privileged(), NoNewPrivileges: true}
	if report.Dropped {
		liftMemoryLimit()
		if before.isRoot() {
			want.become(to)
		}
		if err := giveUp(before, to); err != nil {
			return Report{}, err
		}
	}
	err = forbidNewPrivileges()
	if errors.Is(err, errCgo) && !report.Dropped {
		report.NoNewPrivileges, want.noNewPrivileges, err = false, before.noNewPrivileges, nil
	}
	if err != nil {
		return Report{}, err
	}
	if report.Dropped {
		if err := tryToRegain(); err != nil {
			return Report{}, err
		}
	}
	report.Threads, err = prove(want)
	report.BoundingEmpty = want.bounding == 0
	return report, err
}

// check refuses accounts that are no drop, and the ids that tell the kernel to
// leave things as they are.
func (to IDs) check() error {
	if to.UID == 0 || to.GID == 0 || slices.Contains(to.Groups, 0) {
		return fmt.Errorf("uid %d, gid %d, groups %v: that is still root; choose another user and group", to.UID, to.GID, to.Groups)
	}
	if to.UID == math.MaxUint32 || to.GID == math.MaxUint32 || slices.Contains(to.Groups, math.MaxUint32) {
		return fmt.Errorf("uid %d, gid %d, groups %v: %d is no id", to.UID, to.GID, to.Groups, uint32(math.MaxUint32))
	}
	return nil
}

// giveUp changes ids and capabilities on all threads. The bounding set comes first,
// as it needs a capability; the others need none to be emptied.
func giveUp(before state, to IDs) error {
	if before.has(unix.CAP_SETPCAP) {
		if err := emptyBoundingSet(); err != nil {
			return err
		}
	}
	if before.isRoot() {
		if err := become(to); err != nil {
			return err
		}
	}
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL); err != nil {
		return fmt.Errorf("empty the ambient set: %w", err)
	}
	if err := setCapabilities(new([2]unix.CapUserData)); err != nil {
		return fmt.Errorf("empty the capability sets: %w", err)
	}
	return nil
}

func emptyBoundingSet() error {
	for capability := range uintptr(64) {
		err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, capability)
		if errors.Is(err, unix.EINVAL) {
			return nil // the kernel has no more of them
		}
		if err != nil {
			return fmt.Errorf("take capability %d from the bounding set: %w", capability, err)
		}
	}
	return nil
}

// become changes the groups before the user, who may not.
func become(to IDs) error {
	groups := make([]int, 0, len(to.Groups))
	for _, gid := range to.Groups {
		groups = append(groups, int(gid))
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups %v: %w", to.Groups, err)
	}
	gid, uid := int(to.GID), int(to.UID)
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("become gid %d: %w", gid, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("become uid %d: %w", uid, err)
	}
	return nil
}

// tryToRegain does what must fail now.
func tryToRegain() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for name, call := range map[string]uintptr{"uid": unix.SYS_SETRESUID, "gid": unix.SYS_SETRESGID} {
		if _, _, errno := unix.RawSyscall(call, 0, 0, 0); errno == 0 {
			return fmt.Errorf("privileges were given up, but %s 0 could be had back", name)
		}
	}
	return nil
}

// forbidNewPrivileges sets no_new_privs (prctl(2)), which no process can unset.
func forbidNewPrivileges() error {
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	return nil
}

func onAllThreads(call, a, b uintptr) error {
	return threadsError(syscall.AllThreadsSyscall6(call, a, b, 0, 0, 0, 0))
}

func threadsError(_, _ uintptr, errno syscall.Errno) error {
	switch errno {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return errCgo
	}
	return errno
}
