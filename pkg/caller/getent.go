package caller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	getentPath  = "/usr/bin/getent"
	getentWait  = 2 * time.Second  // for one answer
	membersWait = 10 * time.Second // for all members of a group
	namesAtOnce = 500              // in one question
	answerBound = 4 << 20          // bytes of one answer

	// getentNotFound is the exit status for a key that the directory does not have;
	// what it found of the others is in its output (getent(1)).
	getentNotFound = 2
)

// ask returns what the directory has for the given keys. No directory at all is
// ErrUnknownAccount; so is a key without an entry, with what was found of the others.
func (a Accounts) ask(ctx context.Context, database string, keys ...string) ([]byte, error) {
	keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !askable(key) })
	if len(keys) == 0 {
		return nil, ErrUnknownAccount
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(a.wait, getentWait))
	defer cancel()
	run := a.Run
	if run == nil {
		run = child
	}
	answer, exit, err := run(ctx, append([]string{cmp.Or(a.getent, getentPath), database, "--"}, keys...), answerBound)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the directory did not answer (getent %s): %w", database, ctx.Err())
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrUnknownAccount
	case err != nil:
		return nil, fmt.Errorf("getent %s: %w", database, err)
	case exit == getentNotFound:
		return answer, ErrUnknownAccount
	case exit != 0:
		return nil, fmt.Errorf("getent %s: exit status %d", database, exit)
	}
	return answer, nil
}

// child runs a program as a child of this process.
func child(ctx context.Context, args []string, most int) (printed []byte, exit int, err error) {
	answer := &boundedBuffer{room: most}
	getent := exec.CommandContext(ctx, args[0], args[1:]...)
	getent.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	getent.Dir = "/"
	getent.Stdout = answer
	// A helper of its own must not keep the pipe open.
	getent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	getent.Cancel = func() error { return syscall.Kill(-getent.Process.Pid, syscall.SIGKILL) }
	getent.WaitDelay = 100 * time.Millisecond
	err = getent.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok && ended.ExitCode() >= 0 {
		return answer.text, ended.ExitCode(), nil
	}
	return answer.text, 0, err
}

// askable reports whether a directory may be asked for a name from a configuration
// or a list of members.
func askable(name string) bool {
	return name != "" && len(name) <= 256 && !strings.ContainsAny(name, ":\n\x00")
}

// A boundedBuffer refuses more than it has room for.
type boundedBuffer struct {
	text []byte
	room int
}

var errTooLong = errors.New("the answer is too long")

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if len(b.text)+len(p) > b.room {
		return 0, errTooLong
	}
	b.text = append(b.text, p...)
	return len(p), nil
}
