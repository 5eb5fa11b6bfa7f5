package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/refresh"
)

func TestLoopFetchesEverythingItsUpstreamLists(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web", "db")
		l := h.run(h.loop("datacenter", u))
		settle()
		for _, name := range []string{"web", "db"} {
			h.must(name)
			if got := row(t, l, name).State; got != refresh.Fresh {
				t.Errorf("%s: got state %q, want fresh", name, got)
			}
		}
		if missing := l.Missing(); len(missing) > 0 {
			t.Errorf("ready still waits for %q", missing)
		}
	})
}

func TestPromise1MissingNamesWhatReadyWaitsFor(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web", "db")
		u.down = errDown
		l := h.run(h.loop("datacenter", u))
		other := newUpstream("other")
		other.down = errDown
		optional := h.run(h.loop("optional", other, func(o *refresh.Options) { o.Required = false }))
		settle()
		if got := fmt.Sprint(l.Missing()); got != `[the list of upstream "datacenter"]` {
			t.Errorf("got %s before the first list", got)
		}
		u.set(func() { u.down = nil; u.failing["db"] = errDown })
		time.Sleep(10 * time.Second)
		if got := fmt.Sprint(l.Missing()); got != "[db]" {
			t.Errorf("got %s while db fails", got)
		}
		u.set(func() { u.failing["db"] = nil })
		time.Sleep(2 * time.Minute)
		if got := l.Missing(); len(got) > 0 {
			t.Errorf("got %q after everything was fetched", got)
		}
		u.set(func() { u.names = []string{"web", "db", "late"}; u.failing["late"] = errDown })
		time.Sleep(2 * time.Hour)
		if got := l.Missing(); len(got) > 0 {
			t.Errorf("got %q: a role that came later must not take ready back", got)
		}
		if got := optional.Missing(); len(got) > 0 {
			t.Errorf("got %q for an upstream that is not required", got)
		}
	})
}

func TestReadyWaitsForAnUpstreamThatListsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream()
		l := h.run(h.loop("datacenter", u))
		settle()
		if len(l.Missing()) == 0 || !l.Answered() {
			t.Errorf("got missing %q and answered %v, want it missing although it answered", l.Missing(), l.Answered())
		}
	})
}

func TestPromise3EnoughLifeIsLeftAtAllTimes(t *testing.T) {
	for _, c := range []struct{ lifetime, least time.Duration }{
		{12 * time.Hour, 5*time.Hour + 20*time.Minute}, // F02
		{time.Hour, 25 * time.Minute},
		{15 * time.Minute, 9 * time.Minute}, // F03
	} {
		t.Run(c.lifetime.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, h *host) {
				u := newUpstream("web")
				u.lifetime = c.lifetime
				h.run(h.loop("datacenter", u))
				settle()
				for range 3 * 24 * 60 {
					if left := time.Until(h.must("web").Expires); left < c.least {
						t.Fatalf("%v of life left, want at least %v", left, c.least)
					}
					time.Sleep(time.Minute)
				}
				if got, most := u.fetched("web"), int(3*24*time.Hour/(c.lifetime/4)); got > most {
					t.Errorf("%d fetches in three days, want at most %d", got, most)
				}
			})
		})
	}
}

func TestPromise4LoopKeepsOldCredentialsThroughAnHourOfOutage(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		u.lifetime = 2 * time.Hour
		l := h.run(h.loop("datacenter", u))
		settle()
		time.Sleep(12 * time.Hour)
		first := h.must("web")
		left := time.Until(first.Expires)
		u.set(func() { u.down = errDown })
		for time.Until(first.Expires) > 0 {
			if got := h.must("web"); got != first {
				t.Fatal("an outage replaced the stored credential")
			}
			time.Sleep(time.Second)
		}
		if left < time.Hour {
			t.Errorf("only %v of outage were bridged", left)
		}
		h.mustFail("web", credential.ErrExpired)
		if got := row(t, l, "web").State; got != refresh.Expired {
			t.Errorf("got state %q, want expired", got)
		}
		u.set(func() { u.down = nil })
		time.Sleep(time.Minute)
		h.must("web") // F05
	})
}

func TestLoopServesThroughAShortOutage(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) { // F04
		u := newUpstream("web")
		h.run(h.loop("datacenter", u))
		settle()
		for u.fetched("web") < 3 {
			time.Sleep(time.Second)
		}
		u.set(func() { u.down = errDown })
		before := h.must("web")
		end := time.Now().Add(50 * time.Minute)
		for time.Now().Before(end) {
			if h.must("web") != before {
				t.Fatal("the document changed")
			}
			time.Sleep(time.Minute)
		}
		u.set(func() { u.down = nil })
		time.Sleep(61 * time.Second)
		if h.must("web") == before {
			t.Error("not refreshed a minute after the outage")
		}
	})
}

func TestPromise2AHungUpstreamDoesNotChangeWhatIsServed(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		l := h.run(h.loop("datacenter", u))
		settle()
		u.set(func() { u.hang = true })
		before := h.must("web")
		for time.Until(before.Expires) > time.Second {
			if h.must("web") != before {
				t.Fatal("the credential changed")
			}
			time.Sleep(time.Second)
		}
		if !l.Alive() {
			t.Error("a hung upstream made the loop look dead")
		}
	})
}

