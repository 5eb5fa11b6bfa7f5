//go:build amd64 || arm64

package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// refuse is what the filter does with a call that is not on the list: the thread gets
// SIGSYS, whose handler counts the call and lets it fail with EPERM. Go's own handler
// would end the process. Where a thread has all signals blocked, as Go does for moments
// in which it makes calls of the list alone, the kernel ends the process, too.
const refuse = seccomp.ActionTrap

// Kernels have some 470 calls. What is beyond the table, or not in the numbers of this
// architecture, is counted in its last place. The handlers know both figures.
const (
	mostCalls  = 512
	otherCalls = mostCalls - 1
)

// refused counts by the number of the call. Only the handler writes.
var refused [mostCalls]atomic.Uint64

// handler and restorer are addresses of code in refused_*.s.
func handler() uintptr
func restorer() uintptr

// A sigaction is how the kernel has it (struct kernel_sigaction of sigaction(2)).
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// countRefusals puts the handler in the place of Go's, before there is a filter.
func countRefusals() error {
	// SA_SIGINFO, SA_RESTORER, SA_ONSTACK and SA_RESTART, as Go has them.
	const info, restores, onStack, restart = 0x4, 0x4000000, 0x8000000, 0x10000000
	action := sigaction{handler: handler(), flags: info | onStack | restart, mask: ^uint64(0)}
	if action.restorer = restorer(); action.restorer != 0 {
		action.flags |= restores
	}
	_, _, failure := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGSYS), uintptr(unsafe.Pointer(&action)), 0, unsafe.Sizeof(action.mask), 0, 0)
	if failure != 0 {
		return fmt.Errorf("handle SIGSYS: %w", failure)
	}
	return nil
}

// Refused are the system calls that failed since they are not on the list, by name. Each
// is a bug, or somebody's doing.
func (s *Sandbox) Refused() (calls []Call) {
	if s == nil || s.Seccomp != "" {
		return nil
	}
	for number := range refused {
		if count := refused[number].Load(); count > 0 {
			calls = append(calls, Call{callName(number), count})
		}
	}
	slices.SortFunc(calls, func(x, y Call) int { return strings.Compare(x.Name, y.Name) })
	return calls
}

func callName(number int) string {
	if number == otherCalls {
		return "other"
	}
	if info, err := arch.GetInfo(""); err == nil {
		if name, ok := info.SyscallNumbers[number]; ok {
			return name
		}
	}
	return fmt.Sprint(number)
}
