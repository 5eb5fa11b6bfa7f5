// Package store holds the newest good credentials in memory. Readers never wait:
// a read is a look at an immutable index and one atomic load, whatever a writer
// does at that moment. Every read checks the wall clock, so a credential is served
// to its own last second and not beyond.
//
// It leaves to pkg/refresh when a credential is replaced and by what, and to
// pkg/policy who may read it: front ends have no other way in.
package store

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// A Store keeps credentials by key. The zero Store is empty and ready. All methods
// are safe for concurrent use; those that read neither lock nor allocate.
type Store struct {
	current  atomic.Pointer[index]
	complete atomic.Bool
	changes  sync.Mutex // serialises writers of current
}

// index is what the store knows at one moment. It is never changed, only replaced.
type index struct {
	shelves map[credential.Key]*shelf
	names   []string // sorted, without the unlisted
}

// shelf is the place of one credential, kept for as long as its key is known.
type shelf struct {
	stock    atomic.Pointer[stock]
	refused  atomic.Bool
	unlisted bool
	upstream string
	asked    atomic.Int64 // when an unlisted key was announced or last asked for, in Unix nanoseconds
}

type stock struct {
	credential credential.Credential
	expires    time.Time // zero for no end
}

var empty = &index{}

func (s *Store) index() *index {
	if i := s.current.Load(); i != nil {
		return i
	}
	return empty
}

// Get returns the credential in stock, or credential.ErrNotFound for a key that
// nobody announced, ErrUnavailable for one that was never fetched, ErrRefused if
// that is because the upstream refuses it, and ErrExpired past its end.
func (s *Store) Get(key credential.Key) (credential.Credential, error) {
	shelf, ok := s.index().shelves[key]
	if !ok {
		return nil, credential.ErrNotFound
	}
	now := time.Now()
	if shelf.unlisted {
		shelf.asked.Store(now.UnixNano())
	}
	stock := shelf.stock.Load()
	switch {
	case stock != nil && (now.Before(stock.expires) || stock.expires.IsZero()):
		return stock.credential, nil
	case shelf.refused.Load():
		return nil, credential.ErrRefused
	case stock == nil:
		return nil, credential.ErrUnavailable
	default:
		return nil, credential.ErrExpired
	}
}

// Names lists the names of all listed keys, sorted, also of those that were never
// fetched or have expired. The slice is shared and must not be changed; as long as
// no key comes or goes, it is the same slice.
func (s *Store) Names() []string { return s.index().names }

// Listed reports whether key is known and was not announced as unlisted.
func (s *Store) Listed(key credential.Key) bool {
	shelf, ok := s.index().shelves[key]
	return ok && !shelf.unlisted
}

// Upstream names the upstream for which key was announced, see For; empty if there
// is none.
func (s *Store) Upstream(key credential.Key) string {
	if shelf, ok := s.index().shelves[key]; ok {
		return shelf.upstream
	}
	return ""
}

// LastAsked is when somebody last asked for an unlisted key; to announce one counts as
// well. For listed keys nothing is recorded.
func (s *Store) LastAsked(key credential.Key) time.Time {
	shelf, ok := s.index().shelves[key]
	if !ok || shelf.asked.Load() == 0 {
		return time.Time{}
	}
	return time.Unix(0, shelf.asked.Load())
}

// Peek returns what is in stock for key, valid or not, without taking note that it was
// asked for.
func (s *Store) Peek(key credential.Key) (credential.Credential, bool) {
	if shelf, ok := s.index().shelves[key]; ok {
		if stock := shelf.stock.Load(); stock != nil {
			return stock.credential, true
		}
	}
	return nil, false
}

// Complete reports whether every upstream has said what it grants, so that a name
// which is not in the store does not exist.
func (s *Store) Complete() bool { return s.complete.Load() }

// SetComplete records whether every upstream has said what it grants.
func (s *Store) SetComplete(complete bool) { s.complete.Store(complete) }

// Announce makes keys known before they are fetched. Known ones stay as they are,
// but for unlisted ones, which become listed.
func (s *Store) Announce(keys ...credential.Key) { s.For("").Announce(keys...) }

// AnnounceUnlisted is Announce for keys that Names must not show: those which
// nobody configured ahead and a caller has to ask for by name.
func (s *Store) AnnounceUnlisted(keys ...credential.Key) { s.For("").AnnounceUnlisted(keys...) }

// For returns the store as one upstream fills it: what is announced there carries
// the upstream's name.
func (s *Store) For(upstream string) Part { return Part{s, upstream} }

// A Part is a Store that knows for which upstream keys are announced.
type Part struct {
	*Store
	upstream string
}

// Announce is Store.Announce, and takes over known keys from other upstreams.
func (p Part) Announce(keys ...credential.Key) { p.add(false, keys) }

// AnnounceUnlisted is Store.AnnounceUnlisted, likewise.
func (p Part) AnnounceUnlisted(keys ...credential.Key) { p.add(true, keys) }

func (p Part) add(unlisted bool, keys []credential.Key) {
	p.change(func(shelves map[credential.Key]*shelf) {
		for _, key := range keys {
			old, ok := shelves[key]
			fresh := &shelf{unlisted: unlisted, upstream: p.upstream}
			if ok {
				fresh.unlisted = unlisted && old.unlisted
				if fresh.unlisted == old.unlisted && fresh.upstream == old.upstream {
					continue
				}
				fresh.stock.Store(old.stock.Load())
			}
			if fresh.unlisted {
				fresh.asked.Store(time.Now().UnixNano())
			}
			shelves[key] = fresh
		}
	})
}

// Put replaces what is in stock for key and reports whether it could: a key must
// have been announced, and one that was removed meanwhile stays removed.
func (s *Store) Put(key credential.Key, c credential.Credential) bool {
	shelf, ok := s.index().shelves[key]
	if !ok {
		return false
	}
	_, expires := c.Lifetime()
	shelf.stock.Store(&stock{c, expires})
	shelf.refused.Store(false)
	return true
}

// Refuse records that the upstream refuses to give key. What is in stock stays.
func (s *Store) Refuse(key credential.Key) {
	if shelf, ok := s.index().shelves[key]; ok {
		shelf.refused.Store(true)
	}
}

// Remove forgets keys at once, whatever is in stock.
func (s *Store) Remove(keys ...credential.Key) {
	s.change(func(shelves map[credential.Key]*shelf) {
		for _, key := range keys {
			delete(shelves, key)
		}
	})
}

// change replaces the index by an edited copy, and not at all if no key came or went.
func (s *Store) change(edit func(map[credential.Key]*shelf)) {
	s.changes.Lock()
	defer s.changes.Unlock()
	old := s.index()
	next := &index{shelves: maps.Clone(old.shelves)}
	if next.shelves == nil {
		next.shelves = map[credential.Key]*shelf{}
	}
	edit(next.shelves)
	if maps.Equal(next.shelves, old.shelves) {
		return
	}
	for key, shelf := range next.shelves {
		if !shelf.unlisted {
			next.names = append(next.names, key.Name)
		}
	}
	slices.Sort(next.names)
	next.names = slices.Compact(next.names)
	s.current.Store(next)
}
