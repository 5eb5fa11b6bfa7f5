package upstream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// An address that failed rests between firstRest and longestRest, doubling with each
// failure, or as long as its Retry-After says.
const (
	firstRest   = 5 * time.Second
	longestRest = 5 * time.Minute
)

// Endpoints are the addresses of one upstream, with a memory of which of them work:
// the one that last worked is asked first, and one that failed is left alone for a
// while as long as there is another. It is safe for concurrent use.
type Endpoints struct {
	addresses []string // as configured

	mu     sync.Mutex
	health []health // of each address
	last   int      // the address that last worked
}

type health struct {
	failures int
	failed   time.Time // the last time
	rests    time.Time // until then
}

// NewEndpoints returns endpoints of which none has failed. There must be one at
// least.
func NewEndpoints(addresses []string) *Endpoints {
	return &Endpoints{addresses: slices.Clone(addresses), health: make([]health, len(addresses))}
}

// Try calls ask with one address after the other until one gives a result or an
// error that the others would give as well: a 4xx is the upstream's word; a broken
// connection, a 5xx or rubbish is a matter of one address. All calls share ctx. If
// every address failed, the error tells of each.
func (e *Endpoints) Try(ctx context.Context, ask func(ctx context.Context, address string) error) error {
	var faults []*Error
	for _, i := range e.order(time.Now()) {
		asked := time.Now()
		err := ask(ctx, e.addresses[i])
		fault, _ := errors.AsType[*Error](err)
		if fault != nil && fault.Kind == ClassCanceled {
			return err
		}
		if fault == nil || fault.definite() {
			e.worked(i)
			return err
		}
		e.failed(i, asked, fault.Wait)
		faults = append(faults, fault)
		if ctx.Err() != nil {
			break
		}
	}
	return joined(faults)
}

// order lists the addresses to ask now: those that do not rest or, if all do, the
// one that is the first to have rested.
func (e *Endpoints) order(now time.Time) []int {
	e.mu.Lock()
	defer e.mu.Unlock()
	var awake []int
	soonest := e.last
	for i := range e.health {
		if !e.health[i].rests.After(now) {
			awake = append(awake, i)
		}
		if e.health[i].rests.Before(e.health[soonest].rests) {
			soonest = i
		}
	}
	if awake == nil {
		return []int{soonest}
	}
	if at := slices.Index(awake, e.last); at > 0 {
		awake = slices.Insert(slices.Delete(awake, at, at+1), 0, e.last)
	}
	return awake
}

func (e *Endpoints) worked(i int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last = i
	e.health[i] = health{}
}

func (e *Endpoints) failed(i int, asked time.Time, wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := &e.health[i]
	if asked.Before(at.failed) {
		return // one outage seen by many requests at once counts once
	}
	rest := min(firstRest<<min(at.failures, 10), longestRest)
	at.failures++
	at.failed = time.Now()
	at.rests = at.failed.Add(max(rest, wait))
}

// joined makes one error of several addresses' errors. It is as mild as the mildest:
// permanent only if all are, and with the shortest wait.
func joined(faults []*Error) error {
	if len(faults) == 1 {
		return faults[0]
	}
	mildest := max(0, slices.IndexFunc(faults, func(e *Error) bool { return !e.Permanent() }))
	e := *faults[mildest]
	for i, other := range faults {
		e.Wait = min(e.Wait, other.Wait)
		if i != mildest {
			e.others = append(e.others, other)
		}
	}
	return &e
}
