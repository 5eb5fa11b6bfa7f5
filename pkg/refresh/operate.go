package refresh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// A Row is what an operator may know of one credential.
type Row struct {
	Key       credential.Key
	State     State
	Issued    time.Time // zero if never fetched, as are the next three
	Expires   time.Time // also zero for one without an end
	Fetched   time.Time
	Next      time.Time // when it is asked for next; zero for a withdrawn one
	Failures  int       // in a row
	Err       error     // of the last attempt
	Waiting   bool      // Err says what comes first; that is no failure of this upstream
	Required  bool
	OnDemand  bool
	Holder    string    // the upstream that has the name, if another does
	Withdrawn time.Time // since when, zero if it is not
}

// Rows describes every credential of the loop, sorted by key.
func (l *Loop) Rows() []Row {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := make([]Row, 0, len(l.jobs)+len(l.withdrawn))
	for _, j := range l.jobs {
		rows = append(rows, Row{
			Key: j.key, State: stateAt(now, j.expires, j.due, j.failures > 0),
			Issued: j.issued, Expires: shown(j.expires), Fetched: j.fetched, Next: j.next,
			Failures: j.failed(), Err: j.err, Waiting: isWaiting(j.err), Required: j.required, OnDemand: j.demanded, Holder: j.holder,
		})
	}
	for key, since := range l.withdrawn {
		rows = append(rows, Row{Key: key, State: Withdrawn, Withdrawn: since})
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return rows
}

// A Listing is what an operator may know of the list. It is zero for a source that
// declares its keys.
type Listing struct {
	Last, Next time.Time
	Failures   int
	Err        error
}

// Listing describes how asking for the list goes.
func (l *Loop) Listing() Listing {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lister == nil {
		return Listing{}
	}
	return Listing{Last: l.lister.fetched, Next: l.lister.next, Failures: l.lister.failed(), Err: l.lister.err}
}

// Answered reports whether the upstream has said what it grants, be it nothing.
func (l *Loop) Answered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known || (l.lister != nil && !l.lister.fetched.IsZero())
}

// Missing names what ready waits for: every required credential that is not in
// stock, or the upstream itself while it has granted nothing. Required is what the
// configuration names and what the first list that is not empty does: a role that
// comes later makes a working host no less ready.
func (l *Loop) Missing() []string {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.Required {
		return nil
	}
	if !l.known {
		return []string{fmt.Sprintf("the list of upstream %q", l.Upstream)}
	}
	var missing []string
	for _, j := range l.jobs {
		if j.required && !j.valid(now) && j.holder == "" {
			missing = append(missing, j.key.String())
		}
	}
	slices.Sort(missing)
	return missing
}

// Refresh asks now, and returns when all was asked: for the given names, or for the
// list and everything if there are none. The error names what failed; what is in
// stock stays. An attempt already under way is joined.
func (l *Loop) Refresh(ctx context.Context, names ...string) error {
	if h, ok := l.Source.(Hurrier); ok {
		h.Hurry()
	}
	var listed error
	if len(names) == 0 {
		listed = l.hasten(ctx, func(j *job) bool { return j.list })
	}
	return errors.Join(listed, l.hasten(ctx, func(j *job) bool {
		return !j.list && j.holder == "" && (len(names) == 0 || slices.Contains(names, j.key.Name))
	}))
}

// ListSoon asks for the list at the next opportunity and does not wait for it.
func (l *Loop) ListSoon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lister != nil {
		l.queue.plan(l.lister, time.Now())
		l.nudge()
	}
}

// Keys lists what the upstream grants, after a Trial what that has learned. It is
// not known before the upstream has said so. Keys on demand, and those which another
// upstream holds, are not among them.
func (l *Loop) Keys() (keys []credential.Key, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trial != nil {
		return l.trial.keys, true
	}
	for key, j := range l.jobs {
		if j.holder == "" && !j.demanded {
			keys = append(keys, key)
		}
	}
	return keys, l.known
}

// Grants reports whether key is one of Keys.
func (l *Loop) Grants(key credential.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trial != nil {
		return slices.Contains(l.trial.keys, key)
	}
	j, ok := l.jobs[key]
	return ok && j.holder == "" && !j.demanded
}

// renewAgain is the least time between two fetches of a key that others ask for.
const renewAgain = time.Minute

// Renew fetches key ahead of its time, for somebody who found that it is of no use
// any more. It does not wait, and does nothing for a key that was fetched within the
// last minute or waits to be retried.
func (l *Loop) Renew(key credential.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now().Round(0)
	j, ok := l.jobs[key]
	if !ok || j.holder != "" || j.waiting || now.Sub(j.fetched) < renewAgain {
		return
	}
	l.queue.plan(j, now)
	l.nudge()
}

