package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// The tests in this file are quick: the Vault is purser-mock's.

const secretID = harness.Marker + "-secret-id"

func startMockVault(t *testing.T, flags ...string) *harness.Mock {
	t.Helper()
	mock, err := harness.StartMockWithVault(flags...)
	must(t, err)
	t.Cleanup(func() { _, _ = mock.Stop() })
	return mock
}

// ofVault is an upstream that reads a Vault, as the mock lets it log in.
func ofVault(mock *harness.Mock, roles, more string) string {
	return fmt.Sprintf("upstreams:\n  vault: {kind: vault, address: \"http://%s\", auth: {method: approle, role_id: purser, secret_id: %s}, aws: {roles: {%s}}%s}\n",
		mock.Vault, secretID, roles, more) + everything
}

// vaultRecord is what the mock says of its Vault.
type vaultRecord struct {
	Logins, Reads map[string]int
	LeasesMade    int `json:"leases_made"`
	LeasesRevoked int `json:"leases_revoked"`
	TokensRevoked int `json:"tokens_revoked"`
	Leases        int
	Tokens        int
}

func recordOf(t *testing.T, mock *harness.Mock) (r vaultRecord) {
	t.Helper()
	must(t, mock.OrderVault(http.MethodGet, "vault", nil, &r))
	return r
}

// TestPromise4And9VaultInTrouble takes a Vault through what goes wrong with one while a
// client asks all the time, and looks at what the operator is told.
func TestPromise4And9VaultInTrouble(t *testing.T) {
	mock := startMockVault(t, "--vault-role", "web")
	agent := startAgent(t, harness.AgentOptions{Config: ofVault(mock, "web: {}", ", timeouts: {header: 500ms}")})
	metadata := newMetadata(t, agent)
	before := parse(t, metadata.document(t, "web"))
	if before.Code != "Success" || !strings.HasPrefix(before.AccessKeyID, "ASIA") || time.Until(before.Expiration) < 50*time.Minute {
		t.Fatalf("got %s, %s until %v", before.Code, before.AccessKeyID, before.Expiration)
	}
	if got := (caller{}).role(t, "http://"+agent.Address); got != "web" {
		t.Errorf("curl gets %q", got)
	}
	client := keepAsking(t, metadata, "web")
	defer client.stop()
	for _, trouble := range []struct {
		method, what string
		body         any
		want         string
	}{
		{"POST", "vault/seal", nil, "Vault is sealed; somebody must unseal it"},
		{"POST", "vault/unseal", nil, ""},
		{"PUT", "faults", []string{"code=AccessDenied"}, "the role behind aws/sts/web is not assumable by Vault (AccessDenied)"},
		{"PUT", "faults", []string{"hang"}, "(timeouts.header)"},
		{"PUT", "faults", []string{"reset"}, "connection reset by peer"},
		{"PUT", "faults", []string{}, ""},
		{"PUT", "vault/policies/purser", []any{}, `permission denied on aws/sts/web: a policy of the token must allow "read" there`},
	} {
		must(t, mock.OrderVault(trouble.method, trouble.what, trouble.body, nil))
		r, err := agent.Run("refresh", "web")
		must(t, err)
		if good := trouble.want == ""; good != (r.Exit == 0) || !strings.Contains(r.Stderr, trouble.want) {
			t.Errorf("%s: a refresh ended with %d and said %s", trouble.what, r.Exit, r.Stderr)
		}
		now := parse(t, metadata.document(t, "web"))
		if trouble.want != "" && now.AccessKeyID != before.AccessKeyID {
			t.Errorf("%s: the keys were replaced", trouble.what)
		}
		before = now
	}
	if n := client.stop(); n < 20 {
		t.Errorf("the client asked %d times only", n)
	}
	status, err := agent.Run("status")
	must(t, err)
	if !strings.Contains(status.Stdout, "\nvault: logged in until ") {
		t.Errorf("status says\n%s", status.Stdout)
	}
	if r := recordOf(t, mock); r.Logins["auth/approle/login"] > 2 {
		t.Errorf("%d logins", r.Logins["auth/approle/login"])
	}
}

// TestCheckSaysWhatVaultLacks, and leaves nothing behind there.
func TestCheckSaysWhatVaultLacks(t *testing.T) {
	mock := startMockVault(t, "--vault-role", "web", "--vault-role", "person:iam_user")
	agent := startAgent(t, harness.AgentOptions{Config: ofVault(mock, "web: {}", "")})
	started := recordOf(t, mock)
	for _, c := range []struct {
		roles, more, want string
	}{
		{"web: {}", "", "upstream vault: ok, 1 credential in"},
		{"gone: {}", "", "Vault has no role behind aws/sts/gone; correct the path, or have the role made"},
		{"web: {mount: other}", "", `permission denied on other/sts/web: a policy of the token must allow "read" there`},
		{"person: {path: creds/person}", "", "this one was created and was given back. Choose a role of type assumed_role, or set allow_iam_user"},
		{"person: {path: creds/person, allow_iam_user: true}", "", "upstream vault: ok, 1 credential in"},
	} {
		must(t, agent.Configure(ofVault(mock, c.roles, c.more)))
		r, err := agent.Run("check")
		must(t, err)
		if good := strings.Contains(c.want, ": ok"); good != (r.Exit == 0) || !strings.Contains(r.Stdout, c.want) {
			t.Errorf("%s: check ended with %d and said\n%s%s", c.roles, r.Exit, r.Stdout, r.Stderr)
		}
	}
	if r := recordOf(t, mock); r.Tokens != started.Tokens || r.Leases != started.Leases {
		t.Errorf("%d tokens and %d leases are there, %d and %d before the checks", r.Tokens, r.Leases, started.Tokens, started.Leases)
	}
}

func TestVaultGetsBackWhatItMade(t *testing.T) {
	mock := startMockVault(t, "--vault-role", "web", "--vault-role", "person:iam_user")
	agent, err := harness.StartAgent(harness.AgentOptions{
		Config: ofVault(mock, "web: {}, person: {path: creds/person, allow_iam_user: true}", ", revoke_on_stop: true"),
	})
	must(t, err)
	t.Cleanup(func() { closeAgent(t, agent) })
	if r := recordOf(t, mock); r.Leases != 2 {
		t.Fatalf("there are %d leases", r.Leases)
	}
	_, err = agent.Stop()
	must(t, err)
	if r := recordOf(t, mock); r.Leases != 0 || r.LeasesRevoked != 2 || r.TokensRevoked != 1 {
		t.Errorf("%d leases are left, %d and %d tokens were revoked", r.Leases, r.LeasesRevoked, r.TokensRevoked)
	}
}
