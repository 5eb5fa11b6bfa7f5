//go:build linux

package privilege

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setCapabilities sets the effective, permitted and inheritable sets of all threads
// (capset(2)).
func setCapabilities(sets *[2]unix.CapUserData) error {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return threadsError(syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(&sets[0])), 0))
}
