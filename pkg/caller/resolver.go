package caller

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/time/rate"
)

// maxQueries is how many look-ups run at once at most; there are no more than
// processors, as a look-up never waits for anything else.
const maxQueries = 16

// How often at most a client is searched for that is not where it seems to be, in the
// long run and at once. The kernel goes through its whole table of connections for it,
// which takes milliseconds on a large machine.
const (
	searchesPerSecond = 20
	searchesAtOnce    = 200
)

// ErrNoUnits is a host on which systemd units cannot be told apart: it shows this
// process no cgroup2 hierarchy or only a part, or its kernel, older than Linux 5.8,
// does not say in which cgroup a socket is. Users can be told apart there.
var ErrNoUnits = errors.New("systemd units cannot be told apart on this host")

// An Origin is where a connection comes from.
type Origin struct {
	// Peer is the client's address and Destination the one it asked for, before any
	// DNAT led it here. IPv4 addresses are never in their IPv6-mapped form.
	Peer, Destination netip.AddrPort
	// Local is set if the client is on this host, or in a container that shares its
	// network.
	Local bool
	// Identity is who the client is. A client of an address with a zone, in another
	// network namespace, bound to one network interface, or with its socket already
	// closed is unknown. So is one whose port was changed on the way (see remapped)
	// while others than its user and cgroup are connected to the same destination.
	Identity Identity
}

// A Resolver finds out where connections come from. It is safe for concurrent use.
type Resolver struct {
	queries  diagPool
	hosts    hostAddresses
	overflow overflow
	cgroup   uint64     // of this process
	alone    bool       // nobody else's processes are in that cgroup
	cgroups  hierarchy  // empty if noUnits is set
	units    *unitTable // nil if noUnits is set
	noUnits  error

	// For clients that are not where they seem to be.
	searching sync.Mutex
	searches  *rate.Limiter
}

// New returns a Resolver. It needs no privilege, neither now nor later.
func New() (*Resolver, error) {
	queries, err := newDiagPool(min(runtime.NumCPU(), maxQueries))
	if err != nil {
		return nil, err
	}
	r := &Resolver{queries: queries, overflow: readOverflow(), searches: rate.NewLimiter(searchesPerSecond, searchesAtOnce)}
	if err := r.useCgroups(); err != nil {
		r.noUnits = fmt.Errorf("%w: %w", ErrNoUnits, err)
	}
	return r, nil
}

func (r *Resolver) useCgroups() error {
	own, err := cgroupOf("self")
	if err != nil {
		return err
	}
	cgroups, err := findHierarchy()
	if err != nil {
		return err
	}
	if r.cgroup, err = cgroups.id(own); err != nil {
		return err
	}
	r.alone = ownService(own)
	r.cgroups = cgroups
	r.units = newUnitTable(cgroups.count)
	return nil
}

// ownService reports whether systemd started this process as a service, with the
// given cgroup for nothing else. It says so in a variable since version 248; before,
// only services that notify can be told from what a shell in a service started. A
// process started from a shell shares its cgroup with whatever else was.
func ownService(cgroup string) bool {
	if pid := os.Getenv("SYSTEMD_EXEC_PID"); pid != "" {
		return pid == strconv.Itoa(os.Getpid())
	}
	return os.Getenv("NOTIFY_SOCKET") != "" && unitType(path.Base(cgroup)) == "service"
}

// Close waits for look-ups in progress and frees what the Resolver holds.
func (r *Resolver) Close() error { return r.queries.close() }

// Resolve finds out where an accepted connection comes from. To be called once, as
// soon as the connection is accepted: who has gone by then cannot be identified.
// It takes some microseconds; only for the first connection from a new cgroup does
// it read the tree of cgroups, which takes some milliseconds and, when a walk has
// just ended or an extreme number of cgroups is in use, up to a few seconds.
//
// The Origin can be used whether or not there is an error: what is not known is
// missing from it. An error says that the kernel did not answer as it should; that
// a caller cannot be identified is none.
func (r *Resolver) Resolve(conn *net.TCPConn) (Origin, error) {
	origin := Origin{Peer: unmapped(conn.RemoteAddr())}
	destination, err := originalDestination(conn)
	origin.Destination = destination
	if err != nil {
		return origin, fmt.Errorf("original destination of %s: %w", origin.Peer, err)
	}
	found, err := r.queries.lookup(origin.Peer, destination)
	if err == nil && found.connects(origin.Peer, destination) {
		origin.Local = true
		origin.Identity, err = r.identify(found)
	} else {
		if errors.Is(err, errNoSocket) {
			err = nil
		}
		local, unread := r.hosts.contains(origin.Peer.Addr())
		origin.Local, err = local, errors.Join(err, unread)
		if local && err == nil && destination != unmapped(conn.LocalAddr()) {
			origin.Identity, err = r.identifyRemapped(origin.Peer, destination)
		}
	}
	if err != nil {
		return origin, fmt.Errorf("identify %s: %w", origin.Peer, err)
	}
	return origin, nil
}

// identifyRemapped is for a client of this host that seems to come from another port
// than its own. There are few: one search at a time has to do, and so many in a second
// that whoever connects and is gone again keeps nothing busy with them.
func (r *Resolver) identifyRemapped(peer, destination netip.AddrPort) (Identity, error) {
	if !r.searches.Allow() {
		return Identity{}, nil
	}
	r.searching.Lock()
	defer r.searching.Unlock()
	found, err := remapped(peer, destination)
	switch {
	case errors.Is(err, errNoSocket):
		return Identity{}, nil
	case err != nil:
		return Identity{}, err
	}
	return r.identify(found)
}

// identify turns an open client socket of this host into who the client is.
func (r *Resolver) identify(client socket) (Identity, error) {
	if client.inode == 0 {
		return Identity{}, nil // closed: the uid reads 0, but that is not root
	}
	identity := Identity{Self: r.alone && client.cgroup == r.cgroup}
	if r.overflow.hides(client.uid) {
		return identity, nil
	}
	identity.UID, identity.Known = client.uid, true
	if client.cgroup == 0 || r.units == nil {
		return identity, nil
	}
	unit, err := r.units.unit(client.cgroup)
	identity.Unit = unit
	return identity, err
}

// overflow knows the uid that stands for all users whom this process's user
// namespace does not know (user_namespaces(7)).
type overflow struct {
	possible bool
	uid      uint32
}

func (o overflow) hides(uid uint32) bool { return o.possible && uid == o.uid }

// readOverflow reads what the kernel says of our user namespace. What it does not
// say is taken as the case in which fewer callers are known.
func readOverflow() overflow {
	o := overflow{possible: true, uid: 65534}
	if text, err := os.ReadFile("/proc/self/uid_map"); err == nil {
		fields := strings.Fields(string(text))
		o.possible = len(fields) != 3 || fields[0] != "0" || fields[2] != "4294967295"
	}
	if text, err := os.ReadFile("/proc/sys/kernel/overflowuid"); err == nil {
		if uid, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32); err == nil {
			o.uid = uint32(uid)
		}
	}
	return o
}
