package refresh

import (
	"sync"

	"github.com/purser-agent/purser/pkg/credential"
)

// Claims settles which upstream a key belongs to when several offer it: a declared
// key beats a listed one, and among listed ones the present holder keeps it. Only
// among the first lists after a start, which may come in any order, the upstream has it
// that is first by name, until Settle. The zero Claims is ready; it is safe for
// concurrent use.
type Claims struct {
	mu      sync.Mutex // guards all below
	holders map[credential.Key]claim
	settled bool
}

type claim struct {
	upstream string
	basis    Basis
}

// A Basis is what a claim rests on.
type Basis int

// The bases, the weakest first.
const (
	Listed      Basis = iota // by a list, or carried over a restart
	ListedFirst              // by the first list after a start
	Configured
)

// beats reports whether a claim takes a key from its holder.
func (c claim) beats(holder claim) bool {
	if c.basis == ListedFirst && holder.basis == ListedFirst {
		return c.upstream < holder.upstream
	}
	return c.basis == Configured && holder.basis != Configured
}

// Settle ends the time of first lists: who is served a key keeps it, also if an upstream
// that nobody waited for answers later.
func (c *Claims) Settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = true
}

// Claim tries to take key for upstream and returns who has it then.
func (c *Claims) Claim(upstream string, key credential.Key, basis Basis) (holder string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	present, held := c.holders[key]
	if c.settled && basis == ListedFirst {
		basis = Listed
	}
	next := claim{upstream, basis}
	if held && present.upstream != upstream && !next.beats(present) {
		return present.upstream
	}
	if c.holders == nil {
		c.holders = map[credential.Key]claim{}
	}
	c.holders[key] = next
	return upstream
}

// Holder is the upstream that has key, or empty.
func (c *Claims) Holder(key credential.Key) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holders[key].upstream
}

// Release gives back those of keys that upstream has, and calls remove with them
// before anybody else can claim them.
func (c *Claims) Release(upstream string, keys []credential.Key, remove func(released ...credential.Key)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var released []credential.Key
	for _, key := range keys {
		if c.holders[key].upstream == upstream {
			delete(c.holders, key)
			released = append(released, key)
		}
	}
	remove(released...)
}

// Unheld calls remove with those of keys that nobody has, before anybody can claim
// them.
func (c *Claims) Unheld(keys []credential.Key, remove func(unheld ...credential.Key)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var unheld []credential.Key
	for _, key := range keys {
		if _, held := c.holders[key]; !held {
			unheld = append(unheld, key)
		}
	}
	remove(unheld...)
}
