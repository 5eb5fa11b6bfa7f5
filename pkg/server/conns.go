package server

import (
	"sync"
	"time"
)

// A userID is whom the bound per user counts: a uid, however many units its
// processes are in; all unknown callers together; and all those unknown who are
// refused anyway, so that strangers take no place from containers.
type userID struct {
	uid     uint32
	known   bool
	refused bool
}

func userOf(p *Peer) userID {
	if p.Identity.Known {
		return userID{uid: p.Identity.UID, known: true}
	}
	return userID{refused: p.Refused != ""}
}

// A user is those of its connections that have a place.
type user struct {
	id    userID
	conns map[*conn]struct{}
}

// conns holds the open connections within their bounds.
type conns struct {
	most, perUser int

	mu     sync.Mutex
	users  map[userID]*user
	placed int // connections that users hold
	open   int // those, and the ones whose caller is being identified
}

// arrive counts a connection whose caller is not known yet.
func (s *conns) arrive() {
	s.mu.Lock()
	s.open++
	s.mu.Unlock()
}

// place gives a connection its place among those of its user. Over a bound, the one
// that has been at rest for longest loses its own and is returned to be closed: one
// of the same user, or, over the bound for all, of the user with the most. There is
// no place if all of these are at work.
func (s *conns) place(c *conn, now time.Duration) (evicted *conn, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := userOf(&c.peer)
	u := s.users[id]
	if u != nil && len(u.conns) >= s.perUser {
		if evicted = claimOldest(u, now); evicted == nil {
			return nil, false
		}
	} else if s.placed >= s.most {
		if evicted = claimOldest(s.largest(), now); evicted == nil {
			return nil, false
		}
	}
	if evicted != nil {
		s.displace(evicted)
		u = s.users[id]
	}
	if u == nil {
		u = &user{id: id, conns: make(map[*conn]struct{})}
		s.users[id] = u
	}
	u.conns[c] = struct{}{}
	c.user = u
	c.account.open.Add(1)
	s.placed++
	return evicted, true
}

// evict takes the place of the connection that has been at rest for longest among
// those of the user with the most. It returns nil if all are at work.
func (s *conns) evict(now time.Duration) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := claimOldest(s.largest(), now)
	if c != nil {
		s.displace(c)
	}
	return c
}

// remove takes out a connection that closes; again does nothing.
func (s *conns) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.removed {
		return
	}
	c.removed = true
	s.open--
	if c.user != nil {
		s.displace(c)
	}
}

func (s *conns) displace(c *conn) {
	delete(c.user.conns, c)
	if len(c.user.conns) == 0 {
		delete(s.users, c.user.id)
	}
	c.user = nil
	c.account.open.Add(-1)
	s.placed--
}

func (s *conns) largest() *user {
	var found *user
	for _, u := range s.users {
		if found == nil || len(u.conns) > len(found.conns) {
			found = u
		}
	}
	return found
}

// flushTime is how long an answer may take from the handler to the kernel, before
// the connection counts as at rest: the client reads slowly, or still sends a body
// that nobody wants.
const flushTime = 100 * time.Millisecond

// atRest reports whether closing the connection would cut off no answer.
func atRest(p phase, since, now time.Duration) bool {
	switch p {
	case silent, reading, idle:
		return true
	case answered:
		return now-since > flushTime
	}
	return false
}

// claimOldest claims the connection of a user that has been at rest for longest. A
// request that gets in between wins, and the next oldest goes.
func claimOldest(u *user, now time.Duration) *conn {
	if u == nil {
		return nil
	}
	for {
		var oldest *conn
		var seen int64
		var least time.Duration
		for c := range u.conns {
			state := c.state.Load()
			p, since := unpack(state)
			if atRest(p, since, now) && (oldest == nil || since < least) {
				oldest, seen, least = c, state, since
			}
		}
		if oldest == nil || oldest.claim(seen) {
			return oldest
		}
	}
}

// claimWhere claims every connection in a phase, entered at a time, of which choose
// says so. The caller must close them.
func (s *conns) claimWhere(choose func(c *conn, p phase, since time.Duration) bool) []claimed {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []claimed
	for _, u := range s.users {
		for c := range u.conns {
			state := c.state.Load()
			p, since := unpack(state)
			if p != closed && choose(c, p, since) && c.claim(state) {
				all = append(all, claimed{c, p})
			}
		}
	}
	return all
}

// claimed is a connection to be closed and what it was doing.
type claimed struct {
	*conn
	was phase
}

// count returns how many connections have a place and how many are open.
func (s *conns) count() (placed, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.placed, s.open
}
