package upstream

import (
	"errors"
	"sync"

	"github.com/rs/zerolog"
)

// Kept is what was made of a set of files as they were last good. It is made anew when
// they have changed, and a change that leaves them unusable, such as one of which half
// is still to come, leaves it as it was. It is safe for concurrent use.
type Kept[T any] struct {
	files []string
	load  func() (T, error)
	log   zerolog.Logger

	mu      sync.Mutex
	seen    string // fingerprint of the files at the last attempt to load them
	fault   error  // why that attempt gave nothing new
	current T
	loaded  bool
}

// Keep returns a Kept for what load makes of certificate files. It reads none yet.
func Keep[T any](files []string, load func() (T, error), log zerolog.Logger) *Kept[T] {
	return &Kept[T]{files: files, load: load, log: log}
}

// Get returns what the files hold now. Where they cannot be used it returns what they
// held before, if anything, together with the reason.
func (k *Kept[T]) Get() (current T, loaded bool, fault error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := Fingerprint(k.files)
	if k.loaded && seen == k.seen {
		return k.current, true, k.fault
	}
	fresh, err := k.settled(seen)
	switch {
	case err == nil && k.loaded:
		k.log.Info().Msg("certificate files changed and are in use")
	case err != nil && k.loaded && seen != k.seen:
		k.log.Warn().Err(err).Msg("changed certificate files cannot be used, keeping the former ones")
	}
	if err == nil {
		k.current, k.loaded = fresh, true
	}
	k.seen, k.fault = seen, err
	return k.current, k.loaded, err
}

// last returns what Get returned last, without a look at the files.
func (k *Kept[T]) last() (current T, loaded bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current, k.loaded
}

var errRotating = errors.New("the certificate files are being replaced")

// settled loads the files and makes sure that they did not change meanwhile, so that
// nothing of an old set is mixed with a new one.
func (k *Kept[T]) settled(before string) (fresh T, err error) {
	for range 3 {
		fresh, err = k.load()
		after := Fingerprint(k.files)
		if after == before {
			return fresh, err
		}
		before = after
	}
	return fresh, errRotating
}
