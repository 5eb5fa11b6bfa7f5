package helper

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketFD is where the helper finds its socket.
const socketFD = 3

// A server is the helper itself. One goroutine does everything, so that nothing in it
// needs a lock.
type server struct {
	conn    *net.UnixConn
	null    *os.File
	late    chan uint64 // programs whose time is over
	running map[uint64]*program
}

// A program is one that runs.
type program struct {
	pid   int
	began uint64 // by the clock of /proc
	alarm *time.Timer
	late  bool
}

// An order is a request with what came along.
type order struct {
	request
	stdout, stderr int
}

// Serve is the helper. It returns when the daemon has ended, after all that it ran.
func Serve() error {
	var stat unix.Stat_t
	if err := unix.Fstat(socketFD, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("this is for the daemon to start")
	}
	conn, err := unixConn(socketFD)
	if err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	// What a program leaves behind becomes a child of the helper, which can end it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	syscall.Umask(0o077)
	debug.FreeOSMemory() // what the start of the binary needed
	s := &server{conn: conn, null: null, late: make(chan uint64), running: map[uint64]*program{}}
	return s.serve()
}

func (s *server) serve() error {
	// A stop is for the daemon to order. Caught, as programs would inherit ignored ones.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	lost, ended := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(lost, orphaned)
	signal.Notify(ended, syscall.SIGCHLD)
	orders, broken := make(chan order), make(chan error, 1)
	go func() { broken <- s.read(orders) }()
	runtime.LockOSThread() // programs are killed when the thread that started them ends
	defer s.killAll()
	for {
		select {
		case err := <-broken:
			return err
		case <-lost:
			return nil
		case o := <-orders:
			if err := s.obey(o); err != nil {
				return err
			}
		case id := <-s.late:
			if p, ok := s.running[id]; ok {
				p.late = true
				p.kill()
			}
		case <-ended:
			if err := s.reap(); err != nil {
				return err
			}
		}
	}
}

// read passes on orders until the daemon has ended.
func (s *server) read(orders chan<- order) error {
	packet, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(2*4))
	for {
		n, r, flags, _, err := s.conn.ReadMsgUnix(packet, rights)
		if err != nil {
			return nil
		}
		if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			return errors.New("a message is too long")
		}
		o := order{stdout: -1, stderr: -1}
		if o.request, err = parseRequest(packet[:n]); err != nil {
			return err
		}
		if len(o.Args) > 0 {
			if o.stdout, o.stderr, err = twoFiles(rights[:r]); err != nil {
				return err
			}
		}
		orders <- o
	}
}

// twoFiles are the descriptors that come with a program to start.
func twoFiles(rights []byte) (stdout, stderr int, err error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return 0, 0, errors.New("a program without descriptors")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 2 {
		return 0, 0, errors.New("a program with other than two descriptors")
	}
	return fds[0], fds[1], nil
}

// obey starts or ends a program.
func (s *server) obey(o order) error {
	if len(o.Args) == 0 {
		if p, ok := s.running[o.ID]; ok {
			p.kill()
		}
		return nil
	}
	fault := s.start(o)
	for _, fd := range []int{o.stdout, o.stderr} {
		_ = unix.Close(fd)
	}
	if fault != nil {
		errno, ok := fault.(syscall.Errno)
		if !ok { // not the program's
			return fault
		}
		return s.answer(answer{ID: o.ID, Fault: errno})
	}
	return nil
}

func (s *server) start(o order) error {
	if _, twice := s.running[o.ID]; twice || len(s.running) >= mostAtOnce {
		return syscall.EAGAIN
	}
	pid, err := syscall.ForkExec(o.Args[0], o.Args, &syscall.ProcAttr{
		Dir: "/", Env: o.Env,
		Files: []uintptr{s.null.Fd(), uintptr(o.stdout), uintptr(o.stderr)},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return err
	}
	p := &program{pid: pid}
	s.running[o.ID] = p
	if p.began, err = began(pid); err != nil {
		return err
	}
	p.alarm = time.AfterFunc(o.Timeout, func() { s.late <- o.ID })
	return nil
}

// kill ends the program and its session's first process group.
func (p *program) kill() { _ = unix.Kill(-p.pid, unix.SIGKILL) }

// reap looks which programs have ended, and ends what they left behind.
func (s *server) reap() error {
	for id, p := range s.running {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != nil || info.Signo == 0 {
			continue
		}
		p.kill() // before it is reaped: until then nobody else has the ID of the group
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(p.pid, &status, 0, nil); err != nil {
			return os.NewSyscallError("wait4", err)
		}
		p.alarm.Stop()
		delete(s.running, id)
		if err := s.answer(answer{ID: id, Status: status, Late: p.late}); err != nil {
			return err
		}
	}
	return s.sweep()
}

// sweep reaps what programs left behind, and kills it if every program that may have
// started it has ended.
func (s *server) sweep() error {
	pids, err := children()
	if err != nil {
		return err
	}
	running := slices.Collect(maps.Values(s.running))
	for _, pid := range pids {
		if slices.ContainsFunc(running, func(p *program) bool { return p.pid == pid }) {
			continue
		}
		if gone, _ := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); gone == pid {
			continue
		}
		since, err := began(pid)
		if err == nil && !slices.ContainsFunc(running, func(p *program) bool { return p.began <= since }) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return nil
}

// endTime bounds how long killed programs may take to go away.
const endTime = time.Second

// killAll ends everything.
func (s *server) killAll() {
	for _, p := range s.running {
		p.kill()
	}
	clear(s.running)
	for end := time.Now().Add(endTime); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if pids, err := children(); err != nil || len(pids) == 0 {
			return
		}
		_ = s.sweep()
	}
}

func (s *server) answer(a answer) error {
	a.Version = version
	packet, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if _, err := s.conn.Write(packet); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}
