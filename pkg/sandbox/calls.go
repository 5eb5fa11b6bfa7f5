package sandbox

import (
	"fmt"
	"runtime"
	"slices"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// allowed are the system calls of a Go program that serves and asks over the network, by
// the names of go-seccomp-bpf, which calls arm64's newfstatat fstatat. A name that this
// architecture does not have is left out. Besides them there is clone, see plainClone.
var allowed = []string{
	// Files and descriptors.
	"read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2",
	"open", "openat", "openat2", "close", "close_range", "stat", "lstat", "fstat", "newfstatat", "fstatat", "statx", "statfs", "fstatfs",
	"lseek", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getdents64", "getcwd",
	"fcntl", "dup", "dup2", "dup3", "pipe", "pipe2", "ioctl", "flock",
	"mkdirat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "fchmod", "fchmodat", "ftruncate", "fsync", "fdatasync",
	"memfd_create", "copy_file_range", "sendfile", "splice",
	// Memory.
	"mmap", "munmap", "mremap", "mprotect", "madvise", "mincore", "brk", "mlock", "mlock2", "munlock", "mlockall", "membarrier",
	// Threads, signals and time.
	"exit", "exit_group", "futex", "futex_waitv", "set_robust_list", "get_robust_list", "set_tid_address", "rseq",
	"gettid", "getpid", "getppid", "getpgrp", "getpgid", "getsid", "sched_yield", "sched_getaffinity", "arch_prctl", "prctl", "prlimit64", "getrlimit", "setrlimit", "getrusage", "sysinfo", "uname",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "tgkill", "tkill", "kill", "restart_syscall",
	"nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time",
	"timer_create", "timer_settime", "timer_delete", "setitimer", "timerfd_create", "timerfd_settime",
	"getuid", "geteuid", "getgid", "getegid", "getgroups", "getresuid", "getresgid", "capget",
	"wait4", "waitid", "pidfd_open", "pidfd_send_signal", // of the helper
	// Sockets and waiting for them.
	"socket", "socketpair", "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt",
	"sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg",
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6", "eventfd2",
	"getrandom",
}

// deadly are the system calls that only an attacker makes: the process is killed.
var deadly = []string{
	"execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "bpf", "userfaultfd", "perf_event_open",
	"mount", "umount2", "pivot_root", "chroot", "fsopen", "fsmount", "fsconfig", "move_mount", "open_tree", "mount_setattr",
	"kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "swapon", "swapoff",
	"setns", "unshare", "add_key", "keyctl", "request_key", "io_uring_setup",
}

// namespaces are the flags of clone that make namespaces, in which a process has powers
// again. clone3 hides its flags from a filter, so the kernel seems not to have it: who
// wants a thread then uses clone.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// unknown is how a kernel answers a call that it does not have.
const unknown = seccomp.ActionErrno&^0xffff | seccomp.Action(unix.ENOSYS)

// plainClone is clone without any namespace: a thread, or the child that becomes a
// program.
var plainClone = seccomp.NameWithConditions{
	Name:       "clone",
	Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.BitsNotSet, Value: namespaces}},
}

// A Call is a system call that was refused.
type Call struct {
	Name  string // that of the kernel, a number if it is not known, or "other"
	Count uint64 // since the sandbox was entered
}

// restrictCalls lets everything fail with EPERM that is not allowed, counts it, and has
// the kernel write it to its audit log.
func (s *Sandbox) restrictCalls() error {
	if !seccomp.Supported() {
		s.Seccomp = "the kernel does not have seccomp, or what Purser runs in forbids it"
		return nil
	}
	info, err := arch.GetInfo("")
	if err != nil {
		s.Seccomp = fmt.Sprintf("no list of system calls for %s", runtime.GOARCH)
		return nil
	}
	if err := countRefusals(); err != nil {
		return err
	}
	err = seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync | seccomp.FilterFlagLog,
		Policy: seccomp.Policy{
			DefaultAction: refuse,
			Syscalls: []seccomp.SyscallGroup{
				{Action: seccomp.ActionKillProcess, Names: known(deadly, info)},
				{Action: unknown, Names: []string{"clone3"}},
				{Action: seccomp.ActionAllow, Names: known(allowed, info), NamesWithCondtions: []seccomp.NameWithConditions{plainClone}},
				{Action: seccomp.ActionKillProcess, Names: []string{"clone"}}, // any other, as with unshare
			},
		},
	})
	if err != nil {
		return err
	}
	s.Seccomp = ""
	return nil
}

// known are those of names that an architecture has.
func known(names []string, on *arch.Info) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, ok := on.SyscallNames[name]
		return !ok
	})
}
