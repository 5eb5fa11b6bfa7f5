package upstream

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// Files that were changed so recently are taken to be in the middle of it, and are read
// again if they change meanwhile.
const (
	settleTime = 500 * time.Millisecond
	mostReads  = 5
)

// A Record remembers in which state of some files each credential was read from them, to
// tell when they are others. The zero Record is ready, and it is safe for concurrent use.
type Record struct {
	mu   sync.Mutex // guards seen
	seen map[credential.Key]state
}

type state struct {
	paths []string
	print string // when it was read
	told  string // when Replaced last said so
}

// Read calls read, which reads the credential of a key from the files, and calls it
// again if they changed before they had settled: several files, or one that is written
// in place, may be half of the old and half of the new. The state counts as known also
// if read fails.
func (r *Record) Read(ctx context.Context, key credential.Key, paths []string, read func() error) error {
	for range mostReads {
		before := Fingerprint(paths)
		err := read()
		if wait := settleTime - sinceChange(paths); wait > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(min(wait, settleTime)):
			}
		}
		if Fingerprint(paths) == before {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.seen == nil {
				r.seen = map[credential.Key]state{}
			}
			r.seen[key] = state{paths: paths, print: before}
			return err
		}
	}
	return errors.New("the file changes again and again while it is read; is something writing it without end?")
}

// sinceChange is how long ago the newest of some files was changed, or of the links that
// lead to them.
func sinceChange(paths []string) time.Duration {
	least := settleTime
	for _, path := range paths {
		for _, look := range []func(string) (os.FileInfo, error){os.Stat, os.Lstat} {
			info, err := look(path)
			if err != nil {
				continue
			}
			if sys, ok := info.Sys().(*syscall.Stat_t); ok {
				least = min(least, time.Since(time.Unix(sys.Ctim.Unix())))
			}
		}
	}
	return least
}

// Replaced reports, once, that a credential that was read would now be read from other
// files.
func (r *Record) Replaced() (replaced bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, s := range r.seen {
		if now := Fingerprint(s.paths); now != s.print && now != s.told {
			s.told = now
			r.seen[key] = s
			replaced = true
		}
	}
	return replaced
}

// Keep forgets all but some keys.
func (r *Record) Keep(keys []credential.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.seen, func(key credential.Key, _ state) bool { return !slices.Contains(keys, key) })
}