func TestAnswersThatAreNoProgressChangeNothing(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		l := h.run(h.loop("datacenter", u))
		settle()
		first := h.must("web")
		now := time.Now()
		for _, ends := range []time.Duration{-time.Minute, time.Minute, time.Until(first.Expires)} {
			u.set(func() { u.cached = &credential.AWS{AccessKeyID: "other", Issued: now, Expires: now.Add(ends)} })
			_ = l.Refresh(t.Context(), "web")
			if h.must("web") != first {
				t.Errorf("a credential that ends in %v replaced one that ends in %v", ends, time.Until(first.Expires))
			}
		}
		if r := row(t, l, "web"); r.Failures != 0 || r.Err != nil {
			t.Errorf("nothing new counts as a failure: %+v", r)
		}
	})
}

// An upstreamOfUsers knows when what it gave before is dead.
type upstreamOfUsers struct {
	*upstream
	dead bool
}

func (u *upstreamOfUsers) Supersedes(credential.Key) bool { return u.dead }

func TestAnswerThatEndsEarlierCountsWhereTheStockIsDead(t *testing.T) {
	for _, dead := range []bool{false, true} {
		bubble(t, func(t *testing.T, h *host) {
			u := &upstreamOfUsers{upstream: newUpstream("web"), dead: dead}
			l := h.run(h.loop("datacenter", u))
			settle()
			first := h.must("web")
			u.set(func() { u.lifetime = 40 * time.Minute })
			if err := l.Refresh(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
			if replaced := h.must("web") != first; replaced != dead {
				t.Errorf("dead %v: replaced %v", dead, replaced)
			}
		})
	}
}

func TestAnUpstreamThatCachesIsNotAskedInALoop(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		now := time.Now()
		u.cached = &credential.AWS{Issued: now.Add(-50 * time.Minute), Expires: now.Add(10 * time.Minute)}
		h.run(h.loop("datacenter", u))
		time.Sleep(9 * time.Minute)
		if got := u.fetched("web"); got > 60 {
			t.Errorf("%d fetches in nine minutes for a credential that stays the same", got)
		}
		u.set(func() { u.cached = nil })
		time.Sleep(61 * time.Second)
		if time.Until(h.must("web").Expires) < 50*time.Minute {
			t.Error("a new credential was not noticed within a minute")
		}
	})
}

func TestARefusalShowsInTheStoreAndKeepsTheStock(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web", "db")
		u.failing["db"] = upstreamError{permanent: true, refused: true}
		l := h.run(h.loop("datacenter", u))
		settle()
		h.mustFail("db", credential.ErrRefused)
		u.set(func() { u.failing["web"] = u.failing["db"] })
		if err := l.Refresh(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), `credential "web": the upstream says no`) {
			t.Errorf("got error %v, want one that names the credential and the reason", err)
		}
		h.must("web")
	})
}

func TestAChangedFileTriggersARetryAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		u.failing["web"] = upstreamError{after: time.Hour}
		h.run(h.loop("vault", u))
		time.Sleep(time.Minute)
		u.set(func() { u.failing["web"] = nil; u.changed = true })
		time.Sleep(2 * time.Second)
		h.must("web")
	})
}

// panicking is an upstream with a bug.
type panicking struct{ *upstream }

func (panicking) Fetch(context.Context, credential.Key) (credential.Credential, error) {
	panic("a bug")
}

func TestABugInAnUpstreamIsAnErrorOfThatUpstream(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		l := h.run(h.loop("datacenter", panicking{newUpstream("web")}))
		settle()
		if r := row(t, l, "web"); r.Err == nil || r.Failures == 0 {
			t.Errorf("got %+v, want a failure", r)
		}
	})
}

func TestSplayDelaysTheFirstQuestion(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		h.run(h.loop("datacenter", u, func(o *refresh.Options) { o.Splay = 10 * time.Minute }))
		settle()
		if u.listed() != 0 {
			t.Fatal("asked at once")
		}
		time.Sleep(10 * time.Minute)
		h.must("web")
	})
}

func TestRefreshJoinsAndReportsEachFailure(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web", "db")
		l := h.run(h.loop("datacenter", u))
		settle()
		u.set(func() { u.down = errDown })
		err := l.Refresh(t.Context())
		for _, want := range []string{"list of credentials", `credential "web"`, `credential "db"`} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got error %v, want one that names %s", err, want)
			}
		}
		u.set(func() { u.down = nil; u.hang = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Refresh(ctx, "web"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want the deadline", err)
		}
	})
}

func TestRefreshDoesNotWaitForALoopThatWasReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		l := h.loop("datacenter", u)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { l.Run(ctx) })
		settle()
		u.set(func() { u.hang = true })
		refreshed := make(chan error, 2)
		go func() { refreshed <- l.Refresh(t.Context(), "web") }()
		settle()
		stop()
		running.Wait()
		l.Stop()
		synctest.Wait()
		go func() { refreshed <- l.Refresh(t.Context()) }()
		synctest.Wait()
		for range 2 {
			select {
			case err := <-refreshed:
				if err == nil || !strings.Contains(err.Error(), "replaced by a reload") {
					t.Errorf("got %v", err)
				}
			default:
				t.Fatal("still waiting")
			}
		}
	})
}

func TestAFileThatChangesDuringAnAttemptIsAReasonToTryAgain(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		u.failing["web"] = upstreamError{permanent: true}
		l := h.run(h.loop("vault", u))
		time.Sleep(time.Hour) // the back-off is minutes by now
		u.set(func() { u.hang = true })
		go func() { _ = l.Refresh(t.Context(), "web") }()
		time.Sleep(10 * time.Second)
		u.set(func() { u.changed = true })
		time.Sleep(30 * time.Second)
		u.set(func() { u.hang = false; clear(u.failing) })
		time.Sleep(25 * time.Second) // the attempt has ended by its time limit
		h.must("web")
	})
}
