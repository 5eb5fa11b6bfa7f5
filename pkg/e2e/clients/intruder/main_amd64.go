// Command intruder has a thread of another process make a system call, as whoever has
// taken over that process would: intruder PID NUMBER. It prints what the call answered.
// It is a program of its own as a traced process reports to every wait of its tracer.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	answer, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "intruder:", err)
		os.Exit(1)
	}
	fmt.Println(answer)
}

func run(args []string) (answer int64, err error) {
	if len(args) != 2 {
		return 0, errors.New("usage: intruder PID NUMBER")
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil {
		return 0, err
	}
	for range 100 {
		if answer, err = makeCall(pid, number); !errors.Is(err, errBusy) {
			return answer, err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0, err
}

// errBusy is a thread that is not in a system call right now.
var errBusy = errors.New("the thread is in no system call")

// makeCall has the first thread of a process make a system call without arguments, and
// go on afterwards with what it did.
func makeCall(pid int, number uint64) (answer int64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceAttach(pid); err != nil {
		return 0, fmt.Errorf("attach: %w", err)
	}
	defer func() { err = errors.Join(err, unix.PtraceDetach(pid)) }()
	var saved unix.PtraceRegs
	if _, err := stopped(pid); err != nil {
		return 0, err
	}
	if err := unix.PtraceGetRegs(pid, &saved); err != nil {
		return 0, err
	}
	instruction := make([]byte, 2)
	if _, err := unix.PtracePeekText(pid, uintptr(saved.Rip-2), instruction); err != nil {
		return 0, err
	}
	if string(instruction) != "\x0f\x05" {
		return 0, errBusy
	}
	again := saved // the call that was interrupted, to be made anew
	again.Rip, again.Rax, again.Orig_rax = saved.Rip-2, saved.Orig_rax, ^uint64(0)
	call := again
	call.Rax, call.Rdi = number, 0
	if err := unix.PtraceSetRegs(pid, &call); err != nil {
		return 0, err
	}
	var next unix.Signal
	handled := false
	for range 1000 { // the call, its signal, and the handler's way back
		if err := unix.PtraceSyscall(pid, int(next)); err != nil {
			return 0, err
		}
		if next, err = stopped(pid); err != nil {
			return 0, err
		}
		var now unix.PtraceRegs
		if err := unix.PtraceGetRegs(pid, &now); err != nil {
			return 0, err
		}
		if handled && next == 0 && now.Rip == saved.Rip {
			return int64(now.Rax), unix.PtraceSetRegs(pid, &again)
		}
		handled = handled || next == unix.SIGSYS
	}
	return 0, errors.New("the thread does not come back")
}

// stopped waits for a traced thread and returns the signal that it is about to get.
func stopped(pid int) (unix.Signal, error) {
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
		return 0, err
	}
	switch {
	case !status.Stopped():
		return 0, fmt.Errorf("the process has ended with %v", status)
	case status.StopSignal() == unix.SIGTRAP, status.StopSignal() == unix.SIGSTOP:
		return 0, nil // of ptrace itself
	}
	return status.StopSignal(), nil
}
