package status

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/testkit"
)

const (
	stranger  = 54321 // an account and
	operators = 54399 // a group that nobody has
)

// agent is a Purser behind an admin socket. It has the credentials a and b; everyone
// may have a.
type agent struct {
	socket string
	stop   context.CancelFunc
	served chan error

	mu        sync.Mutex // guards all below
	missing   []string
	refreshed [][]string
	reloads   int
	problem   error         // of refresh and reload
	waiting   chan struct{} // gets a value when a wait begins, and one when it ends
}

// folder is a short path that every account can reach.
func folder(t *testing.T) string {
	t.Helper()
	path, err := os.MkdirTemp("/tmp", "purser-status-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func startAgent(t *testing.T) *agent {
	t.Helper()
	a := &agent{
		socket:  filepath.Join(folder(t), "purser.sock"),
		served:  make(chan error, 1),
		waiting: make(chan struct{}, 100),
	}
	l, err := Listen(a.socket)
	if err != nil {
		t.Fatal(err)
	}
	admin := &Admin{
		Status: func(context.Context) Report {
			return Report{Version: "1.2.3", Credentials: []Credential{
				{Name: "a", Upstream: "up", State: Fresh}, {Name: "b", Upstream: "up", State: Fresh},
			}}
		},
		Refresh:   a.refresh,
		Wait:      a.wait,
		Reload:    a.reload,
		View:      func(uint32, int32) func(string) bool { return func(name string) bool { return name == "a" } },
		Owner:     uint32(os.Geteuid()),
		Groups:    []uint32{operators},
		GroupName: "operators",
		Log:       zerolog.New(t.Output()),
	}
	ctx, cancel := context.WithCancel(t.Context())
	a.stop = cancel
	go func() { a.served <- admin.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-a.served; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
	return a
}

func (a *agent) refresh(_ context.Context, names []string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Contains(names, "nobody") {
		return fmt.Errorf("nobody: %w", credential.ErrNotFound)
	}
	a.refreshed = append(a.refreshed, names)
	return a.problem
}

func (a *agent) reload(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reloads++
	return a.problem
}

func (a *agent) wait(ctx context.Context, names []string, visible func(string) bool) ([]string, error) {
	for _, name := range names {
		if !visible(name) {
			return nil, fmt.Errorf("%q: %w", name, credential.ErrNotFound)
		}
	}
	if missing := a.lacks(names, visible); len(missing) == 0 {
		return nil, nil
	}
	a.waiting <- struct{}{}
	<-ctx.Done()
	a.waiting <- struct{}{}
	return a.lacks(names, visible), nil
}

func (a *agent) lacks(names []string, visible func(string) bool) (missing []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range a.missing {
		if visible(name) && (len(names) == 0 || slices.Contains(names, name)) {
			missing = append(missing, name)
		}
	}
	return missing
}

func (a *agent) set(missing ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missing = missing
}

// dialAs connects as an account with groups, of which the first is the effective
// one. Only one thread of this process becomes that account, and it ends with the
// call.
func dialAs(path string, uid uint32, groups ...uint32) (conn net.Conn, err error) {
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread is of no use to others
		for _, call := range []struct {
			number, a, b, c uintptr
		}{
			{unix.SYS_SETGROUPS, uintptr(len(groups) - 1), uintptr(unsafe.Pointer(unsafe.SliceData(groups[1:]))), 0},
			{unix.SYS_SETRESGID, uintptr(groups[0]), uintptr(groups[0]), uintptr(groups[0])},
			{unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)},
		} {
			if _, _, errno := unix.RawSyscall(call.number, call.a, call.b, call.c); errno != 0 {
				err = errno
				return
			}
		}
		var fd int
		if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		file := os.NewFile(uintptr(fd), path)
		defer file.Close()
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return
		}
		conn, err = net.FileConn(file)
	})
	done.Wait()
	return conn, err
}

// clientAs is a Client of another account.
func clientAs(t *testing.T, socket string, uid uint32, groups ...uint32) *Client {
	t.Helper()
	testkit.NeedRoot(t)
	c := NewClient(socket)
	c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		return dialAs(socket, uid, groups...)
	}
	return c
}
