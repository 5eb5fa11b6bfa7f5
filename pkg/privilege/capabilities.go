//go:build linux

package privilege

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// emptyCapabilities empties the effective, permitted and inheritable sets of all
// threads (capset(2)).
func emptyCapabilities() error {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return threadsError(syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(&none[0])), 0))
}
