package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/upstream"
)

// ask connects to a socket and reads to the end. It sends nothing.
func ask(ctx context.Context, path string, timeout time.Duration) ([]byte, error) {
	fault := func(class upstream.Class, format string, args ...any) ([]byte, error) {
		return nil, &upstream.Error{Kind: class, Tried: "socket " + path, Err: fmt.Errorf(format, args...)}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return fault(upstream.ClassTransport, "nobody listens there; start the .socket unit that does")
	case errors.Is(err, fs.ErrPermission):
		return fault(upstream.ClassRefused, "%w", upstream.Denied(path, "connect to"))
	case err != nil:
		return fault(upstream.ClassTransport, "%w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := checkPeer(conn.(*net.UnixConn)); err != nil {
		return fault(upstream.ClassRefused, "%w", err)
	}
	_ = conn.(*net.UnixConn).CloseWrite() // a program that reads is told that nothing comes
	output, err := io.ReadAll(io.LimitReader(conn, maxOutput+1))
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fault(upstream.ClassCanceled, "%w", context.Canceled)
	case ctx.Err() != nil:
		return fault(upstream.ClassTimeout, "it did not end its answer within %v; what it waits for, or timeout, needs a change", timeout)
	case len(output) > maxOutput:
		return fault(upstream.ClassTooLarge, "it gave more than %d bytes", maxOutput)
	case err != nil:
		return fault(upstream.ClassTransport, "%w", err)
	}
	return output, nil
}

// checkPeer refuses keys from another account than root and our own.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) { peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if asked != nil {
		return os.NewSyscallError("getsockopt", asked)
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("uid %d listens there, and only root and Purser's own account are believed; let systemd listen (a .socket unit with Accept=yes)", peer.Uid)
	}
	return nil
}
