package refresh

import (
	"sync"

	"github.com/purser-agent/purser/pkg/credential"
)

// Claims settles which upstream a key belongs to when several offer it: a declared
// key beats a listed one, and among listed ones the present holder keeps it. The
// zero Claims is ready; it is safe for concurrent use.
type Claims struct {
	mu      sync.Mutex // guards holders
	holders map[credential.Key]claim
}

type claim struct {
	upstream string
	declared bool
}

// Claim tries to take key for upstream and returns who has it then.
func (c *Claims) Claim(upstream string, key credential.Key, declared bool) (holder string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	present, held := c.holders[key]
	if held && present.upstream != upstream && (present.declared || !declared) {
		return present.upstream
	}
	if c.holders == nil {
		c.holders = map[credential.Key]claim{}
	}
	c.holders[key] = claim{upstream, declared}
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
