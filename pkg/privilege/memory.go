//go:build linux

package privilege

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Harden keeps the memory of this process from core dumps, and from debuggers and
// /proc readers that run as the same user. To be called once more after Drop, as a change
// of user sets what a system's default is. What this process reads of itself in /proc
// stays readable, except for what the kernel shows to a tracer only.
func Harden() error {
	if err := forbidCores(); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide memory from other processes: %w", os.NewSyscallError("prctl", err))
	}
	return nil
}

func forbidCores() error {
	var cores unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &cores); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	if cores == (unix.Rlimit{}) {
		return nil // where systemd saw to it, it may also have forbidden the call
	}
	return os.NewSyscallError("setrlimit", unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
}

// LockMemory keeps the memory of this process out of swap, a page at a time as it
// is first used. An error leaves everything as it was and is worth a warning, no
// more. It does nothing while there is a limit for locked memory: Go ends a program
// whose heap cannot grow.
//
// There is none if Drop was called as root, or where systemd's LimitMEMLOCK= says
// infinity. To be called after Drop: the permission to ignore the limit goes with
// root, the limit stays.
func LockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	if limit.Cur != unix.RLIM_INFINITY {
		return fmt.Errorf("memory is not kept out of swap: at most %d bytes may be locked (RLIMIT_MEMLOCK); set LimitMEMLOCK=infinity in the unit or turn swap off", limit.Cur)
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("memory is not kept out of swap: %w", os.NewSyscallError("mlockall", err))
	}
	return nil
}

// liftMemoryLimit lifts the limit for locked memory if that is permitted. If not,
// LockMemory says so.
func liftMemoryLimit() {
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
}
