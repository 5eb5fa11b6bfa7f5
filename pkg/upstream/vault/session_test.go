package vault

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
)

func TestSessionLogsInOnceAndRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		s := sessionOn(t, f)
		if failed, err := asking(t, s, billing, 5*time.Hour); failed > 0 {
			t.Fatalf("%d requests failed, the last by %v", failed, err)
		}
		if got := f.count("login"); got != 1 {
			t.Errorf("got %d logins, want 1", got)
		}
		if got := f.count("renew-self"); got < 6 || got > 9 {
			t.Errorf("got %d renewals in 5 h of a token of 1 h, want 6 to 9", got)
		}
		if got := s.detail(); !strings.HasPrefix(got, "logged in until ") || !strings.HasSuffix(got, ", renewed") {
			t.Errorf("detail says %q", got)
		}
	})
}

// case 50: a login succeeds, and every use of its token is refused.
func TestSessionDoesNotStormWhereEachFreshTokenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.bound = true
		s := sessionOn(t, f)
		asking(t, s, billing, time.Minute)
		if got := f.count(""); got > 6 {
			t.Errorf("got %d requests in the first minute, want 6 at most:\n%s", got, strings.Join(f.requests, "\n"))
		}
		before := f.count("")
		asking(t, s, billing, 2*time.Hour)
		if got := f.count("") - before; got > 2*6*15 {
			t.Errorf("got %d requests in two hours", got)
		}
		if got := f.count("login"); got > 20 {
			t.Errorf("got %d logins in two hours:\n%s", got, strings.Join(f.requests, "\n"))
		}
		f.set(func() { f.bound = false })
		if _, err := asking(t, s, billing, 13*time.Minute); err != nil {
			t.Errorf("it does not recover: %v", err)
		}
	})
}

// case 44: whatever goes wrong, Vault is not asked more than it helps.
func TestSessionIsPoliteInEachFailure(t *testing.T) {
	for name, spoil := range map[string]func(f *fakeVault){
		"sealed":             func(f *fakeVault) { f.down = true },
		"login refused":      func(f *fakeVault) { f.noLogin = "invalid secret id" },
		"path forbidden":     func(f *fakeVault) { f.forbidden[billing.path] = true },
		"each token refused": func(f *fakeVault) { f.bound = true },
		"nothing allowed": func(f *fakeVault) {
			f.forbidden[billing.path], f.forbidden["auth/token/lookup-self"] = true, true
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVault()
				spoil(f)
				s := sessionOn(t, f)
				asking(t, s, billing, time.Minute)
				first := f.count("")
				asking(t, s, billing, time.Hour)
				later := f.count("") - first
				if most := 60 * 60 / 10; name != "path forbidden" && (first > 6 || later > most) {
					t.Errorf("got %d requests in the first minute and %d in the hour after it, want 6 and %d at most:\n%s",
						first, later, most, strings.Join(f.requests, "\n"))
				}
				if got := f.count("login"); got > 70 {
					t.Errorf("got %d logins in an hour", got)
				}
			})
		})
	}
}

func TestSessionRecovers(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(f *fakeVault)
		mend   func(f *fakeVault)
		within time.Duration
	}{
		{"from a seal, case 25", func(f *fakeVault) { f.down = true }, func(f *fakeVault) { f.down = false }, 80 * time.Second},
		{"from a refused login", func(f *fakeVault) { f.noLogin = "x" }, func(f *fakeVault) { f.noLogin = "" }, 7 * time.Minute},
		{"from a revoked token, case 52", func(f *fakeVault) { clear(f.tokens) }, func(*fakeVault) {}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVault()
				s := sessionOn(t, f)
				asking(t, s, billing, time.Minute)
				f.set(func() { c.spoil(f) })
				asking(t, s, billing, 10*time.Minute)
				f.set(func() { c.mend(f) })
				if _, err := asking(t, s, billing, c.within); err != nil {
					t.Errorf("after %v it still fails: %v", c.within, err)
				}
			})
		})
	}
}