// Has reports whether a credential of this name is one of the loop's.
func (l *Loop) Has(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.jobs {
		if key.Name == name {
			return true
		}
	}
	return false
}

func (l *Loop) hasten(ctx context.Context, match func(*job) bool) error {
	l.mu.Lock()
	var chosen []*job
	var attempted []<-chan struct{}
	choose := func(j *job) {
		if j == nil || !match(j) {
			return
		}
		chosen = append(chosen, j)
		attempted = append(attempted, j.attempted())
		l.urged[j] = struct{}{}
	}
	if l.stopped {
		l.mu.Unlock()
		return l.errStopped()
	}
	choose(l.lister)
	for _, j := range l.jobs {
		choose(j)
	}
	l.nudge()
	l.mu.Unlock()
	for _, done := range attempted {
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return l.errStopped()
	}
	var errs []error
	for _, j := range chosen {
		if j.err != nil {
			errs = append(errs, l.explain(j.list, j.key, j.err))
		}
	}
	return join(errs)
}

func (l *Loop) errStopped() error {
	return fmt.Errorf("upstream %q was replaced by a reload meanwhile; try again", l.Upstream)
}

// Stop gives back everything the loop has, after Run returned. It returns the keys
// that were in the store on its account; they stay there for a successor to claim.
func (l *Loop) Stop() (held []credential.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for _, j := range l.jobs {
		j.finish()
	}
	if l.lister != nil {
		l.lister.finish()
	}
	l.Claims.Release(l.Upstream, slices.Collect(maps.Keys(l.jobs)), func(released ...credential.Key) { held = released })
	return held
}

// trial is what a loop asked for before it ran.
type trial struct {
	keys    []credential.Key
	fetched map[credential.Key]credential.Credential
}

// Trial asks once for everything, before Run, and keeps the answers for it without
// showing them to anybody. The error names each thing that failed.
func (l *Loop) Trial(ctx context.Context) error {
	err := l.try(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried = err
	return err
}

// Tried is the error of Trial, nil if there was none so far.
func (l *Loop) Tried() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tried
}

func (l *Loop) try(ctx context.Context) error {
	t := &trial{keys: Declared(l.Source), fetched: map[credential.Key]credential.Credential{}}
	if t.keys == nil {
		keys, _, err := l.ask(ctx, true, credential.Key{})
		if err != nil {
			return l.explain(true, credential.Key{}, err)
		}
		if len(keys) == 0 {
			return fmt.Errorf("upstream %q lists nothing for this host", l.Upstream)
		}
		t.keys = keys
	}
	var (
		mu    sync.Mutex // guards t.fetched and errs
		errs  []error
		group sync.WaitGroup
		slots = make(chan struct{}, parallel)
	)
	for _, key := range t.keys {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			_, c, err := l.ask(ctx, false, key)
			if err == nil {
				if _, expires := lifetime(c); !time.Now().Before(expires) {
					err = expiredError{expires}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, l.explain(false, key, err))
				return
			}
			t.fetched[key] = c
		})
	}
	group.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trial = t
	return join(errs)
}

// Fetched is what Trial has fetched.
func (l *Loop) Fetched() map[credential.Key]credential.Credential {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trial == nil {
		return nil
	}
	return l.trial.fetched
}

// takeOver puts the outcome of a trial in stock. What a predecessor left there and
// the trial could not fetch goes: it came from another configuration.
func (l *Loop) takeOver(t *trial, now time.Time) {
	if l.lister != nil {
		l.settleList(l.lister, t.keys, nil, now)
	}
	var unfetched []credential.Key
	for key, j := range l.jobs {
		if j.holder != "" {
			continue
		}
		if c, ok := t.fetched[key]; ok {
			l.settle(j, c, nil, now)
		} else {
			unfetched = append(unfetched, key)
		}
	}
	l.Store.Remove(unfetched...)
	l.Store.Announce(unfetched...)
}

func (l *Loop) explain(list bool, key credential.Key, err error) error {
	if list {
		return fmt.Errorf("upstream %q, list of credentials: %w", l.Upstream, err)
	}
	return fmt.Errorf("upstream %q, credential %q: %w", l.Upstream, key, err)
}

// most errors that one message names.
const mostErrors = 10

func join(errs []error) error {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if more := len(errs) - mostErrors; more > 0 {
		errs = append(errs[:mostErrors:mostErrors], fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}
