package status

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxPath is the longest path of a Unix socket: sun_path with its final zero byte.
const maxPath = 107

// errRunning says that another Purser answers on the admin socket.
var errRunning = errors.New("another Purser answers there")

// Listen binds the admin socket at path, to which every local user may connect:
// who may do what is decided by Admin. It creates the folder if it is missing, and
// replaces a socket that nobody answers on, as a crash leaves it behind. Binding is
// separate from serving because only binding may need privileges.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("admin socket %s: the path is %d bytes long, a Unix socket allows %d", path, len(path), maxPath)
	}
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("admin socket %s: %w", path, err)
	}
	return l, nil
}

func listen(path string) (*net.UnixListener, error) {
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	address := &net.UnixAddr{Name: path, Net: "unix"}
	// Connecting takes write permission, which the umask would take away. A chmod
	// afterwards could be led to another file by whoever owns the folder.
	defer syscall.Umask(syscall.Umask(0o111))
	l, err := net.ListenUnix("unix", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeStale(path); err != nil {
			return nil, err
		}
		l, err = net.ListenUnix("unix", address)
	}
	return l, err
}

func makeFolder(folder string) error {
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.Chmod(folder, 0o755) // whatever the umask is
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is something that is not a socket: move it away, or set admin.socket to another path")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
		return errRunning
	case !errors.Is(err, syscall.ECONNREFUSED):
		return err
	}
	return os.Remove(path)
}

// A peer is who is on the other end of an admin connection, as the kernel noted it
// when it was made.
type peer struct {
	uid    uint32
	pid    int32
	groups []uint32 // the effective one and the supplementary ones
}

func peerOf(conn *net.UnixConn) (peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var p peer
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			failed = os.NewSyscallError("SO_PEERCRED", err)
			return
		}
		groups, err := peerGroups(fd)
		if err != nil {
			failed = os.NewSyscallError("SO_PEERGROUPS", err)
			return
		}
		p = peer{cred.Uid, cred.Pid, append(groups, cred.Gid)}
	})
	return p, errors.Join(err, failed)
}

// peerGroups asks for SO_PEERGROUPS (Linux 4.13), for which x/sys has no function.
func peerGroups(fd uintptr) ([]uint32, error) {
	const maxGroups = 65536 // NGROUPS_MAX
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups)) * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		count := size / 4
		switch {
		case errno == 0 && count <= uint32(len(groups)):
			return groups[:count], nil
		case errno == unix.ERANGE && count > uint32(len(groups)) && count <= maxGroups:
			groups = make([]uint32, count)
		case errno == 0:
			return nil, unix.EINVAL
		default:
			return nil, errno
		}
	}
}

// Bounds on open admin connections. Administrators have places of their own, so
// that nobody else can keep them out.
const (
	maxAdmins  = 256
	maxOthers  = 256
	maxPerUser = 64
)

// A gate accepts admin connections, knows who made them and bounds their number. A
// connection beyond a bound is closed at once.
type gate struct {
	*net.UnixListener
	isAdmin func(peer) bool

	mu      sync.Mutex // guards all below
	admins  int
	others  int
	perUser map[uint32]int // without administrators
}

type gateConn struct {
	net.Conn
	peer  peer
	admin bool
	leave func()
}

func (c *gateConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.AcceptUnix()
		if err != nil {
			return nil, err
		}
		p, err := peerOf(conn)
		if err != nil {
			_ = conn.Close() // already gone
			continue
		}
		admin := g.isAdmin(p)
		if !g.enter(p.uid, admin) {
			_ = conn.Close()
			continue
		}
		return &gateConn{conn, p, admin, sync.OnceFunc(func() { g.leave(p.uid, admin) })}, nil
	}
}

func (g *gate) enter(uid uint32, admin bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if admin {
		if g.admins >= maxAdmins {
			return false
		}
		g.admins++
		return true
	}
	if g.others >= maxOthers || g.perUser[uid] >= maxPerUser {
		return false
	}
	g.others++
	g.perUser[uid]++
	return true
}

func (g *gate) leave(uid uint32, admin bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if admin {
		g.admins--
		return
	}
	g.others--
	if g.perUser[uid]--; g.perUser[uid] == 0 {
		delete(g.perUser, uid)
	}
}

type peerContextKey struct{}

// withPeer is http.Server's ConnContext for connections of a gate.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, peerContextKey{}, conn.(*gateConn))
}
