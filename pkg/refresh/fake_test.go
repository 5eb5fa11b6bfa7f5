package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/refresh"
	"github.com/purser-agent/purser/pkg/store"
)

// upstream is a source with state: what it grants, how long that lives, and what
// is wrong with it.
type upstream struct {
	mu       sync.Mutex // guards all below
	names    []string
	declared bool
	lifetime time.Duration
	down     error            // what every question gets, if set
	failing  map[string]error // what one name gets
	hang     bool             // questions wait for their context
	cached   *credential.AWS  // what every fetch gets, if set
	allowed  []string         // on demand
	changed  bool             // a file has changed
	fetches  map[string]int
	lists    int
	busy     map[string]int // fetches under way
	overlap  bool           // two fetches of one name were under way at once
	most     int            // fetches under way at once
}

func newUpstream(names ...string) *upstream {
	return &upstream{
		names: names, lifetime: time.Hour, failing: map[string]error{},
		fetches: map[string]int{}, busy: map[string]int{},
	}
}

func (u *upstream) set(change func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change()
}

func (u *upstream) fetched(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.fetches[name]
}

func (u *upstream) listed() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.lists
}

// manyRoles are so many names.
func manyRoles(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("role", i))
	}
	return names
}

func keys(names ...string) []credential.Key {
	keys := make([]credential.Key, 0, len(names))
	for _, name := range names {
		keys = append(keys, credential.Key{Name: name})
	}
	return keys
}

func (u *upstream) List(ctx context.Context) ([]credential.Key, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lists++
	if u.down != nil {
		return nil, u.down
	}
	return keys(u.names...), nil
}

func (u *upstream) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	u.mu.Lock()
	u.fetches[key.Name]++
	u.busy[key.Name]++
	u.overlap = u.overlap || u.busy[key.Name] > 1
	under := 0
	for _, n := range u.busy {
		under += n
	}
	u.most = max(u.most, under)
	hang := u.hang
	u.mu.Unlock()

	if hang {
		<-ctx.Done()
	} else {
		time.Sleep(50 * time.Millisecond)
	}

	u.mu.Lock()
	defer u.mu.Unlock()
	u.busy[key.Name]--
	if err := errors.Join(ctx.Err(), u.down, u.failing[key.Name]); err != nil {
		return nil, err
	}
	if u.cached != nil {
		return u.cached, nil
	}
	now := time.Now()
	return &credential.AWS{AccessKeyID: key.Name, Issued: now, Expires: now.Add(u.lifetime)}, nil
}

// Declared implements refresh.Declarer.
func (u *upstream) Declared() []credential.Key {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.declared {
		return nil
	}
	return keys(u.names...)
}

// Allows implements refresh.Allower.
func (u *upstream) Allows(key credential.Key) bool { return slices.Contains(u.allowed, key.Name) }

// Changed implements refresh.Watcher.
func (u *upstream) Changed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.changed
	u.changed = false
	return was
}

// upstreamError is an error that says more about itself.
type upstreamError struct {
	permanent, refused bool
	after              time.Duration
}

func (upstreamError) Error() string               { return "the upstream says no" }
func (e upstreamError) Permanent() bool           { return e.permanent }
func (e upstreamError) Refused() bool             { return e.refused }
func (e upstreamError) RetryAfter() time.Duration { return e.after }
func (upstreamError) Class() string               { return "fake" }

var errDown = upstreamError{}

// host is one store and the loops that fill it.
type host struct {
	t      *testing.T
	store  store.Store
	claims refresh.Claims
	log    zerolog.Logger
}

func newHost(t *testing.T) *host {
	return &host{t: t, log: zerolog.New(zerolog.NewTestWriter(t))}
}

func (h *host) loop(name string, u refresh.Source, change ...func(*refresh.Options)) *refresh.Loop {
	o := refresh.Options{
		Upstream: name, Source: u, Store: &h.store, Claims: &h.claims,
		Host: "test", Required: true, Log: h.log,
	}
	for _, c := range change {
		c(&o)
	}
	return refresh.New(o)
}

// run starts a loop that ends with the test.
func (h *host) run(l *refresh.Loop) *refresh.Loop {
	ctx, cancel := context.WithCancel(h.t.Context())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	h.t.Cleanup(func() { cancel(); running.Wait() })
	return l
}

func (h *host) get(name string) (*credential.AWS, error) {
	c, err := h.store.Get(credential.Key{Name: name})
	if err != nil {
		return nil, err
	}
	return c.(*credential.AWS), nil
}

func (h *host) must(name string) *credential.AWS {
	h.t.Helper()
	c, err := h.get(name)
	if err != nil {
		h.t.Fatalf("%s: %v", name, err)
	}
	return c
}

func (h *host) mustFail(name string, want error) {
	h.t.Helper()
	if _, err := h.get(name); !errors.Is(err, want) {
		h.t.Errorf("%s: got error %v, want %v", name, err, want)
	}
}

func row(t *testing.T, l *refresh.Loop, name string) refresh.Row {
	t.Helper()
	for _, r := range l.Rows() {
		if r.Key.Name == name {
			return r
		}
	}
	t.Fatalf("%s has no row", name)
	return refresh.Row{}
}

// bubble runs a test in simulated time with a host of its own. Loops must end
// inside the bubble, so the test function gets a context-bound sub-test's cleanup.
func bubble(t *testing.T, f func(t *testing.T, h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newHost(t)) })
}

// settle lets everything that is under way end.
func settle() {
	time.Sleep(200 * time.Millisecond)
	synctest.Wait()
}
