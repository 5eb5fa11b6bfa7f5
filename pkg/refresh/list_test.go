package refresh_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/refresh"
)

func TestPromise9TheListIsAskedRarely(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		u.lifetime = 10 * time.Minute
		h.run(h.loop("datacenter", u))
		time.Sleep(24 * time.Hour)
		if got := u.listed(); got < 24 || got > 29 {
			t.Errorf("the list was asked %d times in a day", got)
		}
	})
}

func TestDeclaredKeysNeedNoList(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		u.declared = true
		h.run(h.loop("vault", u))
		time.Sleep(24 * time.Hour)
		h.must("web")
		if got := u.listed(); got != 0 {
			t.Errorf("the list was asked %d times", got)
		}
	})
}

func TestAWithdrawnCredentialGoesAtOnceAndMayComeBack(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web", "db")
		l := h.run(h.loop("datacenter", u))
		settle()
		u.set(func() { u.names = []string{"web"} })
		if err := l.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.mustFail("db", credential.ErrNotFound)
		h.must("web")
		if got := row(t, l, "db").State; got != refresh.Withdrawn {
			t.Errorf("got state %q, want withdrawn", got)
		}
		before := u.fetched("db")
		time.Sleep(3 * time.Hour)
		if got := u.fetched("db"); got != before {
			t.Error("a withdrawn credential is still fetched")
		}
		u.set(func() { u.names = []string{"web", "db"} })
		time.Sleep(2 * time.Hour)
		h.must("db")
	})
}

func TestAnEmptyListKeepsTheStock(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		h.run(h.loop("datacenter", u))
		settle()
		u.set(func() { u.names = nil })
		time.Sleep(5 * time.Hour)
		h.must("web")
		if got := u.listed(); got > 5*12*3 {
			t.Errorf("the list was asked %d times in five hours", got)
		}
	})
}

func TestTwoUpstreamsOneName(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		a, b, c := newUpstream("web"), newUpstream("web", "db"), newUpstream("web")
		c.declared = true
		first := h.run(h.loop("first", a))
		settle()
		second := h.run(h.loop("second", b))
		settle()
		if got := row(t, second, "web").Holder; got != "first" {
			t.Errorf("a listed name was taken from its holder: got holder %q", got)
		}
		if missing := second.Missing(); len(missing) > 0 {
			t.Errorf("ready waits for %q, which another upstream gives", missing)
		}
		h.run(h.loop("third", c))
		settle()
		_ = first.Refresh(t.Context())
		if got := row(t, first, "web").Holder; got != "third" {
			t.Errorf("a declared name does not beat a listed one: got holder %q", got)
		}
		h.must("web")
		h.must("db")
	})
}

func TestTheLoserGetsTheNameWhenItsHolderWithdrawsIt(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		a, b := newUpstream("web", "only-a"), newUpstream("web")
		first := h.run(h.loop("first", a))
		settle()
		second := h.run(h.loop("second", b))
		settle()
		a.set(func() { a.names = []string{"only-a"} })
		_ = first.Refresh(t.Context())
		_ = second.Refresh(t.Context())
		settle()
		h.must("web")
		if got := row(t, second, "web"); got.Holder != "" || got.State != refresh.Fresh {
			t.Errorf("got %+v, want it fresh and ours", got)
		}
	})
}

func TestAListedNameComesBackWhenTheDeclaredOneGoes(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		listed, declared := newUpstream("pub"), newUpstream("pub")
		declared.declared = true
		first := h.run(h.loop("listed", listed))
		settle()
		second := h.loop("declared", declared)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { second.Run(ctx) })
		settle()
		stop()
		running.Wait()
		h.claims.Unheld(second.Stop(), h.store.Remove)
		h.mustFail("pub", credential.ErrNotFound)
		if err := first.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.must("pub")
	})
}

func TestUnheldSparesWhatAnotherUpstreamHasClaimed(t *testing.T) {
	var claims refresh.Claims
	web, db := credential.Key{Name: "web"}, credential.Key{Name: "db"}
	claims.Claim("a", web, false)
	var removed []credential.Key
	claims.Unheld([]credential.Key{web, db}, func(keys ...credential.Key) { removed = keys })
	if !slices.Equal(removed, []credential.Key{db}) {
		t.Errorf("removed %v, want only what nobody holds", removed)
	}
	claims.Release("b", []credential.Key{web}, func(keys ...credential.Key) { removed = keys })
	if len(removed) > 0 || claims.Holder(web) != "a" {
		t.Errorf("b released %v, which a holds", removed)
	}
}

func TestAListThatShrinksDoesNotHoldUpTheLoop(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		h.log = zerolog.Nop()
		names := manyRoles(5000)
		u := newUpstream(names...)
		l := h.run(h.loop("datacenter", u))
		time.Sleep(5 * time.Minute)
		u.set(func() { u.names = []string{"role7"} })
		before := cpu(t)
		_ = l.Refresh(t.Context())
		if used := cpu(t) - before; used > 3*time.Second {
			t.Errorf("%v of CPU to forget five thousand names", used)
		}
		if got := h.store.Names(); len(got) != 1 {
			t.Errorf("%d names are left", len(got))
		}
	})
}

func TestWithdrawnNamesAreRememberedForADay(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web", "db")
		l := h.run(h.loop("datacenter", u))
		settle()
		u.set(func() { u.names = []string{"web"} })
		time.Sleep(23 * time.Hour)
		if got := len(l.Rows()); got != 2 {
			t.Errorf("%d rows, want the withdrawn one as well", got)
		}
		time.Sleep(4 * time.Hour)
		if got := len(l.Rows()); got != 1 {
			t.Errorf("%d rows after a day, want the granted one only", got)
		}
	})
}
