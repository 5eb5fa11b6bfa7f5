package helper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/upstream"
)

// path is where programs find others.
const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// endingTime is how long the helper may take to tell of a program's end once it is due.
const endingTime = 5 * time.Second

// errHelper is a helper that ended while it ran a program.
var errHelper = errors.New("the helper that runs programs ended meanwhile")

// Run implements upstream.Programs. What of its standard output or its environment turns
// up on standard error too, as the trace of a shell script would show it, is left out
// there.
func (h *Helper) Run(ctx context.Context, p upstream.Program, diagnose func(line string)) ([]byte, error) {
	fault := func(class upstream.Class, err error) error {
		return &upstream.Error{Kind: class, Tried: "program " + p.Args[0], Err: err}
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, fault(stopped(ctx, fmt.Sprintf("it did not get its turn in time, as %d others were running", mostAtOnce)))
	}
	stdout, err := newCapture(p.Most)
	if err != nil {
		return nil, err
	}
	stderr, err := newCapture(maxStderr)
	if err != nil {
		stdout.close()
		return nil, err
	}
	id, ended, err := h.begin(p, stdout.write, stderr.write)
	go stdout.read()
	go stderr.read()
	if err != nil {
		stdout.finish()
		stderr.finish()
		return nil, fault(upstream.ClassTransport, err)
	}
	a, alive := h.await(ctx, id, ended, p.Timeout, stdout.full)
	text, whole := stdout.finish()
	said, allSaid := stderr.finish()
	if whole { // otherwise nobody knows what of it is secret
		for _, line := range lines(said, allSaid, hiding(text, p.Env)) {
			diagnose(line)
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, fault(stopped(ctx, "it did not end in time and was killed"))
	case !alive:
		return nil, fault(upstream.ClassTransport, errHelper)
	case !whole:
		return nil, fault(upstream.ClassTooLarge, fmt.Errorf("it printed more than %d bytes and was killed", p.Most))
	}
	class, err := verdict(p, a)
	if err == nil {
		return text, nil
	}
	if _, itself := errors.AsType[upstream.ExitError](err); !itself {
		text = nil
	}
	return text, fault(class, err)
}

// stopped says why a caller no longer waits, and what is wrong if its time was over.
func stopped(ctx context.Context, late string) (upstream.Class, error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return upstream.ClassCanceled, context.Canceled
	}
	return upstream.ClassTimeout, errors.New(late)
}

// begin has the helper start a program. The descriptors are handed over.
func (h *Helper) begin(p upstream.Program, stdout, stderr int) (uint64, chan answer, error) {
	defer func() {
		_ = unix.Close(stdout)
		_ = unix.Close(stderr)
	}()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return 0, nil, h.why
	}
	h.last++
	r := request{ID: h.last, Args: p.Args, Env: h.environment(p.Env), Timeout: p.Timeout}
	if err := h.send(r, unix.UnixRights(stdout, stderr)); err != nil {
		return 0, nil, err
	}
	ended := make(chan answer, 1)
	h.running[r.ID] = ended
	return r.ID, ended, nil
}

// environment is a program's own, and what every program has.
func (h *Helper) environment(own []string) []string {
	env := slices.Clone(own)
	for _, fixed := range []string{path, "HOME=" + h.home} {
		name, _, _ := strings.Cut(fixed, "=")
		if !slices.ContainsFunc(own, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			env = append(env, fixed)
		}
	}
	return env
}

// send needs the lock. A helper that does not read is ended by await.
func (h *Helper) send(r request, rights []byte) error {
	r.Version = version
	packet, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(packet) > maxMessage {
		return fmt.Errorf("its arguments and environment take more than %d bytes in a message to the helper that runs programs", maxMessage)
	}
	if err := h.conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, _, err = h.conn.WriteMsgUnix(packet, rights, nil); err != nil {
		return fmt.Errorf("the helper that runs programs does not listen: %w", err)
	}
	return nil
}

// await returns how a program ended. It is ended if the caller gives up or its output
// is full. alive is false if the helper ended instead, as one does that says nothing.
func (h *Helper) await(ctx context.Context, id uint64, ended <-chan answer, timeout time.Duration, full <-chan struct{}) (a answer, alive bool) {
	patience := time.NewTimer(timeout + endingTime)
	defer patience.Stop()
	select {
	case a, alive = <-ended:
		return a, alive
	case <-ctx.Done():
	case <-full:
	case <-patience.C:
	}
	h.end(id)
	patience.Reset(endingTime)
	select {
	case a, alive = <-ended:
		return a, alive
	case <-patience.C:
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, runs := h.running[id]; runs && h.process != nil {
		h.log.Error().Msg("the helper that runs programs does not answer and is killed")
		_ = h.process.Kill()
	}
	delete(h.running, id)
	return answer{}, false
}

// end has the helper end a program.
func (h *Helper) end(id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, runs := h.running[id]; runs && h.conn != nil {
		_ = h.send(request{ID: id}, nil)
	}
}

// verdict says what is wrong with how a program ended.
func verdict(p upstream.Program, a answer) (upstream.Class, error) {
	switch {
	case a.Fault != 0:
		return upstream.ClassProgram, startError(p.Args[0], a.Fault)
	case a.Late:
		return upstream.ClassTimeout, fmt.Errorf("it did not end within %v and was killed; what it waits for, or timeout, needs a change", p.Timeout)
	case a.Status.Signaled():
		return upstream.ClassExit, fmt.Errorf("it was ended by signal %d (%s); see what it said on its standard error", a.Status.Signal(), unix.SignalName(a.Status.Signal()))
	case a.Status.ExitStatus() != 0:
		return upstream.ClassExit, upstream.ExitError{Code: a.Status.ExitStatus()}
	}
	return "", nil
}

// startError says why a program cannot be started.
func startError(path string, errno syscall.Errno) error {
	if err := upstream.CheckExecutable(path); err != nil && !errors.Is(errno, syscall.EAGAIN) {
		return err
	}
	switch {
	case errors.Is(errno, fs.ErrNotExist):
		return errors.New("what its first line names to run it, or its loader, does not exist")
	case errno == syscall.ENOEXEC:
		return errors.New("it is neither a program for this machine nor a script whose first line says what runs it (#!/bin/sh)")
	}
	return fmt.Errorf("it cannot be started: %w", os.NewSyscallError("execve", errno))
}
