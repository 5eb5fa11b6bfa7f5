package vault

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
)

// wrapped is a gate whose file of the secret ID holds wrapping tokens.
func wrapped(t *testing.T, remove bool) *gate {
	t.Helper()
	a := byAppRole(t)
	a.SecretIDWrapped, a.Role, a.RemoveSecretID = true, "web", remove
	return newGate(t, setting{auth: a, vault: mock.VaultOptions{AppRoles: []mock.VaultAppRole{{Name: "web", RoleID: roleID}, {Name: "other", RoleID: "other"}}}})
}

// wrap has a secret ID issued for a role, and puts its wrapping token into the file.
func (g *gate) wrap(t *testing.T, role string) (token string) {
	t.Helper()
	token, ok := g.vault.WrapSecretID(role, mock.VaultSecretID{}, time.Minute)
	if !ok {
		t.Fatal("no such role")
	}
	writeFile(t, g.auth.SecretID.File, token)
	return token
}

// loggedOut makes a session need another login, which may be at once.
func (g *gate) loggedOut() {
	g.vault.RevokeTokens()
	g.again()
}

// case 60
func TestAWrappedSecretIDIsUnwrappedOnce(t *testing.T) {
	g := wrapped(t, false)
	g.wrap(t, "web")
	for range 2 {
		if err := g.keys(t); err != nil {
			t.Fatal(err)
		}
		g.loggedOut()
	}
	if got := g.vault.Record().Unwraps; got != 1 {
		t.Errorf("unwrapped %d times, want once for two logins", got)
	}
}

// case 61
func TestAnUnwrappedSecretIDOutlivesALoginThatFails(t *testing.T) {
	g := wrapped(t, false)
	g.wrap(t, "web")
	g.vault.SetFaults(mock.Fault{Kind: mock.Status, Status: 500, On: mock.Login})
	if g.keys(t) == nil {
		t.Fatal("the login did not fail")
	}
	g.vault.SetFaults()
	g.again()
	if err := g.keys(t); err != nil {
		t.Error(err)
	}
}

// case 60
func TestAWrappingTokenThatSomebodyTouchedIsAnAlert(t *testing.T) {
	for name, c := range map[string]struct {
		touch func(g *gate)
		want  string
	}{
		"of another role": {func(g *gate) { g.wrap(t, "other") },
			"SECURITY: the wrapping token in FILE was not made by auth/approle/role/web/secret-id, so it was not opened: somebody may have exchanged it. Find out who wrote the file, and issue a new one"},
		"already used": {func(g *gate) {
			token := credential.NewSecret(g.wrap(t, "web"))
			if _, err := g.client.send(t.Context(), token, request{method: "POST", path: "sys/wrapping/unwrap"}); err != nil {
				t.Fatal(err)
			}
		}, "SECURITY: the wrapping token in FILE is not valid any more: somebody has used it before, it came too late, or Purser was started again with it. If it was not Purser, the secret ID is in other hands: have it revoked. Issue a new one in any case"},
	} {
		t.Run(name, func(t *testing.T) {
			g := wrapped(t, false)
			c.touch(g)
			before := g.vault.Record().Unwraps
			for range 2 {
				if _, got := says(t, g.keys(t)); got != strings.ReplaceAll(c.want, "FILE", g.auth.SecretID.File) {
					t.Errorf("got  %q\nwant %q", got, c.want)
				}
				g.again()
			}
			if g.vault.Record().Unwraps != before {
				t.Error("it was opened")
			}
			if n := strings.Count(g.said.String(), `"level":"error"`); n != 1 {
				t.Errorf("there are %d alerts, want 1:\n%s", n, g.said.String())
			}
			g.wrap(t, "web")
			if err := g.keys(t); err != nil {
				t.Errorf("with another one: %v", err)
			}
		})
	}
}

