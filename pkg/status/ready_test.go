package status

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stock is what a Readiness looks at.
type stock struct {
	mu      sync.Mutex
	missing []string
	looks   int
}

func (s *stock) look() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	return slices.Clone(s.missing)
}

func (s *stock) set(missing ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing = missing
}

func isReached(r *Readiness) bool {
	select {
	case <-r.Reached():
		return true
	default:
		return false
	}
}

func TestReadinessComesWithTheLastThingMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s stock
		s.set("a", "b")
		r := NewReadiness(s.look)
		go r.Run(t.Context())
		for _, step := range []struct {
			missing []string
			want    bool
		}{
			{[]string{"a", "b"}, false},
			{[]string{"b"}, false},
			{[]string{"a"}, false}, // a has expired meanwhile
			{nil, true},
		} {
			s.set(step.missing...)
			r.Changed()
			time.Sleep(2 * lookEvery)
			synctest.Wait()
			if got := isReached(r); got != step.want {
				t.Errorf("missing %q: reached = %v, want %v", step.missing, got, step.want)
			}
			if ready, missing := r.Ready(); ready != step.want || !slices.Equal(missing, step.missing) {
				t.Errorf("missing %q: ready = %v, %q, want %v", step.missing, ready, missing, step.want)
			}
		}
	})
}

func TestNothingRequiredMeansReadyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReadiness(func() []string { return nil })
		begun := time.Now()
		r.Run(t.Context())
		if !isReached(r) || time.Since(begun) != 0 {
			t.Errorf("reached = %v after %v, want true at once", isReached(r), time.Since(begun))
		}
	})
}

func TestReadinessStaysReachedButReadyFollowsExpiry(t *testing.T) {
	var s stock
	r := NewReadiness(s.look)
	r.Run(t.Context())
	s.set("expired")
	if ready, missing := r.Ready(); ready || !slices.Equal(missing, []string{"expired"}) {
		t.Errorf("ready = %v, %q, want false, expired", ready, missing)
	}
	if !isReached(r) {
		t.Error("readiness is no longer reached")
	}
	s.set()
	if ready, _ := r.Ready(); !ready {
		t.Error("not ready after the credential came back")
	}
}

func TestManyArrivalsCostFewLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s stock
		s.set("last")
		r := NewReadiness(s.look)
		go r.Run(t.Context())
		for range 10_000 {
			r.Changed()
			time.Sleep(time.Second / 10_000)
		}
		s.set()
		r.Changed()
		<-r.Reached()
		if most := int(time.Second/lookEvery) + 2; s.looks > most {
			t.Errorf("%d looks in a second, want at most %d", s.looks, most)
		}
	})
}

func TestReadinessRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r := NewReadiness(func() []string { return []string{"never"} })
		r.Run(ctx)
		if isReached(r) {
			t.Error("readiness is reached although something is missing")
		}
	})
}

func TestReadinessIsReachedOnceByManyAtOnce(t *testing.T) {
	var s stock
	for i := range 100 {
		s.missing = append(s.missing, strconv.Itoa(i))
	}
	r := NewReadiness(s.look)
	var workers sync.WaitGroup
	workers.Go(func() { r.Run(t.Context()) })
	for range 10 {
		workers.Go(func() {
			for range 10 {
				s.mu.Lock()
				s.missing = s.missing[1:]
				s.mu.Unlock()
				r.Changed()
				r.Ready()
			}
		})
	}
	workers.Wait()
	<-r.Reached()
}
