package status

import (
	"maps"
	"slices"
	"sync"

	"github.com/purser-agent/purser/pkg/credential"
)

// A Readiness tells when everything that is required is in stock, so that whatever
// is ordered after Purser finds its credentials.
//
// Required is what each required upstream says in its first list that is not empty
// (a federation service lists nothing while its own cloud refuses it, so an empty
// list settles nothing), and what the configuration names. Readiness is reached
// once, when all of it is in stock at one moment; from then on only a required
// credential that was there and is no longer valid counts as missing: neither a
// failing upstream nor a role that appears later makes a working Purser unready.
//
// All methods are safe for concurrent use.
type Readiness struct {
	inStock func(credential.Key) bool
	reached chan struct{}

	mu       sync.Mutex                  // guards all below
	unlisted map[string]struct{}         // upstreams whose first list has not come
	required map[string][]credential.Key // by upstream
	waiting  map[credential.Key]struct{} // required and not in stock so far
}

// NewReadiness awaits the first lists of upstreams; with none, readiness is reached
// at once. inStock reports whether a credential is there and valid; it is called
// under a lock and must not wait.
func NewReadiness(inStock func(credential.Key) bool, upstreams ...string) *Readiness {
	r := &Readiness{
		inStock:  inStock,
		reached:  make(chan struct{}),
		unlisted: map[string]struct{}{},
		required: map[string][]credential.Key{},
		waiting:  map[credential.Key]struct{}{},
	}
	for _, upstream := range upstreams {
		r.unlisted[upstream] = struct{}{}
	}
	r.settle()
	return r
}

// Reached is closed when readiness is reached for the first time.
func (r *Readiness) Reached() <-chan struct{} { return r.reached }

// Require adds keys that the configuration names; upstream is the one they come
// from, or a name of its own for keys whose upstream is not known yet.
func (r *Readiness) Require(upstream string, keys ...credential.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.require(upstream, keys)
	r.settle()
}

// Listed takes a list of upstream. Only the first that is not empty counts.
func (r *Readiness) Listed(upstream string, keys ...credential.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, awaited := r.unlisted[upstream]; !awaited || len(keys) == 0 {
		return
	}
	delete(r.unlisted, upstream)
	r.require(upstream, keys)
	r.settle()
}

// Stored says that keys came into stock.
func (r *Readiness) Stored(keys ...credential.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range keys {
		delete(r.waiting, key)
	}
	r.settle()
}

// Withdrawn says that an upstream no longer grants keys, so that they are not
// required any more.
func (r *Readiness) Withdrawn(keys ...credential.Key) {
	gone := make(map[credential.Key]bool, len(keys))
	for _, key := range keys {
		gone[key] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for upstream, required := range r.required {
		r.required[upstream] = slices.DeleteFunc(required, func(key credential.Key) bool { return gone[key] })
	}
	for key := range gone {
		delete(r.waiting, key)
	}
	r.settle()
}

// Removed says that a reload took upstream away, and with it what it required.
func (r *Readiness) Removed(upstream string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.unlisted, upstream)
	delete(r.required, upstream)
	others := r.keys()
	maps.DeleteFunc(r.waiting, func(key credential.Key, _ struct{}) bool { return !others[key] })
	r.settle()
}

// Ready reports whether readiness was reached and nothing is missing now.
func (r *Readiness) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isReached() && len(r.expired()) == 0
}

// Missing names what is missing, sorted, lists before credentials.
func (r *Readiness) Missing() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := r.waiting
	var lists []string
	if r.isReached() {
		keys = r.expired()
	} else {
		for _, upstream := range slices.Sorted(maps.Keys(r.unlisted)) {
			lists = append(lists, "the list of upstream "+upstream)
		}
	}
	names := make([]string, 0, len(keys))
	for key := range keys {
		names = append(names, key.String())
	}
	slices.Sort(names)
	return append(lists, names...)
}

// The methods below are called with mu held.

func (r *Readiness) require(upstream string, keys []credential.Key) {
	for _, key := range keys {
		r.required[upstream] = append(r.required[upstream], key)
		if !r.inStock(key) {
			r.waiting[key] = struct{}{}
		}
	}
}

func (r *Readiness) isReached() bool {
	select {
	case <-r.reached:
		return true
	default:
		return false
	}
}

// settle notices that readiness is reached. What expired while the rest was on its
// way has to come again.
func (r *Readiness) settle() {
	if r.isReached() || len(r.unlisted) > 0 || len(r.waiting) > 0 {
		return
	}
	r.waiting = r.expired()
	if len(r.waiting) == 0 {
		close(r.reached)
	}
}

// expired returns the required keys that were in stock and are no longer.
func (r *Readiness) expired() map[credential.Key]struct{} {
	expired := map[credential.Key]struct{}{}
	for key := range r.keys() {
		if _, waits := r.waiting[key]; !waits && !r.inStock(key) {
			expired[key] = struct{}{}
		}
	}
	return expired
}

func (r *Readiness) keys() map[credential.Key]bool {
	keys := map[credential.Key]bool{}
	for _, required := range r.required {
		for _, key := range required {
			keys[key] = true
		}
	}
	return keys
}