// case 45: the token ends between two reads.
func TestSessionReplacesADeadTokenUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		s := sessionOn(t, f)
		asking(t, s, billing, time.Minute)
		f.set(func() { clear(f.tokens) })
		before := f.count("")
		if _, err := s.ask(t.Context(), billing); err != nil {
			t.Fatal(err)
		}
		got := f.requests[before:]
		want := []string{"GET aws/sts/billing", "GET auth/token/lookup-self", "POST auth/approle/login", "GET aws/sts/billing"}
		for i := range want {
			if len(got) != len(want) || !strings.HasSuffix(got[i], want[i]) {
				t.Fatalf("asked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	})
}

// case 33: a dead token, and many that ask at once.
func TestSessionLogsInOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		s := sessionOn(t, f)
		for range 2 {
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if _, err := s.ask(t.Context(), billing); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			time.Sleep(time.Minute)
			f.set(func() { clear(f.tokens) })
		}
		if got := f.count("login"); got != 2 {
			t.Errorf("got %d logins, want 2", got)
		}
		if got := f.count("lookup-self"); got != 1 {
			t.Errorf("got %d looks at the token, want 1", got)
		}
	})
}

// case 34: a server of the cluster does not know the new token yet.
func TestSessionWaitsForTheTokenToSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.lag = 700 * time.Millisecond
		s := sessionOn(t, f)
		if _, err := s.ask(t.Context(), billing); err != nil {
			t.Fatal(err)
		}
		if got := f.count("login"); got != 1 {
			t.Errorf("got %d logins, want 1", got)
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

// case 49: a token for a number of uses.
func TestSessionNeverLogsInTwiceWithinTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.uses = 1
		s := sessionOn(t, f)
		for range 600 {
			_, _ = s.ask(t.Context(), billing)
			time.Sleep(time.Second)
		}
		if got := f.count("login"); got < 50 || got > 61 {
			t.Errorf("got %d logins in 10 minutes, want one each 10 seconds at most, and no fewer than needed", got)
		}
	})
}

// case 75: one namespace is sealed.
func TestSessionRestsForEachNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.sealed = "team-b"
		s := sessionOn(t, f)
		other := billing
		other.namespace = "team-b"
		for range 60 {
			if _, err := s.ask(t.Context(), billing); err != nil {
				t.Fatal(err)
			}
			if _, err := s.ask(t.Context(), other); err == nil {
				t.Fatal("the sealed namespace gives something")
			}
			time.Sleep(time.Second)
		}
		if got := f.count("aws/sts/billing") - 60; got > 6 {
			t.Errorf("got %d requests for the sealed namespace in a minute, want 6 at most", got)
		}
	})
}

// A role that no policy allows must cost neither the token nor the others' peace.
func TestSessionKeepsItsTokenWhereOnePathIsForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.forbidden["aws/sts/other"] = true
		s := sessionOn(t, f)
		for range 100 {
			if _, err := s.ask(t.Context(), billing); err != nil {
				t.Fatal(err)
			}
			if _, err := s.ask(t.Context(), request{path: "aws/sts/other"}); err == nil || err.(*upstream.Error).Kind != upstream.ClassRefused {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Minute)
		}
		if got := f.count("login"); got != 1 {
			t.Errorf("got %d logins, want 1", got)
		}
	})
}

// The same for a token that may not look itself up, so that a login has to tell.
func TestSessionTriesALoginNowAndThenWhereOnePathIsForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.forbidden["aws/sts/other"], f.forbidden["auth/token/lookup-self"] = true, true
		s := sessionOn(t, f)
		for range 120 {
			if _, err := s.ask(t.Context(), billing); err != nil {
				t.Fatal(err)
			}
			_, _ = s.ask(t.Context(), request{path: "aws/sts/other"})
			time.Sleep(time.Minute)
		}
		if got := f.count("login"); got > 17 {
			t.Errorf("got %d logins in two hours, want one each 10 minutes at most in the end", got)
		}
	})
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

func TestSessionRetriesAtOnceWhenAFileOfTheLoginChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.noLogin = "invalid secret id"
		s := sessionOn(t, f)
		asking(t, s, billing, time.Hour)
		before := f.count("login")
		f.set(func() { f.noLogin = "" })
		writeFile(t, s.auth.SecretID.File, "another secret")
		if _, err := s.ask(t.Context(), billing); err != nil {
			t.Error(err)
		}
		if got := f.count("login") - before; got != 1 {
			t.Errorf("got %d logins, want 1", got)
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
	})
}
