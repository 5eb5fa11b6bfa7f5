// Package helper runs programs for the daemon, in a small process of its own that is
// started before there is any secret: neither what later binds the daemon nor what it
// holds is then a matter of the programs.
//
// The helper is the same binary once more, in a session of its own with an empty
// environment. It has one socket, a pair's other end, and nothing else of the daemon. A
// program's output does not pass through it: the daemon makes the pipes and hands over
// the ends to write to. Each program is a session, killed as a whole when the program
// ends or its time is over; what left the session is killed when no program that may
// have started it is left. Helper and programs end with the daemon.
//
// What programs print is for pkg/upstream/KIND to understand, and when to run them for
// pkg/refresh.
package helper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Command is the argument with which the binary is the helper: main calls Serve then.
const Command = "helper"

// orphaned is the signal that the kernel sends the helper when the daemon has died, if
// for once the end of the socket does not tell.
const orphaned = syscall.SIGUSR1

// A Helper is the daemon's side: it fits upstream.Programs. It is safe for concurrent
// use.
type Helper struct {
	log   zerolog.Logger
	home  string
	slots chan struct{}
	stop  context.CancelFunc
	kept  sync.WaitGroup
	gone  chan struct{} // closed when the last helper has ended

	mu      sync.Mutex // guards all below
	conn    *net.UnixConn
	process *os.Process
	why     error // there is no helper
	last    uint64
	running map[uint64]chan answer // closed without an answer if the helper ended
	final   bool                   // there will be no other helper
}

// Start starts the helper and, until Last, another one if it ends, after a pause that
// grows. That it cannot be started is for Run to say, as not every configuration needs it. Close
// must be called at the end.
func Start(log zerolog.Logger) *Helper {
	h := &Helper{log: log, home: "/", slots: make(chan struct{}, mostAtOnce), gone: make(chan struct{}), running: map[uint64]chan answer{}}
	if me, err := user.LookupId(fmt.Sprint(os.Geteuid())); err == nil && strings.HasPrefix(me.HomeDir, "/") {
		h.home = me.HomeDir
	}
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	first := make(chan struct{})
	h.kept.Go(func() { h.keep(ctx, sync.OnceFunc(func() { close(first) })) })
	<-first
	return h
}

// errLast is why there is no helper any more.
var errLast = errors.New("the helper that runs programs has ended, and the sandbox lets this process start no other: restart it")

// Last says that this process cannot start another helper from now on. What it returns is
// closed when the present one ends before Close; where there is none, it never is.
func (h *Helper) Last() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.final = true
	if h.conn == nil {
		return nil
	}
	return h.gone
}

// over reports whether there will be no other helper after one that ended.
func (h *Helper) over() bool {
	h.mu.Lock()
	final := h.final
	h.mu.Unlock()
	if final {
		h.lose(errLast)
		close(h.gone)
	}
	return final
}

// Close ends the helper and all that it runs.
func (h *Helper) Close() {
	h.stop()
	h.kept.Wait()
}

// The pauses between one helper and the next. One that lasted for the longest pause
// was no failure of the start.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = time.Minute
)

// keep has one helper after the other, and calls ready when the first one is there or
// cannot be.
func (h *Helper) keep(ctx context.Context, ready func()) {
	// The kernel takes the end of the thread that started the helper for the daemon's.
	runtime.LockOSThread()
	pause := firstPause
	for {
		began := time.Now()
		err := h.have(ctx, ready)
		if ctx.Err() != nil {
			h.lose(errors.New("the daemon is stopping"))
			return
		}
		if time.Since(began) >= longestPause {
			pause = firstPause
		}
		if h.over() {
			h.log.Error().Err(err).Msg("the helper that runs programs ended, and there can be no other")
			return
		}
		h.lose(fmt.Errorf("the helper that runs programs is not there (%w); another one is started within %v", err, longestPause))
		h.log.Error().Err(err).Stringer("retry_in", pause).Msg("the helper that runs programs ended")
		ready()
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if h.over() {
			return
		}
		pause = min(2*pause, longestPause)
	}
}

// have starts a helper and returns when it has ended.
func (h *Helper) have(ctx context.Context, ready func()) error {
	conn, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer conn.Close()
	// What is not Go's own descriptor, but came from whoever started the daemon, would be
	// passed on. On a kernel without this call, nothing like it is known to come.
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	var last tail
	c := exec.CommandContext(ctx, "/proc/self/exe", Command)
	c.Args[0] = os.Args[0] // for those who list processes
	// Little memory counts here, speed does not.
	c.Env = []string{"GOGC=10", "GOMAXPROCS=1"}
	c.Dir = "/"
	c.ExtraFiles = []*os.File{theirs}
	c.Stderr = &last
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: orphaned}
	c.Cancel = func() error { return conn.Close() }
	c.WaitDelay = 2 * time.Second
	err = c.Start()
	_ = theirs.Close()
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.conn, h.process = conn, c.Process
	h.mu.Unlock()
	ready()
	var listening sync.WaitGroup
	listening.Go(func() { h.listen(conn) })
	err = c.Wait()
	_ = conn.Close()
	listening.Wait()
	if err == nil {
		err = errors.New("it ended of itself")
	}
	return last.explain(err)
}

func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(pair[1]), "socket")
	if ours, err = unixConn(pair[0]); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// unixConn takes over a descriptor.
func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	if c, ok := conn.(*net.UnixConn); ok {
		return c, nil
	}
	return nil, errors.Join(errors.New("not a Unix socket"), conn.Close())
}

// listen passes on what the helper answers. A helper that answers nonsense is ended.
func (h *Helper) listen(conn *net.UnixConn) {
	packet := make([]byte, maxMessage)
	for {
		n, err := conn.Read(packet)
		if err != nil {
			return
		}
		a, err := parseAnswer(packet[:n])
		if err != nil {
			h.log.Error().Err(err).Msg("bug: the helper that runs programs is not understood")
			_ = conn.Close()
			return
		}
		h.mu.Lock()
		if ended, ok := h.running[a.ID]; ok {
			ended <- a
			delete(h.running, a.ID)
		}
		h.mu.Unlock()
	}
}

// lose forgets a helper that has ended, with all that it ran.
func (h *Helper) lose(why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn, h.process, h.why = nil, nil, why
	for id, ended := range h.running {
		close(ended)
		delete(h.running, id)
	}
}

// A tail keeps the beginning of what a helper says before it dies.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p[:min(len(p), 500-len(t.text))]...)
	return len(p), nil
}

func (t *tail) explain(err error) error {
	if first, _, _ := strings.Cut(string(t.text), "\n"); first != "" {
		return fmt.Errorf("%w: %s", err, first)
	}
	return err
}
