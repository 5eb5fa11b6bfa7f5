package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
)

func TestSourceDeclaresWhatIsConfigured(t *testing.T) {
	s := newSite(t, mock.VaultOptions{}, func(o *Options) {
		o.AWS.Roles = map[string]Role{"web": {}, "db": {Path: "static-creds/db"}}
		o.KV.Keys = map[string]KVKeys{"legacy": {Path: "apps/legacy"}}
		o.IdentityTokens = map[string]IdentityToken{"ci": {}}
	})
	want := []credential.Key{{Name: "ci"}, {Name: "db"}, {Name: "legacy"}, {Name: "web"}}
	if got := s.source.Declared(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, err := s.source.List(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("the list is %v, %v", got, err)
	}
	for _, key := range []credential.Key{{Name: "other"}, {Name: "web", Variant: "x"}} {
		if c, err := s.source.Fetch(t.Context(), key); c != nil || !errors.Is(err, credential.ErrNotFound) {
			t.Errorf("%v: got error %v", key, err)
		}
	}
	if n := len(s.vault.Record().Latest); n != 0 {
		t.Errorf("Vault was asked %d times", n)
	}
}

// runs runs a source until stop is called, which returns when Run has.
func (s *site) runs(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.source.Run(ctx)
	}()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

func asHost(o *Options) {
	o.Auth = Auth{
		Method: "approle", RoleID: credential.SecretRef{Value: credential.NewSecret("host")},
		SecretID: credential.SecretRef{Value: credential.NewSecret(mock.Marker + "-secret-id")},
	}
}

// Case 57: what is given back at the end, and what is not.
func TestEndOfASourceGivesBackWhatItShall(t *testing.T) {
	for _, test := range []struct {
		name                           string
		kind                           string
		revoke                         bool
		token                          bool // somebody else's
		leasesLeft, ended, tokensEnded int
	}{
		{"sessions end with the token of ours", mock.AssumedRole, false, false, 0, 0, 1},
		{"a user is left, and the token with it", mock.IAMUser, false, false, 1, 0, 0},
		{"all of it, when asked to", mock.IAMUser, true, false, 0, 1, 1},
		{"the sessions alone, when the token is somebody else's", mock.AssumedRole, true, true, 0, 1, 0},
		{"nothing, when the token is somebody else's", mock.AssumedRole, false, true, 1, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := one(mock.VaultAWSRole{Type: test.kind})
			o.AppRoles = []mock.VaultAppRole{{Name: "host", RoleID: "host", SecretIDs: []mock.VaultSecretID{{ID: mock.Marker + "-secret-id"}}}}
			s := newSite(t, o, func(o *Options) {
				o.AWS.Roles["web"] = Role{Path: "creds/web", AllowIAMUser: true}
				o.RevokeOnStop = test.revoke
				if !test.token {
					asHost(o)
				}
			})
			stop := s.runs(t)
			s.fetch(t, "web")
			begin := time.Now()
			stop()
			if took := time.Since(begin); took > givingBack {
				t.Errorf("it took %v", took)
			}
			if r := s.vault.Record(); r.Leases != test.leasesLeft || r.LeasesRevoked != test.ended || r.TokensRevoked != test.tokensEnded {
				t.Errorf("%d leases are left, %d and %d tokens were revoked", r.Leases, r.LeasesRevoked, r.TokensRevoked)
			}
		})
	}
}

// A server that hangs does not hold up the end, and so no restart.
func TestPromise10AVaultThatHangsDoesNotHoldUpARestart(t *testing.T) {
	for revoke, most := range map[bool]time.Duration{false: 250 * time.Millisecond, true: 2 * time.Second} {
		o := one(mock.VaultAWSRole{})
		o.AppRoles = []mock.VaultAppRole{{Name: "host", RoleID: "host", SecretIDs: []mock.VaultSecretID{{ID: mock.Marker + "-secret-id"}}}}
		s := newSite(t, o, func(o *Options) {
			asHost(o)
			o.RevokeOnStop = revoke
		})
		stop := s.runs(t)
		for range 20 {
			s.fetch(t, "web")
		}
		s.vault.SetFaults(mock.Fault{Kind: mock.Hang})
		begin := time.Now()
		stop()
		if took := time.Since(begin); took > most+150*time.Millisecond {
			t.Errorf("revoke %v: it took %v", revoke, took)
		}
	}
}

func TestLeasesAreForgottenWhenTheyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases(nil, quiet)
		l.keep("a", lease{ends: time.Now().Add(time.Minute), user: true})
		l.keep("", lease{ends: time.Now().Add(time.Hour)})
		if !l.users() {
			t.Error("the user is not known")
		}
		time.Sleep(2 * time.Minute)
		if l.users() {
			t.Error("a user is known whose lease has ended")
		}
		for i := range maxLeases + 5 {
			l.keep(string(rune('b'+i)), lease{ends: time.Now().Add(time.Hour)})
		}
		if n := len(l.take()); n != maxLeases {
			t.Errorf("%d leases are kept", n)
		}
	})
}

func TestSourceDependsOnItsFilesAndSaysHowItIs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	s := newSite(t, one(mock.VaultAWSRole{}), func(o *Options) { o.Auth.Token = credential.SecretRef{File: file} })
	if err := s.source.Check(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got error %v, want one about %s", err, file)
	}
	if err := os.WriteFile(file, []byte(s.token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !s.source.Changed() || s.source.Changed() {
		t.Error("a new file is not noticed once")
	}
	if err := s.source.Check(); err != nil || !slices.Equal(s.source.Files(), []string{file}) {
		t.Errorf("got error %v, files %v", err, s.source.Files())
	}
	if got := s.source.Detail(); got != "not logged in" {
		t.Errorf("got %q", got)
	}
	s.fetch(t, "web")
	if got := s.source.Detail(); !strings.HasPrefix(got, "logged in until ") {
		t.Errorf("got %q", got)
	}
	s.vault.SetFaults(mock.Fault{Kind: mock.Skew, Time: time.Hour})
	s.fetch(t, "web")
	if got := s.source.Skew(); got < 59*time.Minute || got > 61*time.Minute {
		t.Errorf("the clocks differ by %v", got)
	}
}

// case 22: the end is by the clock of this host, which the SDKs go by; that the other one
// is wrong is known.
func TestEndOfKeysIsByTheClockOfThisHost(t *testing.T) {
	for _, skew := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		s := newSite(t, one(mock.VaultAWSRole{}), nil)
		s.vault.SetFaults(mock.Fault{Kind: mock.Skew, Time: skew})
		lives(t, s.fetch(t, "web"), time.Hour)
		if got := s.source.Skew(); (got - skew).Abs() > 3*time.Second {
			t.Errorf("the clocks differ by %v, want %v", got, skew)
		}
	}
}
