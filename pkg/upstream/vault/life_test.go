package vault

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/testkit"
)

func TestSessionTokenLife(t *testing.T) {
	for _, c := range []struct {
		name           string
		set            func(f *fakeVault)
		hours          int
		logins, renews [2]int // at least and at most
	}{
		{"renewed for ever", func(*fakeVault) {}, 24, [2]int{1, 1}, [2]int{30, 42}},
		{"a greatest age, case 46 and 47", func(f *fakeVault) { f.maxAge = 4 * time.Hour }, 24, [2]int{5, 8}, [2]int{24, 48}},
		{"batch, case 48", func(f *fakeVault) { f.batch = true }, 24, [2]int{28, 32}, [2]int{0, 0}},
		{"renewal forbidden, case 51", func(f *fakeVault) { f.renewing = 403 }, 24, [2]int{24, 28}, [2]int{24, 28}},
		{"no end", func(f *fakeVault) { f.ttl, f.endless = 1000*time.Hour, true }, 24, [2]int{1, 1}, [2]int{0, 0}},
		{"renewals fail", func(f *fakeVault) { f.renewing = 500 }, 2, [2]int{2, 3}, [2]int{20, 80}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVault()
				c.set(f)
				s := sessionOn(t, f)
				if failed, err := asking(t, s, billing, time.Duration(c.hours)*time.Hour); failed > 0 {
					t.Errorf("%d requests failed, the last by %v", failed, err)
				}
				if got := f.count("login"); got < c.logins[0] || got > c.logins[1] {
					t.Errorf("got %d logins in %d hours, want %v", got, c.hours, c.logins)
				}
				if got := f.count("renew-self"); got < c.renews[0] || got > c.renews[1] {
					t.Errorf("got %d renewals in %d hours, want %v", got, c.hours, c.renews)
				}
			})
		})
	}
}

// case 57
func TestSessionGivesItsTokenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		s := sessionOn(t, f)
		asking(t, s, billing, time.Second)
		s.close(t.Context())
		if f.count("revoke-self") != 1 || len(f.tokens) != 0 {
			t.Errorf("the token is still there: %v", f.requests)
		}
		f.batch = true
		time.Sleep(time.Minute)
		asking(t, s, billing, time.Second)
		s.close(t.Context())
		if f.count("revoke-self") != 1 {
			t.Error("a batch token, which nobody can revoke, was to be revoked")
		}
	})
}

// A token that somebody else replaces is looked at once, and again when it changed.
func TestSessionLeavesAGivenTokenAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.batch, f.ttl = true, 1000*time.Hour
		f.tokens["hvb.given"], f.tokens["hvb.next"] = time.Now().Add(f.ttl), time.Now().Add(f.ttl)
		a := &Auth{Method: "token", Token: secretFile(t, "hvb.given")}
		s := started(t, f, a, &tokenMethod{auth: a, log: zerolog.New(t.Output())})
		asking(t, s, billing, 999*time.Hour)
		if got := f.count("-self"); got != 1 {
			t.Errorf("the token was looked at %d times, want once", got)
		}
		writeFile(t, a.Token.File, "hvb.next")
		asking(t, s, billing, time.Minute)
		if got := f.count("-self"); got != 2 || f.used["hvb.next"] == 0 {
			t.Errorf("after it was replaced it was looked at %d times, want twice, and used %v", got, f.used)
		}
	})
}

func TestSessionSaysThatRenewalsWorkAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, said := newFakeVault(), &testkit.Log{}
		s := sessionOn(t, f)
		s.log = zerolog.New(said)
		asking(t, s, billing, 30*time.Minute)
		f.set(func() { f.renewing = 500 })
		asking(t, s, billing, 20*time.Minute)
		f.set(func() { f.renewing = 0 })
		asking(t, s, billing, 4*time.Hour)
		if failed, again := strings.Count(said.String(), "could not be renewed"), strings.Count(said.String(), "renewed again"); failed < 1 || failed > 7 || again != 1 {
			t.Errorf("%d lines tell of the failure and %d of its end, want 1 to 7, and 1:\n%s", failed, again, said.String())
		}
	})
}

// case 35: a cluster whose standbys answer reads says how far they must have got.
func TestSessionAsksForNoStateBeforeItsLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.index, f.behind = "v1:abc", 700*time.Millisecond
		s := sessionOn(t, f)
		for range 2 {
			if _, err := s.ask(t.Context(), billing); err != nil {
				t.Fatal(err)
			}
		}
		if got := f.indexes; len(got) != 3 || got[0] != "v1:abc" || got[1] != "v1:abc" || got[2] != "" {
			t.Errorf("the requests had the indexes %q", got)
		}
	})
}

func TestSessionDetail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.noLogin = "CONFIDENTIAL"
		s := sessionOn(t, f)
		if got := s.detail(); got != "not logged in" {
			t.Errorf("got %q", got)
		}
		_, _ = s.ask(t.Context(), billing)
		next := time.Now().Add(loginFloor)
		if got, want := s.detail(), "not logged in; no login before "+clock(next, time.Now())+": CONFIDENTIAL"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		f.set(func() { f.noLogin = "" })
		time.Sleep(loginFloor)
		_, _ = s.ask(t.Context(), billing)
		if got, want := s.detail(), "logged in until "+clock(time.Now().Add(time.Hour), time.Now()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		f.set(func() { f.down = true })
		time.Sleep(2 * time.Hour)
		if got := s.detail(); got != "not logged in" {
			t.Errorf("after its end: got %q", got)
		}
	})
}
