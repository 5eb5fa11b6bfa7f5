package vault

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
)

// carriedSite is a Vault with one role of a type, and a source that logs in with a secret
// ID for a single use.
func carriedSite(t *testing.T, kind string, change func(*Options)) *site {
	t.Helper()
	o := one(mock.VaultAWSRole{Type: kind})
	o.AppRoles = []mock.VaultAppRole{{Name: "host", RoleID: "host", SecretIDs: []mock.VaultSecretID{{ID: mock.Marker + "-secret-id", Uses: 1}}}}
	return newSite(t, o, func(o *Options) {
		asHost(o)
		o.AWS.Roles["web"] = Role{Path: "creds/web", AllowIAMUser: true}
		if change != nil {
			change(o)
		}
	})
}

// next is the source of the next process.
func (s *site) next(t *testing.T) *site {
	t.Helper()
	next := *s
	next.open(t, s.source.options)
	return &next
}

func TestPromise10ASessionOutlivesARestart(t *testing.T) {
	for _, kind := range []string{mock.AssumedRole, mock.IAMUser} {
		t.Run(kind, func(t *testing.T) {
			s := carriedSite(t, kind, nil)
			if !s.source.Keeps() || s.source.Session() != nil {
				t.Error("there is a session before the first login")
			}
			s.source.HandOver(true)
			stop := s.runs(t)
			first := s.fetch(t, "web")
			stop()
			session := s.source.Session()
			if r := s.vault.Record(); r.Tokens != 2 || session == nil { // the other one is the site's
				t.Fatalf("%d tokens are left, and a session of %d bytes", r.Tokens, len(session))
			}
			next := s.next(t)
			next.source.Resume(session)
			if got := next.source.Detail(); !strings.HasPrefix(got, "logged in until ") {
				t.Errorf("got %q", got)
			}
			again := next.fetch(t, "web")
			r := s.vault.Record()
			if r.Logins["auth/approle/login"] != 1 {
				t.Errorf("there were the logins %v", r.Logins)
			}
			if same := again.AccessKeyID == first.AccessKeyID; same != (kind == mock.IAMUser) || again.SecretAccessKey.Empty() {
				t.Errorf("got the keys %s after %s", again.AccessKeyID, first.AccessKeyID)
			}
			next.source.Hurry()
			if keys := next.fetch(t, "web"); (keys.AccessKeyID == first.AccessKeyID) != (kind == mock.IAMUser) {
				t.Errorf("got the keys %s after %s", keys.AccessKeyID, first.AccessKeyID)
			}
		})
	}
}

// A token from the configuration is read there; the users that were made with it are
// renewed all the same, but for those of another token.
func TestUsersOfAConfiguredTokenOutliveARestart(t *testing.T) {
	s := carriedSite(t, mock.IAMUser, nil)
	s.source.options.Auth = Auth{Method: "token", Token: credential.SecretRef{Value: credential.NewSecret(s.token)}}
	s.open(t, s.source.options)
	first := s.fetch(t, "web")
	session := s.source.Session()
	if strings.Contains(string(session), `"value"`) {
		t.Error("the token itself is handed over")
	}
	for token, renewed := range map[string]bool{s.token: true, s.vault.IssueToken(mock.VaultGrant{}): false} {
		s.source.options.Auth.Token.Value = credential.NewSecret(token)
		next := s.next(t)
		next.source.Resume(session)
		if got := next.fetch(t, "web"); (got.AccessKeyID == first.AccessKeyID) != renewed {
			t.Errorf("renewed %v: got the keys %s after %s", renewed, got.AccessKeyID, first.AccessKeyID)
		}
	}
}

// A token from the configuration is known to the next process, which renews it, although
// nothing has to be fetched for long. Another one is not mistaken for it.
func TestPromise10WhatIsKnownOfAConfiguredTokenOutlivesARestart(t *testing.T) {
	s := carriedSite(t, mock.AssumedRole, nil)
	mine := s.vault.IssueToken(mock.VaultGrant{TTL: time.Hour})
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(mine)
	s.source.options.Auth = Auth{Method: "token", Token: credential.SecretRef{File: file}}
	s.open(t, s.source.options)
	s.fetch(t, "web")
	session := s.source.Session()
	if strings.Contains(string(session), mine) {
		t.Error("the token itself is handed over")
	}
	before := s.source.Detail()
	for _, c := range []struct{ token, want string }{{mine, before}, {s.token, "not logged in"}} {
		write(c.token)
		next := s.next(t)
		next.source.Resume(session)
		if got := next.source.Detail(); got != c.want || !strings.HasPrefix(before, "logged in until ") {
			t.Errorf("got %q after %q, want %q", got, before, c.want)
		}
		next.fetch(t, "web")
		if known := next.source.server.present(); !known.given || known.value.Reveal() != c.token || c.token == mine && !known.renewable {
			t.Errorf("the next process has another token")
		}
	}
}

func TestNothingOutlivesAProcessThatRevokes(t *testing.T) {
	s := carriedSite(t, mock.AssumedRole, func(o *Options) { o.RevokeOnStop = true })
	stop := s.runs(t)
	s.fetch(t, "web")
	if s.source.Keeps() || s.source.Session() != nil {
		t.Error("what is to be revoked is handed over")
	}
	stop()
	if r := s.vault.Record(); r.Leases != 0 || r.TokensRevoked != 1 {
		t.Errorf("%d leases are left, %d tokens were revoked", r.Leases, r.TokensRevoked)
	}
}

func TestSessionThatIsOfNoUseIsLeft(t *testing.T) {
	now := time.Now()
	user := carriedUser{Lease: "aws/creds/web/x", Token: "t", AccessKeyID: "AKIA1", SecretAccessKey: "s", Issued: now.Add(-time.Hour), Expires: now.Add(-time.Minute)}
	for name, session := range map[string]carriedSession{
		"nothing":                        {},
		"a token that has ended":         {Token: &carriedToken{Value: "hvs.x", From: now.Add(-time.Hour), Until: now.Add(-time.Minute)}},
		"a token that cannot be one":     {Token: &carriedToken{Value: "a\nb"}},
		"keys that have ended":           {Users: map[string]carriedUser{"web": user}},
		"keys of nobody's role":          {Users: map[string]carriedUser{"other": {Lease: "x", Expires: now.Add(time.Hour)}}},
		"keys of a user without a lease": {Users: map[string]carriedUser{"web": {Expires: now.Add(time.Hour)}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := carriedSite(t, mock.AssumedRole, nil)
			text, err := json.Marshal(session)
			if err != nil {
				t.Fatal(err)
			}
			s.source.Resume(text)
			if got := s.source.Detail(); got != "not logged in" {
				t.Errorf("got %q", got)
			}
			s.fetch(t, "web")
		})
	}
}

// FuzzResume: whatever is handed over, the next fetch works or says why not.
func FuzzResume(f *testing.F) {
	f.Add([]byte(`{"token":{"value":"hvs.x","from":"2026-01-01T00:00:00Z","until":"2126-01-01T00:00:00Z"},"users":{"web":{"lease":"x","expires":"2126-01-01T00:00:00Z"}}}`))
	f.Add([]byte(`{"token":null,"users":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, session []byte) {
		o := Defaults()
		o.Address = []string{"https://vault.example.com"}
		asHost(o)
		o.AWS.Roles = map[string]Role{"web": {Path: "creds/web"}}
		s, err := New("vault", o, nil, nil, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		s.Resume(session)
		_ = s.Detail()
		again := s.Session()
		s.Resume(again)
	})
}
