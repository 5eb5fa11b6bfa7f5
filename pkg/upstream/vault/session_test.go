package vault

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
