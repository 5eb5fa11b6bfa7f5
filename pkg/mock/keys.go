package mock

import (
	"crypto/rand"
	"sync"
	"time"
)

// Keys are the AWS keys that stand-ins have made, so that one of them can verify
// what was signed with keys of another. The zero value is empty and ready; its
// methods are safe for concurrent use.
type Keys struct {
	mu   sync.Mutex // guards made
	made map[string]key
}

// A key is one pair of keys, with its session token if it has one.
type key struct {
	id, secret, token string
	of                string // the role or user
	ends              time.Time
}

// maxKeys bounds how many keys are remembered.
const maxKeys = 100_000

// session makes the keys of a session of a role and remembers them. A nil Keys
// forgets them.
func (k *Keys) session(role string, ends time.Time) key {
	made := key{id: "ASIA" + rand.Text()[:16], secret: secret(40), token: secret(400), of: role, ends: ends}
	k.add(made)
	return made
}

// User makes the keys of a user: without a session token, and without an end.
func (k *Keys) User(name string) (id, secretKey string) {
	made := k.user(name, time.Now().AddDate(100, 0, 0))
	return made.id, made.secret
}

// user makes the keys of a user that somebody deletes at a time.
func (k *Keys) user(name string, ends time.Time) key {
	made := key{id: "AKIA" + rand.Text()[:16], secret: secret(40), of: name, ends: ends}
	k.add(made)
	return made
}

// until moves the end of keys.
func (k *Keys) until(id string, ends time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if made, ok := k.made[id]; ok {
		made.ends = ends
		k.made[id] = made
	}
}

// Revoke makes keys unknown.
func (k *Keys) Revoke(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.made, id)
}

func (k *Keys) add(made key) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.made) >= maxKeys {
		clear(k.made)
	}
	if k.made == nil {
		k.made = map[string]key{}
	}
	k.made[made.id] = made
}

func (k *Keys) find(id string) (key, bool) {
	if k == nil {
		return key{}, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	found, ok := k.made[id]
	return found, ok
}
