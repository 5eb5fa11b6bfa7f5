package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/handover"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/store"
	"github.com/purser-agent/purser/pkg/testkit"
	"github.com/purser-agent/purser/pkg/upstream/vault"
)

// vaultHere is a Vault with a token, and the lines of an upstream that reads it.
func vaultHere(t *testing.T, o mock.VaultOptions, secrets string) (*mock.Vault, string) {
	t.Helper()
	o.Tokens = append(o.Tokens, mock.VaultToken{ID: mock.Marker + "-token"})
	vault := mock.NewVault(o)
	return vault, fmt.Sprintf("  vault: {kind: vault, address: %q, auth: {method: token, token: %q}, %s}\n", testkit.Serve(t, vault).URL, mock.Marker+"-token", secrets)
}

func TestIdentityTokensAreForOtherUpstreamsOnly(t *testing.T) {
	_, lines := vaultHere(t, mock.VaultOptions{
		AWSRoles:  []mock.VaultAWSRole{{Name: "web"}},
		OIDCRoles: []mock.VaultOIDCRole{{Name: "ci"}},
	}, "aws: {roles: {web: {}}}, identity_tokens: {ci: {}}")
	r := startAgent(t, "upstreams:\n"+lines+"grants: {everyone: {credentials: ['*']}}\n")
	r.waitReady()
	if _, list := r.get(""); list != "web" {
		t.Errorf("everyone is shown %q", list)
	}
	if code, _ := r.get("ci"); code != 404 {
		t.Errorf("a token is answered with %d", code)
	}
}

func TestStatusSaysHowTheSessionWithVaultIs(t *testing.T) {
	_, lines := vaultHere(t, mock.VaultOptions{AWSRoles: []mock.VaultAWSRole{{Name: "web"}}}, "aws: {roles: {web: {}}}")
	r := startAgent(t, "upstreams:\n"+lines+"grants: {everyone: {credentials: ['*']}}\n")
	r.waitReady()
	report, err := r.client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := report.Upstreams[0].Detail; !strings.HasPrefix(got, "logged in until ") {
		t.Errorf("got %q", got)
	}
}

// hostHere is a Vault, and the lines of an upstream that logs in there with a secret ID
// which is good for one login.
func hostHere(t *testing.T) (*mock.Vault, string) {
	t.Helper()
	vault := mock.NewVault(mock.VaultOptions{
		AWSRoles: []mock.VaultAWSRole{{Name: "web"}},
		AppRoles: []mock.VaultAppRole{{Name: "host", RoleID: "host", SecretIDs: []mock.VaultSecretID{{ID: mock.Marker + "-secret-id", Uses: 1}}}},
	})
	return vault, fmt.Sprintf("  vault: {kind: vault, address: %q, auth: {method: approle, role_id: host, secret_id: %q}, aws: {roles: {web: {}}}}\n", testkit.Serve(t, vault).URL, mock.Marker+"-secret-id")
}

// TestPromise10ASessionOutlivesAProcessThatStopsAtOnce: nothing has been stored before it
// stops, and no other login is possible.
func TestPromise10ASessionOutlivesAProcessThatStopsAtOnce(t *testing.T) {
	manager := newKeeping(t)
	vault, lines := hostHere(t)
	text := "upstreams:\n" + lines + "grants: {everyone: {credentials: ['*']}}\n"
	left := &handover.State{}
	for n := range 3 {
		r := startAgent(t, text, func(a *agent) {
			a.depot, a.moved = manager.depot(), nil // nothing is stored before the stop
			a.takeBack(left)
		})
		r.waitReady()
		if got := r.agent.state().Upstreams[0].Detail; !strings.HasPrefix(got, "logged in until ") {
			t.Errorf("process %d: got %q", n, got)
		}
		manager.watch(r.stop)
		left = manager.state()
	}
	if r := vault.Record(); r.TokensRevoked != 0 || r.Tokens != 1 {
		t.Errorf("%d tokens were revoked, %d are left", r.TokensRevoked, r.Tokens)
	}
}