// case 59
func TestTheFileOfTheSecretIDIsRemovedIfAsked(t *testing.T) {
	g := wrapped(t, true)
	g.wrap(t, "web")
	if err := g.keys(t); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(g.auth.SecretID.File); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file is still there")
	}
	g.loggedOut()
	if err := g.keys(t); err != nil {
		t.Errorf("the next login, with the file gone: %v", err)
	}
	_, got := says(t, newGate(t, setting{auth: *g.auth}).keys(t))
	if want := fmt.Sprintf("auth.secret_id: open %s: no such file or directory; remove_secret_id has it removed after a login, so each start needs a new one", g.auth.SecretID.File); got != want {
		t.Errorf("after a restart: got  %q\nwant %q", got, want)
	}
	g.wrap(t, "web")
	g.loggedOut()
	if err := g.keys(t); err != nil {
		t.Errorf("with a new file: %v", err)
	}
	if got := g.vault.Record().Unwraps; got != 2 {
		t.Errorf("unwrapped %d times, want 2", got)
	}
}

// case 55
func TestATokenFileIsFollowed(t *testing.T) {
	a, b := mock.VaultToken{ID: "hvs." + mock.Marker + "a"}, mock.VaultToken{ID: "hvs." + mock.Marker + "b"}
	p := newGate(t, setting{vault: mock.VaultOptions{Tokens: []mock.VaultToken{a, b}}, auth: Auth{Method: "token", Token: secretFile(t, a.ID)}})
	if err := p.keys(t); err != nil {
		t.Fatal(err)
	}
	writeFile(t, p.auth.Token.File, "")
	p.again()
	if err := p.keys(t); err != nil {
		t.Errorf("with the file emptied, the last token is not used: %v", err)
	}
	if !strings.Contains(p.said.String(), "the file is empty") {
		t.Errorf("nothing tells of the empty file: %s", p.said.String())
	}
	writeFile(t, p.auth.Token.File, b.ID)
	p.vault.RevokeToken(a.ID)
	p.again()
	if err := p.keys(t); err != nil {
		t.Errorf("with another token: %v", err)
	}
}

// case 55: who may read the file may be this host to Vault.
func TestAFileThatEverybodyMayReadIsWarnedOf(t *testing.T) {
	for _, c := range []struct {
		mode, folder os.FileMode
		warned       int
	}{{0o600, 0o755, 0}, {0o640, 0o755, 0}, {0o644, 0o755, 1}, {0o644, 0o750, 0}} {
		mode, warned := c.mode, c.warned
		p := newGate(t, setting{})
		folder := filepath.Dir(p.auth.SecretID.File)
		if err := errors.Join(os.Chmod(p.auth.SecretID.File, mode), os.Chmod(folder, c.folder), os.Chmod(filepath.Dir(folder), 0o755)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			p.loggedOut()
			if err := p.keys(t); err != nil {
				t.Fatal(err)
			}
		}
		want := fmt.Sprintf(`"files":[%q],"message":"every account of this host may read what the login is made with; take that right away (chmod o-r)"`, p.auth.SecretID.File)
		if got := (&Source{options: &Options{Auth: *p.auth}}).Warnings(); len(got) != warned || warned > 0 && got[0] != "every account of this host may read "+p.auth.SecretID.File+", which the login is made with; take that right away (chmod o-r)" {
			t.Errorf("%04o: got the warnings %q", mode, got)
		}
		if got := strings.Count(p.said.String(), want); got != warned {
			t.Errorf("%04o: warned %d times, want %d: %s", mode, got, warned, p.said.String())
		}
	}
}

// case 53 and 56
func TestATokenThatTellsNothingOfItself(t *testing.T) {
	t.Run("by its policy", func(t *testing.T) {
		given := mock.VaultToken{ID: "hvs." + mock.Marker + "given"}
		given.NoDefault = true
		p := newGate(t, setting{vault: mock.VaultOptions{Tokens: []mock.VaultToken{given}}, auth: Auth{Method: "token", Token: text(given.ID)}})
		if err := p.keys(t); err != nil {
			t.Fatal(err)
		}
		if !p.present().until.IsZero() {
			t.Error("an end is known")
		}
	})
	t.Run("as a root token", func(t *testing.T) {
		root := mock.VaultToken{ID: "hvs." + mock.Marker + "root", Root: true}
		p := newGate(t, setting{vault: mock.VaultOptions{Tokens: []mock.VaultToken{root}}, auth: Auth{Method: "token", Token: text(root.ID)}})
		if err := p.keys(t); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(p.said.String(), "the token has no end, as a root token") {
			t.Errorf("nothing warns: %s", p.said.String())
		}
		if what, _ := p.present().next(); what != stay {
			t.Error("it is to be renewed")
		}
	})
}

