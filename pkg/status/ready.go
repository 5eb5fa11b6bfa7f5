package status

import (
	"context"
	"sync"
	"time"
)

// lookEvery bounds how often Run looks at what is missing: while thousands of
// credentials arrive, looking after each of them would cost more than fetching it.
const lookEvery = 20 * time.Millisecond

// A Readiness tells when nothing that is required is missing any more, so that
// whatever is ordered after Purser finds its credentials. All methods are safe for
// concurrent use.
type Readiness struct {
	missing func() []string
	changed chan struct{}
	reached chan struct{}
	reach   func()
}

// NewReadiness takes a function that names what is missing at the moment: required
// credentials that are not in stock or have expired, and upstreams that have not
// said what they grant.
func NewReadiness(missing func() []string) *Readiness {
	reached := make(chan struct{})
	return &Readiness{
		missing: missing,
		changed: make(chan struct{}, 1),
		reached: reached,
		reach:   sync.OnceFunc(func() { close(reached) }),
	}
}

// Changed says that something came into stock or is no longer required, which is a
// reason to look again. It does not wait.
func (r *Readiness) Changed() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Run looks at once and after each change, until readiness is reached or ctx ends.
func (r *Readiness) Run(ctx context.Context) {
	for ready, _ := r.Ready(); !ready; ready, _ = r.Ready() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookEvery):
		}
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		}
	}
}

// Ready reports whether nothing is missing now, and otherwise names what is. After
// readiness was reached, a failing upstream changes nothing; only a required
// credential that expires does.
func (r *Readiness) Ready() (ready bool, missing []string) {
	missing = r.missing()
	if len(missing) > 0 {
		return false, missing
	}
	r.reach()
	return true, nil
}

// Reached is closed when nothing was missing for the first time.
func (r *Readiness) Reached() <-chan struct{} { return r.reached }
