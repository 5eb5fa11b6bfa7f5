package refresh_test

import (
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func TestPromise9TransportErrorsRetryFasterThanRefusals(t *testing.T) {
	attempts := func(err error, span time.Duration) (n int) {
		bubble(t, func(t *testing.T, h *host) {
			u := newUpstream("web")
			u.failing["web"] = err
			h.run(h.loop("datacenter", u))
			time.Sleep(span)
			n = u.fetched("web")
		})
		return n
	}
	quick, patient := attempts(upstreamError{}, 2*time.Hour), attempts(upstreamError{permanent: true}, 2*time.Hour)
	if quick < 120 || quick > 600 || patient < 24 || patient > 150 {
		t.Errorf("in two hours %d attempts after transport errors and %d after refusals", quick, patient)
	}
	if got := attempts(upstreamError{after: 10 * time.Minute}, 65*time.Minute); got < 6 || got > 7 {
		t.Errorf("%d attempts in 65 minutes with a Retry-After of 10 minutes", got)
	}
}

func TestPromise9OneFetchAtATimePerCredentialAndFewInAll(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		names := manyRoles(200)
		u := newUpstream(names...)
		u.lifetime = time.Minute
		l := h.run(h.loop("datacenter", u))
		for range 50 {
			go func() { _ = l.Refresh(t.Context()) }()
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Minute)
		u.set(func() {
			if u.overlap || u.most > 16 {
				t.Errorf("two fetches of one credential at once: %v; %d fetches at once in all", u.overlap, u.most)
			}
		})
	})
}

func TestADeadUpstreamIsProbedOneAttemptAtATime(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		names := manyRoles(500)
		u := newUpstream(names...)
		u.declared = true
		h.run(h.loop("datacenter", u))
		settle()
		time.Sleep(5 * time.Second)
		u.set(func() { u.hang = true })
		time.Sleep(3 * time.Hour)
		u.set(func() { u.most = 0 })
		time.Sleep(10 * time.Minute)
		u.set(func() {
			if u.most != 1 {
				t.Errorf("%d attempts at once at a dead upstream", u.most)
			}
			u.hang = false
		})
		time.Sleep(5 * time.Minute)
		for _, name := range names {
			h.must(name)
		}
	})
}

func TestPromise9RetryAfterHoldsForTheWholeUpstream(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		names := manyRoles(200)
		u := newUpstream(names...)
		h.run(h.loop("datacenter", u))
		u.set(func() {
			for _, name := range names {
				u.failing[name] = upstreamError{after: time.Minute}
			}
		})
		total := func() (n int) {
			u.set(func() {
				for _, fetches := range u.fetches {
					n += fetches
				}
			})
			return n
		}
		time.Sleep(50 * time.Second)
		if got := total(); got > 16 {
			t.Errorf("%d attempts within 50 s of the first Retry-After of a minute", got)
		}
		time.Sleep(10 * time.Minute)
		if got := total(); got > 30 {
			t.Errorf("%d attempts in eleven minutes of Retry-After", got)
		}
		u.set(func() { clear(u.failing) })
		time.Sleep(3 * time.Minute)
		for _, name := range names {
			h.must(name)
		}
	})
}

func TestPromise9ADeadUpstreamIsAskedAsRarelyForManyAsForOne(t *testing.T) {
	attempts := func(roles int) (n int) {
		bubble(t, func(t *testing.T, h *host) {
			h.log = zerolog.Nop()
			names := manyRoles(roles)
			u := newUpstream(names...)
			u.declared, u.down = true, errDown
			h.run(h.loop("datacenter", u))
			time.Sleep(time.Hour)
			for _, name := range names {
				n += u.fetched(name)
			}
		})
		return n
	}
	if one, many := attempts(1), attempts(300); many > 3*one+16 {
		t.Errorf("%d attempts in an hour for 300 credentials, %d for one", many, one)
	}
}

func TestRefreshIsNotHeldUpByAPause(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("a", "b", "c", "d", "e", "f", "g", "h")
		l := h.run(h.loop("datacenter", u))
		settle()
		for _, err := range []error{upstreamError{after: time.Hour}, errDown, errDown} {
			u.set(func() { u.down = err })
			begin := time.Now()
			if l.Refresh(t.Context()) == nil {
				t.Error("a refresh of what is down has no error")
			}
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("the command took %v", took)
			}
		}
		u.set(func() { u.down = nil })
		if err := l.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestPromise4AnUpstreamThatComesBackLateIsNoticedInTime: however long the waits have become,
// what is in stock is asked for again before it ends, and for that with few attempts.
func TestPromise4AnUpstreamThatComesBackLateIsNoticedInTime(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		h.log = zerolog.Nop()
		names := manyRoles(50)
		u := newUpstream(names...)
		u.lifetime = 15 * time.Minute
		h.run(h.loop("datacenter", u))
		settle()
		u.set(func() { u.down, u.fetches = upstreamError{permanent: true}, map[string]int{} })
		time.Sleep(u.lifetime - 30*time.Second)
		u.set(func() { u.down = nil })
		for range 60 {
			time.Sleep(time.Second)
			for _, name := range names {
				h.must(name)
			}
		}
		for _, name := range names {
			if n := u.fetched(name); n > 30 {
				t.Errorf("%s was asked for %d times", name, n)
			}
		}
	})
}