// case 67 and more: what a login may answer.
func TestWhatIsNoToken(t *testing.T) {
	token := func(change func(*authInfo)) *secret {
		a := &authInfo{ClientToken: "hvs.CONFIDENTIAL", LeaseDuration: "3600", Renewable: true, TokenType: "service"}
		change(a)
		return &secret{Auth: a}
	}
	for name, c := range map[string]struct {
		answer *secret
		want   string
	}{
		"wrapped":         {&secret{WrapInfo: &struct{}{}}, "Vault wrapped the answer to the login, which nobody asked for; something on the way asks for it"},
		"a secret":        {&secret{Data: map[string]any{"x": "CONFIDENTIAL"}}, "the answer to the login has no auth; is auth.mount an auth method?"},
		"a second factor": {token(func(a *authInfo) { a.ClientToken, a.MFARequirement = "", []byte(`{"mfa_request_id": "x"}`) }), "Vault wants a second factor for this login, which no service can give; take this entity out of the MFA enforcement, or choose another method"},
		"empty":           {token(func(a *authInfo) { a.ClientToken = "" }), "the answer to the login has no client_token"},
		"two lines":       {token(func(a *authInfo) { a.ClientToken = "CONFIDENTIAL\nX-Evil: 1" }), "the client_token is no token: it is empty, too long, or has a blank, a line end or another character that no token has"},
		"endless":         {token(func(a *authInfo) { a.ClientToken = strings.Repeat("x", maxToken+1) }), "the client_token is no token: it is empty, too long, or has a blank, a line end or another character that no token has"},
		"a life below 0":  {token(func(a *authInfo) { a.LeaseDuration = "-1" }), "the lease_duration of the token is no number of seconds"},
		"no life":         {token(func(a *authInfo) { a.LeaseDuration = "" }), "the lease_duration of the token is no number of seconds"},
	} {
		f := newFakeVault()
		_, err := tokenOf(f.answer(c.answer), "", zerolog.New(t.Output()))
		if _, got := says(t, err); got != c.want {
			t.Errorf("%s: got  %q\nwant %q", name, got, c.want)
		}
	}
	long := token(func(a *authInfo) { a.ClientToken, a.NumUses = "hvb."+strings.Repeat("x", 8000), "3" })
	said := &testkit.Log{}
	if got, err := tokenOf(newFakeVault().answer(long), "", zerolog.New(said)); err != nil || got.first != time.Hour { // case 49
		t.Errorf("a long token: %v", err)
	}
	if !strings.Contains(said.String(), "is good for a number of uses only") {
		t.Error("nothing warns of a token for three uses")
	}
}

// What is said of a token that an operator revoked is true from the first moment.
func TestRevokedTokenIsNotTakenForAPolicy(t *testing.T) {
	const (
		denied  = `answered 403: permission denied on aws/sts/test_role: a policy of the token must allow "read" there`
		refuses = "the token is refused, as if it was revoked or has ended: no login before "
		blind   = denied + "; the token may not look itself up either: it was revoked or has ended, or its policy allows neither"
	)
	p := newGate(t, setting{})
	p.auth.Token.Value = credential.NewSecret(p.vault.IssueToken(mock.VaultGrant{}))
	p.method = &tokenMethod{auth: p.auth, log: zerolog.Nop()}
	if err := p.keys(t); err != nil {
		t.Fatal(err)
	}
	rules := mock.VaultRule{Path: "aws/*", Capabilities: []string{"read"}}
	p.vault.SetPolicy("purser")
	if _, got := says(t, p.keys(t)); got != denied {
		t.Errorf("a policy: got %q", got)
	}
	p.mu.Lock()
	p.alive = p.alive.Add(-7 * time.Second)
	p.mu.Unlock()
	p.vault.RevokeTokens()
	p.vault.SetPolicy("purser", rules)
	if _, got := says(t, p.keys(t)); got != denied+", unless the token was revoked in the last 7s" {
		t.Errorf("revoked after a look at it: got %q", got)
	}
	p.reset() // somebody wants to know
	if _, got := says(t, p.keys(t)); !strings.HasPrefix(got, refuses) {
		t.Errorf("revoked a moment after the login: got %q", got)
	}
	p.again()
	if _, got := says(t, p.keys(t)); got != blind {
		t.Errorf("revoked: got %q", got)
	}
}
