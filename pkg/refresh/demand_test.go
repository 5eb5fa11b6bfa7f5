package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/refresh"
)

func demanding(t *testing.T, f func(t *testing.T, h *host, u *upstream, l *refresh.Loop)) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		u.allowed = []string{"app"}
		l := h.run(h.loop("finance", u))
		settle()
		f(t, h, u, l)
	})
}

var app = credential.Key{Name: "app"}

var (
	alice = refresh.Asker{User: "1001", Unit: "session-1.scope"}
	bob   = refresh.Asker{User: "1002"}
)

func TestPromise2TheFirstRequestsOnDemandShareOneFetch(t *testing.T) {
	demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
		var callers sync.WaitGroup
		for range 1000 { // F08
			callers.Go(func() {
				if err := l.Want(t.Context(), app, alice); err != nil {
					t.Errorf("got %v", err)
				}
				h.must("app")
			})
		}
		callers.Wait()
		if got := u.fetched("app"); got != 1 {
			t.Errorf("%d fetches for a thousand callers", got)
		}
		if h.store.Listed(app) {
			t.Error("a key on demand is listed")
		}
	})
}

func TestPromise2TheFirstRequestOnDemandWaitsForItsOwnPatienceOnly(t *testing.T) {
	demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
		u.set(func() { u.hang = true })
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := l.Want(ctx, app, alice)
		if took := time.Since(start); took != 400*time.Millisecond || !errors.Is(err, credential.ErrUnavailable) {
			t.Errorf("got %v after %v, want unavailable after 400 ms", err, took)
		}
	})
}

func TestAKeyOnDemandThatFailsIsNotAskedForByEveryCaller(t *testing.T) {
	demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
		u.set(func() { u.failing["app"] = upstreamError{permanent: true} })
		end := time.Now().Add(10 * time.Minute)
		for time.Now().Before(end) {
			_ = l.Want(t.Context(), app, alice)
			_, _ = h.get("app")
			time.Sleep(100 * time.Millisecond)
		}
		if got := u.fetched("app"); got > 40 {
			t.Errorf("%d fetches in ten minutes", got)
		}
		time.Sleep(time.Hour)
		if rows := len(l.Rows()); rows != 1 {
			t.Errorf("%d rows an hour after the last caller left, want the configured one only", rows)
		}
	})
}

func TestAKeyOnDemandStaysInStockUntilItIsIdle(t *testing.T) {
	demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
		if err := l.Want(t.Context(), app, alice); err != nil {
			t.Fatal(err)
		}
		for range 5 * 60 {
			h.must("app")
			time.Sleep(time.Minute)
		}
		time.Sleep(2 * time.Hour)
		h.mustFail("app", credential.ErrNotFound)
		before := u.fetched("app")
		time.Sleep(5 * time.Hour)
		if got := u.fetched("app"); got != before {
			t.Error("an idle key is still fetched")
		}
	})
}

func TestOnDemandHasBounds(t *testing.T) {
	demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
		if err := l.Want(t.Context(), credential.Key{Name: "other"}, alice); !errors.Is(err, credential.ErrNotFound) {
			t.Errorf("got %v for a key that no pattern covers", err)
		}
		for i := range 1001 {
			u.allowed = append(u.allowed, fmt.Sprint("app", i))
		}
		var last error
		for i := range 1001 {
			last = l.Want(t.Context(), credential.Key{Name: fmt.Sprint("app", i)}, alice)
		}
		if !errors.Is(last, credential.ErrUnavailable) || len(l.Rows()) != 1001 {
			t.Errorf("got %v and %d rows, want the 1001st refused", last, len(l.Rows()))
		}
	})
}

func TestPromise9NamesThatAreMadeUpAreNotAllAskedFor(t *testing.T) {
	demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
		names := make([]string, 300)
		u.set(func() {
			for i := range names {
				names[i] = fmt.Sprint("app", i)
				u.failing[names[i]] = upstreamError{permanent: true}
			}
			u.allowed = append(u.allowed, names...)
		})
		for _, name := range names { // within 15 seconds
			_ = l.Want(t.Context(), credential.Key{Name: name}, alice)
			_, _ = h.get(name)
		}
		asked := 0
		for _, name := range names {
			asked += min(u.fetched(name), 1)
		}
		if asked > 100 {
			t.Errorf("the upstream was asked for %d names that it does not give", asked)
		}
		if err := l.Want(t.Context(), app, alice); !errors.Is(err, credential.ErrUnavailable) {
			t.Errorf("got %v while so many fail", err)
		}
		time.Sleep(10 * time.Minute)
		if err := l.Want(t.Context(), app, alice); err != nil {
			t.Errorf("got %v when nobody makes up names any more", err)
		}
	})
}

func TestAnUpstreamOfNothingButKeysOnDemandIsReadyAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream()
		u.declared, u.allowed = true, []string{"app"}
		if err := h.loop("trial", u).Trial(t.Context()); err != nil {
			t.Errorf("the trial says %v", err)
		}
		l := h.run(h.loop("finance", u))
		settle()
		if missing := l.Missing(); len(missing) > 0 || !l.Answered() || u.listed() != 0 {
			t.Errorf("%q is missing after %d lists", missing, u.listed())
		}
		if err := l.Want(t.Context(), app, alice); err != nil {
			t.Error(err)
		}
		h.must("app")
	})
}

func TestTrialShowsNothingUntilItsLoopBegins(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web", "db")
		l := h.loop("new", u)
		if err := l.Trial(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.mustFail("web", credential.ErrNotFound)
		l.Begin()
		h.must("web")
		h.must("db")
		h.run(l)
		settle()
		if u.fetched("web") != 1 || u.listed() != 1 {
			t.Errorf("%d fetches and %d lists, want one each", u.fetched("web"), u.listed())
		}
	})
}

func TestTrialNamesEachFailure(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web", "db", "old")
		u.failing["db"] = errDown
		err := h.loop("new", u).Trial(t.Context())
		if want := `upstream "new", credential "db": the upstream says no`; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		now := time.Now()
		u.cached = &credential.AWS{Issued: now.Add(-time.Hour), Expires: now}
		if err := h.loop("new", u).Trial(t.Context()); err == nil {
			t.Error("an expired answer passed the trial")
		}
		u.names = nil
		if err := h.loop("new", u).Trial(t.Context()); err == nil {
			t.Error("an empty list passed the trial")
		}
		u.down = errDown
		if err := h.loop("new", u).Trial(t.Context()); err == nil {
			t.Error("a failing list passed the trial")
		}
	})
}

func TestASuccessorTakesOverWithoutAGap(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web", "db")
		old := h.loop("datacenter", u)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { old.Run(ctx) })
		settle()
		successor := newUpstream("web", "db")
		successor.failing["db"] = errDown
		next := h.loop("datacenter", successor)
		_ = next.Trial(t.Context())
		stop()
		running.Wait()
		before := h.must("web")
		old.Stop()
		h.must("web")
		next.Begin()
		if h.must("web") == before {
			t.Error("still what the old upstream gave")
		}
		h.mustFail("db", credential.ErrUnavailable)
		h.run(next)
		synctest.Wait()
	})
}