// TestASessionThatAReloadRemovesIsGivenBack: no process will go on with it. Keys of users,
// which would go with the token, outlive it.
func TestASessionThatAReloadRemovesIsGivenBack(t *testing.T) {
	for kind, want := range map[string]int{mock.AssumedRole: 1, mock.IAMUser: 0} {
		manager := newKeeping(t)
		vault := mock.NewVault(mock.VaultOptions{
			AWSRoles: []mock.VaultAWSRole{{Name: "web", Type: kind}},
			AppRoles: []mock.VaultAppRole{{Name: "host", RoleID: "host", SecretIDs: []mock.VaultSecretID{{ID: mock.Marker + "-secret-id"}}}},
		})
		const grants = "grants: {everyone: {credentials: ['*']}}\n"
		r := startAgent(t, fmt.Sprintf("upstreams:\n  vault: {kind: vault, address: %q, auth: {method: approle, role_id: host, secret_id: %q}, aws: {roles: {web: {path: creds/web, allow_iam_user: true}}}}\n", testkit.Serve(t, vault).URL, mock.Marker+"-secret-id")+grants,
			func(a *agent) { a.depot = manager.depot() })
		r.waitReady()
		manager.await("after the start", func(s *handover.State) bool { return s.Upstreams["vault"].Session != nil })
		r.change(grants)
		if got := vault.Record().TokensRevoked; got != want {
			t.Errorf("%s: %d tokens were revoked, want %d", kind, got, want)
		}
		manager.watch(r.stop)
	}
}

// What a reload has fetched for nothing is given back, users of AWS and all.
func TestReloadThatIsRefusedLeavesNothingBehindInVault(t *testing.T) {
	r := startAgent(t, "grants: {everyone: {credentials: ['*']}}\n")
	r.waitReady()
	vault := mock.NewVault(mock.VaultOptions{
		AWSRoles: []mock.VaultAWSRole{{Name: "web", Type: mock.IAMUser}},
		AppRoles: []mock.VaultAppRole{{Name: "host", RoleID: "host", SecretIDs: []mock.VaultSecretID{{ID: mock.Marker + "-secret-id"}}}},
	})
	ims, url := startIMS(t, "role")
	ims.SetFaults(broken)
	r.write(fmt.Sprintf(`upstreams:
  dc: {kind: ims, url: %q}
  vault: {kind: vault, address: %q, auth: {method: approle, role_id: host, secret_id: %q}, aws: {roles: {web: {path: creds/web, allow_iam_user: true}}}}
grants: {everyone: {credentials: ['*']}}
`, url, testkit.Serve(t, vault).URL, mock.Marker+"-secret-id"))
	if err := r.reload(); err == nil {
		t.Fatal("the reload was not refused")
	}
	if r := vault.Record(); r.LeasesMade != 1 || r.Leases != 0 || r.Tokens != 0 {
		t.Errorf("%d of %d leases and %d tokens are left", r.Leases, r.LeasesMade, r.Tokens)
	}
}

func TestVersionOfAKVEngineIsWrittenAsANumberToo(t *testing.T) {
	for written, want := range map[string]vault.KVVersion{"1": 1, `"2"`: 2, "auto": 0} {
		c := loadText(t, "upstreams: {vault: {kind: vault, address: 'https://vault.example.com', auth: {method: cert}, tls: {certificate: /c, key: /k}, kv: {keys: {web: {path: web, version: "+written+"}}}}}\n")
		if got := c.Upstreams["vault"].Options.(*vault.Options).KV.Keys["web"].Version; got != want {
			t.Errorf("%s: got %d", written, got)
		}
	}
}

func TestBaseOfALoginIsLookedForWhereItIsConfigured(t *testing.T) {
	for base, want := range map[string]string{
		"upstream: dc":     `upstream "vault": auth.base.upstream: there is no upstream "dc"`,
		"credential: demo": `upstream "vault": auth.base.credential: no upstream gives a credential "demo"`,
		"credential: web":  `upstream "vault": auth.base: it is its own base, by way of vault`,
	} {
		c := loadText(t, "upstreams: {vault: {kind: vault, address: 'https://vault.example.com', auth: {method: aws, base: {"+base+"}}, aws: {roles: {web: {}}}}}\n")
		if _, err := openSources(c.Upstreams, &store.Store{}, surroundings{log: zerolog.Nop()}); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
