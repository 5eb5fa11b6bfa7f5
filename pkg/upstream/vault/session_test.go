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
				if most := 60 * 60 / 10; first > 6 || later > most {
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

// case 25 and 29: a seal, or a cluster without a leader, is no reason to log in.
func TestSessionKeepsItsTokenThroughAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		s := sessionOn(t, f)
		asking(t, s, billing, 35*time.Minute)
		f.set(func() { f.down = true })
		asking(t, s, billing, 10*time.Minute) // the token is to be renewed meanwhile
		f.set(func() { f.down = false })
		if _, err := asking(t, s, billing, 2*time.Minute); err != nil {
			t.Error(err)
		}
		if got := f.count("login"); got != 1 {
			t.Errorf("got %d logins, want 1", got)
		}
	})
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

func TestSessionRetriesAtOnceWhenAFileOfTheLoginChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.noLogin = "invalid secret id"
		s := sessionOn(t, f)
		asking(t, s, billing, time.Hour)
		_, _ = s.ask(t.Context(), billing) // after which there is a pause of minutes
		time.Sleep(loginFloor)
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

func TestSessionLooksAtItsTokenNowAndThenWhereOnePathIsForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.forbidden[billing.path] = true
		s := sessionOn(t, f)
		for range 600 {
			_, _ = s.ask(t.Context(), billing)
			time.Sleep(time.Second)
		}
		if got := f.count("lookup-self"); got < 19 || got > 21 {
			t.Errorf("got %d looks in ten minutes, want one each 30 seconds", got)
		}
	})
}

// A renewal makes another token of ours, which is the same for Vault.
func TestSessionTakesARenewalForNoLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.forbidden["aws/sts/other"] = true
		s := sessionOn(t, f)
		asking(t, s, billing, time.Second)
		before := s.present()
		s.renew(t.Context(), before)
		if s.present() == before {
			t.Fatal("nothing was renewed")
		}
		refusal := f.fault(403, upstream.ClassRefused, "permission denied")
		if other, err := s.afterRefusal(t.Context(), before, request{path: "aws/sts/other"}, refusal); other != nil || err.Error() != refusal.Error() {
			t.Errorf("got %v, %v, want the refusal", other, err)
		}
	})
}

func TestSessionHurriesWhenSomebodyMendedTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		s := sessionOn(t, f)
		asking(t, s, billing, time.Second)
		f.set(func() { f.down = true })
		asking(t, s, billing, 10*time.Minute)
		_, _ = s.ask(t.Context(), billing) // after which there is a pause
		f.set(func() { f.down = false })
		if _, err := s.ask(t.Context(), billing); err == nil || !strings.Contains(err.Error(), ": no request before ") {
			t.Errorf("in a pause: got %v", err)
		}
		s.reset()
		if _, err := s.ask(t.Context(), billing); err != nil {
			t.Errorf("after the pause was ended: %v", err)
		}
	})
}
