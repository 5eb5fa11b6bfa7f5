package caller

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// selfTestWait bounds the wait for a connection within this process.
const selfTestWait = 3 * time.Second

// SelfTest identifies this process as the client of a loopback connection of its
// own. An error that is ErrNoUnits leaves users identified; with any other error
// callers cannot be told apart at all. To be called after the privilege drop.
func (r *Resolver) SelfTest() error {
	client, server, err := loopback()
	if err != nil {
		return fmt.Errorf("connect to itself: %w", err)
	}
	defer client.Close()
	defer server.Close()
	origin, err := r.Resolve(server)
	if err != nil {
		return err
	}
	got, want := origin.Identity, uint32(os.Geteuid())
	if !got.Known || got.UID != want {
		return fmt.Errorf("a connection of uid %d from %s to %s came out as %s (is sock_diag for TCP available, and the user namespace the host's?)",
			want, origin.Peer, origin.Destination, got)
	}
	if r.noUnits != nil {
		return r.noUnits
	}
	found, err := r.queries.lookup(origin.Peer, origin.Destination)
	if err != nil {
		return err
	}
	if found.cgroup != r.cgroup {
		return fmt.Errorf("%w: the kernel says cgroup %d of a socket of this process, which is in cgroup %d", ErrNoUnits, found.cgroup, r.cgroup)
	}
	return nil
}

// loopback returns both ends of a TCP connection within this process.
func loopback() (client, server *net.TCPConn, err error) {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		var v6 error
		if listener, v6 = net.ListenTCP("tcp6", &net.TCPAddr{IP: net.IPv6loopback}); v6 != nil {
			return nil, nil, errors.Join(err, v6)
		}
	}
	defer listener.Close()
	if err := listener.SetDeadline(time.Now().Add(selfTestWait)); err != nil {
		return nil, nil, err
	}
	if client, err = net.DialTCP("tcp", nil, listener.Addr().(*net.TCPAddr)); err != nil {
		return nil, nil, err
	}
	for {
		if server, err = listener.AcceptTCP(); err != nil {
			return nil, nil, errors.Join(err, client.Close())
		}
		// Any local process could have been faster.
		if server.RemoteAddr().String() == client.LocalAddr().String() {
			return client, server, nil
		}
		server.Close()
	}
}
