// Package caller finds out which local process is on the other end of a TCP
// connection: its user and its systemd unit, as the kernel knows them and
// whatever the client says. It also looks up accounts, so that names in a
// configuration can be compared with what the kernel reports.
//
// One sock_diag request per connection, with the client's address and the
// destination the client asked for before any DNAT as the key, yields the user
// and the cgroup of whoever created the client's socket. That takes no privilege.
// It sees sockets of Purser's own network namespace only: a client in another one
// is unknown. Two limits follow from asking about a socket: the answer is who
// created it, not who uses it now, and a connection that is passed on to another
// process keeps the identity of its creator.
//
// What an identity is allowed to have is decided in pkg/policy; who may connect
// at all and when the look-up happens, in pkg/server.
package caller

import "strconv"

// An Identity is what is known of a caller. The zero Identity is a caller that
// could not be identified. Identities are comparable.
type Identity struct {
	// UID is the user who created the client's socket. It means nothing unless
	// Known is set.
	UID uint32
	// Known is set only after one unambiguous answer of the kernel.
	Known bool
	// Unit is the systemd unit of the client, such as nginx.service, session-1.scope
	// or user@1000.service; empty if the client is in none or Known is not set.
	Unit string
	// Self is set for a client in Purser's own cgroup, if systemd gave Purser one
	// of its own: serving it would be a loop.
	Self bool
}

// String is the form for logs and messages.
func (i Identity) String() string {
	if !i.Known {
		return "unknown"
	}
	text := "uid " + strconv.FormatUint(uint64(i.UID), 10)
	if i.Unit != "" {
		text += " in " + i.Unit
	}
	return text
}
