package status

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/purser-agent/purser/pkg/credential"
)

// shelf is a store in which a credential is valid or not.
type shelf struct {
	mu    sync.Mutex
	valid map[credential.Key]bool
}

func (s *shelf) set(valid bool, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.valid == nil {
		s.valid = map[credential.Key]bool{}
	}
	for _, key := range keys(names...) {
		s.valid[key] = valid
	}
}

func (s *shelf) has(key credential.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.valid[key]
}

func keys(names ...string) []credential.Key {
	var keys []credential.Key
	for _, name := range names {
		keys = append(keys, credential.Key{Name: name})
	}
	return keys
}

// arrive is a credential that was fetched.
func (s *shelf) arrive(r *Readiness, names ...string) {
	s.set(true, names...)
	r.Stored(keys(names...)...)
}

func TestReadinessComesWithTheLastRequiredCredential(t *testing.T) {
	var stock shelf
	r := NewReadiness(stock.has, "datacenter", "finance")
	expect := func(ready bool, missing ...string) {
		t.Helper()
		if got := r.Missing(); r.Ready() != ready || !slices.Equal(got, missing) {
			t.Errorf("ready = %v, missing %q, want %v, %q", r.Ready(), got, ready, missing)
		}
	}
	expect(false, "the list of upstream datacenter", "the list of upstream finance")
	r.Listed("datacenter", keys("b", "a")...)
	expect(false, "the list of upstream finance", "a", "b")
	stock.arrive(r, "a")
	expect(false, "the list of upstream finance", "b")
	r.Listed("finance", keys("c")...)
	stock.arrive(r, "b")
	expect(false, "c")
	select {
	case <-r.Reached():
		t.Error("readiness is reached although c is missing")
	default:
	}
	stock.arrive(r, "c")
	expect(true)
	<-r.Reached()
}

func TestReadiness(t *testing.T) {
	for _, test := range []struct {
		name    string
		do      func(r *Readiness, stock *shelf)
		ready   bool
		missing []string
	}{
		{
			"an empty list settles nothing",
			func(r *Readiness, _ *shelf) { r.Listed("up") },
			false, []string{"the list of upstream up"},
		},
		{
			"a list after an empty one counts",
			func(r *Readiness, _ *shelf) { r.Listed("up"); r.Listed("up", keys("a")...) },
			false, []string{"a"},
		},
		{
			"a role that appears in a later list is not required",
			func(r *Readiness, stock *shelf) {
				r.Listed("up", keys("a")...)
				r.Listed("up", keys("a", "b")...)
				stock.arrive(r, "a")
			},
			true, nil,
		},
		{
			"an upstream that is not required may list what it likes",
			func(r *Readiness, stock *shelf) {
				r.Listed("optional", keys("x")...)
				r.Listed("up", keys("a")...)
				stock.arrive(r, "a")
			},
			true, nil,
		},
		{
			"what the configuration names is required before any list",
			func(r *Readiness, _ *shelf) { r.Require("grants", keys("a")...) },
			false, []string{"the list of upstream up", "a"},
		},
		{
			"what was handed over counts",
			func(r *Readiness, stock *shelf) {
				stock.set(true, "a")
				r.Listed("up", keys("a")...)
			},
			true, nil,
		},
		{
			"what expired before the rest came has to come again",
			func(r *Readiness, stock *shelf) {
				r.Listed("up", keys("a", "b")...)
				stock.arrive(r, "a")
				stock.set(false, "a")
				stock.arrive(r, "b")
			},
			false, []string{"a"},
		},
		{
			"and then it is ready",
			func(r *Readiness, stock *shelf) {
				r.Listed("up", keys("a", "b")...)
				stock.arrive(r, "a")
				stock.set(false, "a")
				stock.arrive(r, "b")
				stock.arrive(r, "a")
			},
			true, nil,
		},
		{
			"what is withdrawn is not waited for",
			func(r *Readiness, stock *shelf) {
				r.Listed("up", keys("a", "b")...)
				stock.arrive(r, "a")
				r.Withdrawn(keys("b")...)
			},
			true, nil,
		},
		{
			"a removed upstream is not waited for",
			func(r *Readiness, stock *shelf) {
				r.Require("other", keys("x", "a")...)
				r.Listed("up", keys("a")...)
				r.Removed("other")
				stock.arrive(r, "a")
			},
			true, nil,
		},
		{
			"what another upstream requires too is still waited for",
			func(r *Readiness, _ *shelf) {
				r.Require("other", keys("a")...)
				r.Listed("up", keys("a")...)
				r.Removed("other")
			},
			false, []string{"a"},
		},
		{
			"once ready, an expired credential is missing",
			func(r *Readiness, stock *shelf) {
				r.Listed("up", keys("a", "b")...)
				stock.arrive(r, "a", "b")
				stock.set(false, "b")
			},
			false, []string{"b"},
		},
		{
			"until it is back",
			func(r *Readiness, stock *shelf) {
				r.Listed("up", keys("a", "b")...)
				stock.arrive(r, "a", "b")
				stock.set(false, "b")
				stock.arrive(r, "b")
			},
			true, nil,
		},
		{
			"once ready, a new requirement that never came is not missing",
			func(r *Readiness, stock *shelf) {
				r.Listed("up", keys("a")...)
				stock.arrive(r, "a")
				r.Require("new", keys("b")...)
			},
			true, nil,
		},
		{
			"but it is once it came and expired",
			func(r *Readiness, stock *shelf) {
				r.Listed("up", keys("a")...)
				stock.arrive(r, "a")
				r.Require("new", keys("b")...)
				stock.arrive(r, "b")
				stock.set(false, "b")
			},
			false, []string{"b"},
		},
		{
			"what is withdrawn after the start is not missing",
			func(r *Readiness, stock *shelf) {
				r.Listed("up", keys("a")...)
				stock.arrive(r, "a")
				r.Withdrawn(keys("a")...)
				stock.set(false, "a")
			},
			true, nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stock shelf
			r := NewReadiness(stock.has, "up")
			test.do(r, &stock)
			if got := r.Missing(); r.Ready() != test.ready || !slices.Equal(got, test.missing) {
				t.Errorf("ready = %v, missing %q, want %v, %q", r.Ready(), got, test.ready, test.missing)
			}
		})
	}
}

func TestNoUpstreamMeansReadyAtOnce(t *testing.T) {
	r := NewReadiness(func(credential.Key) bool { return false })
	<-r.Reached()
	if !r.Ready() {
		t.Errorf("not ready, missing %q", r.Missing())
	}
}

func TestReadinessIsReachedOnceByManyAtOnce(t *testing.T) {
	var stock shelf
	r := NewReadiness(stock.has, "up")
	var fetches sync.WaitGroup
	for worker := range 8 {
		fetches.Go(func() {
			for i := range 50 {
				stock.arrive(r, strconv.Itoa(worker)+"-"+strconv.Itoa(i))
				r.Missing()
			}
		})
	}
	var all []string
	for worker := range 8 {
		for i := range 50 {
			all = append(all, fmt.Sprintf("%d-%d", worker, i))
		}
	}
	r.Listed("up", keys(all...)...)
	fetches.Wait()
	<-r.Reached()
	if !r.Ready() {
		t.Errorf("not ready, missing %q", r.Missing())
	}
}
