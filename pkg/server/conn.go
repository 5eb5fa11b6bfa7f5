package server

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A phase is what a connection is doing. Each has its own time limit, and only a
// connection in the phase answering is ever spared when others must close.
type phase int64

const (
	silent    phase = iota // connected, and nothing came yet
	reading                // a part of a request came
	answering              // the handler is at work
	answered               // the handler is done, the rest is up to the client
	idle                   // between two requests
	closed
)

const phaseBits = 3

// A conn is an accepted connection and who is on the other end of it.
type conn struct {
	*net.TCPConn
	server     *Server
	listener   *Listener
	identified bool
	named      bool // its user agent is in the account
	peer       Peer
	account    *account
	user       *user // guarded by conns.mu, as is removed
	removed    bool
	// state is the phase and, above it, since when: nanoseconds of Server.now,
	// without the bits that the phase takes. One word, so that a claim on a
	// connection at rest fails if a request got in between.
	state atomic.Int64
	line  atomic.Pointer[line] // of the latest request, until it is written
}

func pack(p phase, now time.Duration) int64 { return int64(now)&^(1<<phaseBits-1) | int64(p) }

func unpack(state int64) (p phase, since time.Duration) {
	return phase(state & (1<<phaseBits - 1)), time.Duration(state &^ (1<<phaseBits - 1))
}

// enter notes a change of phase. A closed connection stays closed.
func (c *conn) enter(p phase, now time.Duration) {
	for {
		old := c.state.Load()
		if was, _ := unpack(old); was == closed || c.state.CompareAndSwap(old, pack(p, now)) {
			return
		}
	}
}

// claim marks the connection closed if nothing happened since state was read; the
// caller must then close it.
func (c *conn) claim(state int64) bool {
	return c.state.CompareAndSwap(state, pack(closed, 0))
}

// Read identifies the caller before it reads the first byte, in the goroutine that
// serves the connection: a slow look-up delays nobody else, and a client that sends
// a request and leaves is still found.
func (c *conn) Read(p []byte) (int, error) {
	if !c.identified {
		c.identified = true
		if !c.server.identify(c) {
			return 0, io.EOF // any other error would make net/http answer 400
		}
	}
	n, err := c.TCPConn.Read(p)
	if n > 0 {
		old := c.state.Load()
		if was, _ := unpack(old); was == silent || was == idle {
			c.state.CompareAndSwap(old, pack(reading, c.server.now()))
		}
	}
	return n, err
}

// asks reports whether a connection that seems to be at rest has something to be read.
func (c *conn) asks(p phase) bool {
	raw, err := c.SyscallConn()
	if err != nil || p != silent && p != idle {
		return false
	}
	unread := 0
	err = raw.Control(func(fd uintptr) { unread, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return err == nil && unread > 0
}

// Close closes the connection, writes what the access log still has to say of it
// and gives up its place. It may be called again.
func (c *conn) Close() error {
	was, _ := unpack(c.state.Swap(pack(closed, 0)))
	err := c.TCPConn.Close()
	c.writeLine()
	if was == reading {
		c.server.reportMalformed(c)
	}
	c.server.conns.remove(c)
	return err
}

func (c *conn) writeLine() {
	if c.line.Load() == nil {
		return
	}
	if l := c.line.Swap(nil); l != nil {
		c.server.access.write(l, &c.peer)
	}
}

type connKey struct{}

// connContext lets a handler find the connection of a request.
func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// An acceptor is a Listener in the form that net/http serves.
type acceptor struct {
	*Listener
	server *Server
}

// acceptRetry is the pause after the process ran out of file descriptors.
const acceptRetry = 10 * time.Millisecond

// Accept implements net.Listener. It waits while too many connections are being
// identified: the kernel keeps the others in order of arrival.
func (a acceptor) Accept() (net.Conn, error) {
	s := a.server
	for {
		select {
		case s.identifying <- struct{}{}:
		case <-s.stopping:
			return nil, net.ErrClosed
		}
		tcp, err := a.socket.AcceptTCP()
		if err == nil {
			c := &conn{TCPConn: tcp, server: s, listener: a.Listener}
			c.state.Store(pack(silent, s.now()))
			s.conns.arrive()
			return c, nil
		}
		<-s.identifying
		if !outOfFiles(err) {
			return nil, err
		}
		s.trouble.exhausted(err)
		if c := s.conns.evict(s.now()); c != nil {
			_ = c.Close()
		}
		select {
		case <-time.After(acceptRetry):
		case <-s.stopping:
			return nil, net.ErrClosed
		}
	}
}

// Addr implements net.Listener.
func (a acceptor) Addr() net.Addr { return a.socket.Addr() }
