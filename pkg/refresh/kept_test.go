package refresh_test

import (
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/refresh"
)

// left is what a loop with these roles leaves to its successor.
func left(t *testing.T, u *upstream, after time.Duration) []refresh.Kept {
	t.Helper()
	h := newHost(t)
	l := h.run(h.loop("dc", u))
	time.Sleep(after)
	return l.Stock(h.store.Peek)
}

func TestPromise10ASuccessorServesWhatItsPredecessorHadWhileTheUpstreamIsDown(t *testing.T) {
	for _, declared := range []bool{false, true} {
		bubble(t, func(t *testing.T, _ *host) {
			u := newUpstream("web", "db")
			u.declared = declared
			kept := left(t, u, 10*time.Minute)
			u.set(func() { u.down = errDown })
			before := u.fetched("web")

			next := newHost(t)
			l := next.loop("dc", u)
			l.Restore(kept)
			l.Begin()
			if missing := l.Missing(); len(missing) > 0 {
				t.Errorf("not ready: %v", missing)
			}
			first := next.must("web")
			next.run(l)
			settle()
			if next.must("web") != first || first.AccessKeyID != "web" {
				t.Error("another credential is served than the predecessor's")
			}
			if u.fetched("web") != before {
				t.Error("what is not due was asked for again")
			}
			u.set(func() { u.down = nil })
			time.Sleep(time.Hour)
			if next.must("web") == first {
				t.Error("what was handed over was never refreshed")
			}
		})
	}
}

func TestWhatWasGrantedAndNeverFetchedIsStillMissingAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, next *host) {
		u := newUpstream("web", "db")
		u.failing["db"] = errDown
		kept := left(t, u, time.Minute)
		l := next.loop("dc", u)
		l.Restore(kept)
		l.Begin()
		if missing := l.Missing(); len(missing) != 1 || missing[0] != "db" {
			t.Errorf("missing are %v, want db", missing)
		}
	})
}

func TestWhatIsHandedOverMustStillBeOfUse(t *testing.T) {
	bubble(t, func(t *testing.T, next *host) {
		now := time.Now()
		u := newUpstream("web")
		u.declared = true
		u.down = errDown
		l := next.loop("dc", u)
		l.Restore([]refresh.Kept{
			{Key: credential.Key{Name: "web"}, Credential: &credential.AWS{Issued: now.Add(-time.Hour), Expires: now}, Fetched: now.Add(-time.Hour)},
			{Key: credential.Key{Name: "gone"}, Credential: &credential.AWS{Issued: now, Expires: now.Add(time.Hour)}, Fetched: now},
			{Key: credential.Key{Name: "app"}, Credential: &credential.AWS{Issued: now, Expires: now.Add(time.Hour)}, Fetched: now, OnDemand: true},
		})
		next.run(l)
		settle()
		next.mustFail("web", credential.ErrUnavailable) // had expired
		next.mustFail("gone", credential.ErrNotFound)   // is not declared any more
		next.mustFail("app", credential.ErrNotFound)    // may not be asked for on demand any more
	})
}

func TestWhatIsAskedForOnDemandIsHandedOver(t *testing.T) {
	for name, age := range map[string]time.Duration{"fresh": 0, "due": 50 * time.Minute} {
		bubble(t, func(t *testing.T, next *host) {
			issued := time.Now().Add(-age)
			u := newUpstream("web")
			u.allowed = []string{"app"}
			u.down = errDown
			l := next.loop("dc", u)
			l.Restore([]refresh.Kept{{Key: credential.Key{Name: "app"}, Credential: &credential.AWS{AccessKeyID: "app", Issued: issued, Expires: issued.Add(time.Hour)}, Fetched: issued, OnDemand: true}})
			next.run(l)
			settle()
			if next.must("app").AccessKeyID != "app" {
				t.Errorf("%s: another credential is served", name)
			}
			if next.store.Listed(credential.Key{Name: "app"}) {
				t.Errorf("%s: a key on demand is listed after the restart", name)
			}
		})
	}
}

func TestWhatIsHandedOverIsServedAlsoIfTheFirstQuestionWaits(t *testing.T) {
	bubble(t, func(t *testing.T, next *host) {
		now := time.Now()
		u := newUpstream("web")
		u.declared = true
		u.down = errDown
		l := next.loop("dc", u, func(o *refresh.Options) { o.Splay = 24 * time.Hour })
		l.Restore([]refresh.Kept{{Key: credential.Key{Name: "web"}, Credential: &credential.AWS{Issued: now, Expires: now.Add(time.Hour)}, Fetched: now}})
		next.run(l)
		settle()
		next.must("web")
	})
}

// TestAFileThatWasReplacedWhileNobodyLookedIsReadAfterTheRestart: what was kept is
// served until then.
func TestAFileThatWasReplacedWhileNobodyLookedIsReadAfterTheRestart(t *testing.T) {
	bubble(t, func(t *testing.T, next *host) {
		u := &keyFile{upstream: newUpstream("key"), content: "second"}
		u.declared = true
		l := next.loop("file", u)
		l.Restore([]refresh.Kept{{Key: credential.Key{Name: "key"}, Credential: &credential.AWS{AccessKeyID: "first", Issued: time.Now()}, Fetched: time.Now()}})
		l.Begin()
		if got := next.must("key").AccessKeyID; got != "first" {
			t.Errorf("at the start there is %q in stock", got)
		}
		next.run(l)
		settle()
		if got := next.must("key").AccessKeyID; got != "second" {
			t.Errorf("after the start there is %q in stock", got)
		}
	})
}
