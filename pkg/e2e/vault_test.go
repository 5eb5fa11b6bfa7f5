package e2e

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
	"github.com/purser-agent/purser/pkg/mock"
)

// A vaultSite is a real Vault with an AWS behind it, and what a host needs to log in.
type vaultSite struct {
	*vaultContract
	*realSetup
	dir string // readable for everyone
}

func newVaultSite(t *testing.T, nodes int, o mock.VaultOptions) *vaultSite {
	t.Helper()
	s := &vaultSite{vaultContract: newVaultContract(t)}
	s.real = startVault(t, nodes)
	_, s.realSetup = s.realVault(t, o)
	var err error
	s.dir, err = os.MkdirTemp("", "purser-e2e-site-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	must(t, os.Chmod(s.dir, 0o755))
	return s
}

// file writes a secret for the user that Purser becomes.
func (s *vaultSite) file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	must(t, os.WriteFile(path, []byte(text), 0o600))
	if os.Geteuid() == 0 {
		must(t, os.Chown(path, nobodyUID, nobodyUID))
	}
	return path
}

// config is an upstream that reads the role with a login. More is indented by four.
func (s *vaultSite) config(auth, role, more string) string {
	var addresses []string
	for _, n := range s.real.Nodes {
		addresses = append(addresses, n.URL)
	}
	return fmt.Sprintf(`upstreams:
  vault:
    kind: vault
    address: [%s]
    tls: {ca: %q}
    auth: %s
    aws: {roles: {%s: {path: creds/%s%s}}}
`, strings.Join(addresses, ", "), s.real.CA, auth, role, role, more) + everything
}

// appRole logs in as the AppRole "purser".
func (s *vaultSite) appRole(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("{method: approle, role_id: purser-role-id, secret_id: {file: %q}}", s.file(t, "secret_id", "good"))
}

var purserRole = mock.VaultAppRole{Name: "purser", RoleID: "purser-role-id", SecretIDs: []mock.VaultSecretID{{ID: "good"}}}

// untilRefreshed is refreshed until that works. Between two logins there are 10 s.
func untilRefreshed(t *testing.T, agent *harness.Agent, role string) {
	t.Helper()
	must(t, harness.Await(30*time.Second, func() error { return refreshed(t, agent, role) }))
}

// refreshed asks the agent to fetch the role anew, and returns what it says.
func refreshed(t *testing.T, agent *harness.Agent, role string) error {
	t.Helper()
	r, err := agent.Run("refresh", role)
	must(t, err)
	if r.Exit != 0 {
		return errors.New(r.Stdout + r.Stderr)
	}
	return nil
}

// TestLogsInToARealVault has each method get keys that STS made.
func TestLogsInToARealVault(t *testing.T) {
	t.Parallel()
	site := newVaultSite(t, 1, mock.VaultOptions{
		AppRoles:  []mock.VaultAppRole{purserRole},
		Users:     []mock.VaultUser{{Name: "purser", Password: "good"}},
		JWTRoles:  []mock.VaultJWTRole{{Name: "purser", Audiences: []string{"vault"}}},
		CertRoles: []mock.VaultCertRole{{Name: "hosts", CommonNames: []string{"web01.example.com"}}},
	})
	certificate, key, err := site.authority.Issue(site.dir, "web01.example.com")
	must(t, err)
	if os.Geteuid() == 0 {
		must(t, os.Chown(key, nobodyUID, nobodyUID))
	}
	for name, auth := range map[string]string{
		"approle":  site.appRole(t),
		"cert":     fmt.Sprintf("{method: cert, role: hosts}\n    tls: {ca: %q, certificate: %q, key: %q}", site.real.CA, certificate, key),
		"jwt":      fmt.Sprintf("{method: jwt, role: purser, jwt: {file: %q}}", site.file(t, "jwt", site.jwts(t)["jwt_good"])),
		"userpass": fmt.Sprintf("{method: userpass, username: purser, password: {file: %q}}", site.file(t, "password", "good")),
		"token":    fmt.Sprintf("{method: token, token: {file: %q}}", site.file(t, "token", site.newToken(t))),
		"wrapped": fmt.Sprintf("{method: approle, role_id: purser-role-id, role: purser, secret_id_wrapped: true, secret_id: {file: %q}}",
			site.file(t, "wrapped", site.wrappedSecretID(t))),
	} {
		t.Run(name, func(t *testing.T) {
			config := site.config(auth, "test_role", "")
			if name == "cert" {
				config = strings.Replace(config, fmt.Sprintf("    tls: {ca: %q}\n", site.real.CA), "", 1)
			}
			agent := startAgent(t, harness.AgentOptions{Config: config})
			d := parse(t, newMetadata(t, agent).document(t, "test_role"))
			if d.Code != "Success" || !strings.HasPrefix(d.AccessKeyID, "ASIA") || time.Until(d.Expiration) < 50*time.Minute {
				t.Errorf("got the key %s until %v: %s", d.AccessKeyID, d.Expiration, d.Code)
			}
			if said := agent.Said(); strings.Contains(said, "hvs.") {
				t.Error("the agent said a token")
			}
		})
	}
}

func (s *vaultSite) newToken(t *testing.T) string {
	t.Helper()
	var made struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		}
	}
	must(t, s.vault.Write("auth/token/create", map[string]any{"policies": []string{"purser"}}, &made))
	return made.Auth.ClientToken
}

func (s *vaultSite) wrappedSecretID(t *testing.T) string {
	t.Helper()
	v := s.common(t, s.real.Nodes[0].URL, s.real.Root, s.real.Authority)
	_, err := v.perform("> $root POST auth/approle/role/purser/secret-id {}\n+ X-Vault-Wrap-TTL: 300s\n= wrap wrap_info.token")
	must(t, err)
	return v.vars["wrap"]
}

// startSite is a Vault with one AppRole, and an agent that reads test_role by it.
func startSite(t *testing.T) (*vaultSite, *harness.Agent) {
	t.Helper()
	site := newVaultSite(t, 1, mock.VaultOptions{AppRoles: []mock.VaultAppRole{purserRole}})
	return site, startAgent(t, harness.AgentOptions{Config: site.config(site.appRole(t), "test_role", "")})
}

// TestSealedOrRestartedVaultIsNoOutage: what is in stock is served, a refresh says what
// is wrong, and afterwards it succeeds without anybody's doing.
func TestSealedOrRestartedVaultIsNoOutage(t *testing.T) {
	t.Parallel()
	site, agent := startSite(t)
	m := newMetadata(t, agent)
	before := parse(t, m.document(t, "test_role"))
	vault := site.real.Nodes[0]
	for _, outage := range []struct {
		name  string
		begin func() error
		says  string
	}{
		{"sealed", vault.Seal, "sealed"},
		{"dead", func() error { vault.Kill(); return nil }, "connection refused"},
		{"sealed after its start", vault.Restart, "sealed"},
	} {
		must(t, outage.begin())
		if err := refreshed(t, agent, "test_role"); err == nil || !strings.Contains(err.Error(), outage.says) {
			t.Errorf("%s: a refresh says %v", outage.name, err)
		}
		if d := parse(t, m.document(t, "test_role")); d != before {
			t.Errorf("%s: the document is %+v, before it was %+v", outage.name, d, before)
		}
	}
	must(t, vault.Unseal())
	untilRefreshed(t, agent, "test_role")
	if d := parse(t, m.document(t, "test_role")); d.AccessKeyID == before.AccessKeyID {
		t.Error("the refresh brought nothing new")
	}
}

// TestRevokedTokenIsReplacedOnce: a token that an operator took away costs one login,
// and no client sees it.
func TestRevokedTokenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	site, agent := startSite(t)
	m := newMetadata(t, agent)
	before := parse(t, m.document(t, "test_role"))
	must(t, site.vault.Write("sys/leases/revoke-prefix/auth/approle/login", map[string]bool{"sync": true}, nil))
	untilRefreshed(t, agent, "test_role")
	if d := parse(t, m.document(t, "test_role")); d.AccessKeyID == before.AccessKeyID || d.Code != "Success" {
		t.Errorf("got %+v after %+v", d, before)
	}
	must(t, refreshed(t, agent, "test_role"))
	if n := site.tokens(t); n != 1 {
		t.Errorf("the agent has %d tokens", n)
	}
}

// tokens is how many of them logins by AppRole have made and nobody revoked.
func (s *vaultSite) tokens(t *testing.T) int {
	t.Helper()
	var list struct{ Data struct{ Keys []string } }
	must(t, s.vault.List("sys/leases/lookup/auth/approle/login", &list))
	return len(list.Data.Keys)
}

// TestPolicyTakenAwayIsSaidAndNotHammered: the new token is refused, too; the agent
// says so, keeps what it has and does not log in again and again.
func TestPolicyTakenAwayIsSaidAndNotHammered(t *testing.T) {
	t.Parallel()
	site, agent := startSite(t)
	m := newMetadata(t, agent)
	before := parse(t, m.document(t, "test_role"))
	must(t, site.vault.Write("sys/policies/acl/purser", map[string]string{"policy": "path \"aws/creds/other\" { capabilities = [\"read\"] }"}, nil))
	for range 5 {
		if err := refreshed(t, agent, "test_role"); err == nil || !strings.Contains(err.Error(), "policy") {
			t.Errorf("a refresh says %v", err)
		}
	}
	if n := site.tokens(t); n > 2 {
		t.Errorf("the agent logged in until it had %d tokens", n)
	}
	if d := parse(t, m.document(t, "test_role")); d != before {
		t.Errorf("the document is %+v, before it was %+v", d, before)
	}
	site.policies(mock.VaultOptions{})
	untilRefreshed(t, agent, "test_role")
}

// TestUsersOfIAMGoWithTheAgent: Vault deletes the users that it made for an agent when
// that stops, and a lease that an operator revokes takes its user along.
func TestUsersOfIAMGoWithTheAgent(t *testing.T) {
	t.Parallel()
	site := newVaultSite(t, 1, mock.VaultOptions{
		AppRoles: []mock.VaultAppRole{purserRole},
		AWSRoles: []mock.VaultAWSRole{{Name: "test_role", Type: mock.IAMUser}},
	})
	site.write("aws/config/lease", map[string]string{"lease": "1h", "lease_max": "24h"})
	config := site.config(site.appRole(t), "test_role", ", allow_iam_user: true")
	agent := startAgent(t, harness.AgentOptions{Config: strings.Replace(config, "    kind: vault\n", "    kind: vault\n    revoke_on_stop: true\n", 1)})
	m := newMetadata(t, agent)
	before := parse(t, m.document(t, "test_role"))
	if users := site.iam.Users(); len(users) != 1 || !strings.HasPrefix(before.AccessKeyID, "AKIA") {
		t.Fatalf("the users are %q, and the key %s", users, before.AccessKeyID)
	}
	time.Sleep(2 * time.Second) // so that the next keys end later
	must(t, site.vault.Write("sys/leases/revoke-prefix/aws/creds/test_role", map[string]bool{"sync": true}, nil))
	if users := site.iam.Users(); len(users) != 0 {
		t.Fatalf("a revoked lease leaves %q", users)
	}
	must(t, refreshed(t, agent, "test_role"))
	if d := parse(t, m.document(t, "test_role")); d.AccessKeyID == before.AccessKeyID || len(site.iam.Users()) != 1 {
		t.Errorf("got the key %s, and the users are %q", d.AccessKeyID, site.iam.Users())
	}
	_, err := agent.Stop()
	must(t, err)
	must(t, harness.Await(10*time.Second, func() error {
		if users := site.iam.Users(); len(users) != 0 {
			return fmt.Errorf("the users %q outlive the agent", users)
		}
		return nil
	}))
}

// TestClusterLosesItsLeader has one of three servers sealed, the next one frozen and
// the last leader killed, while keys live for a minute only. A client that asks all the
// time sees none of it.
func TestClusterLosesItsLeader(t *testing.T) {
	t.Parallel()
	site := newVaultSite(t, 3, mock.VaultOptions{AppRoles: []mock.VaultAppRole{purserRole}})
	site.sts.SetFaults(mock.Fault{Kind: mock.Short, Time: time.Minute})
	agent := startAgent(t, harness.AgentOptions{Config: site.config(site.appRole(t), "test_role", "")})
	m := newMetadata(t, agent)
	var stop atomic.Bool
	var client sync.WaitGroup
	client.Go(func() {
		for ; !stop.Load(); time.Sleep(20 * time.Millisecond) {
			status, body, err := m.get(securityCredentials + "test_role")
			var d document
			if err == nil {
				err = json.Unmarshal([]byte(body), &d)
			}
			if err != nil || status != http.StatusOK || d.Code != "Success" || !d.Expiration.After(time.Now()) {
				t.Errorf("a client got %d %s until %v, %v", status, d.Code, d.Expiration, err)
				return
			}
		}
	})
	defer client.Wait()
	defer stop.Store(true)
	for _, loss := range []struct {
		name string
		lose func(*harness.VaultNode) error
		mend func(*harness.VaultNode) error
	}{
		{"sealed", (*harness.VaultNode).Seal, (*harness.VaultNode).Unseal},
		{"frozen", (*harness.VaultNode).Freeze, (*harness.VaultNode).Thaw},
		{"killed", func(n *harness.VaultNode) error { n.Kill(); return nil }, func(n *harness.VaultNode) error { return errors.Join(n.Restart(), n.Unseal()) }},
	} {
		leader, err := site.real.Leader()
		must(t, err)
		made := len(site.sts.Assumptions())
		must(t, loss.lose(leader))
		lost := time.Now()
		must(t, harness.Await(time.Minute, func() error {
			if len(site.sts.Assumptions()) == made {
				return errors.New("the agent got nothing new from the others")
			}
			return nil
		}))
		t.Logf("%s: new keys after %v", loss.name, time.Since(lost).Round(time.Millisecond))
		must(t, loss.mend(leader))
	}
}

// TestEveryEngineOfARealVault reads keys that STS made, keys of users that Vault
// rotates, keys that somebody wrote into either version of KV, and a token about the
// host, with which STS then knows it.
func TestEveryEngineOfARealVault(t *testing.T) {
	t.Parallel()
	written := map[string]any{"access_key": "AKIAWRITTENBYHAND", "secret_key": mock.Marker}
	site := newVaultSite(t, 1, mock.VaultOptions{
		AppRoles:    []mock.VaultAppRole{purserRole},
		AWSRoles:    []mock.VaultAWSRole{{Name: "assumed"}, {Name: "federated", Type: mock.FederationToken}},
		StaticRoles: []mock.VaultStaticRole{{Name: "robot"}},
		KV: []mock.VaultKV{
			{Secrets: map[string]map[string]any{"apps/new": written}},
			{Mount: "old", Version: 1, Secrets: map[string]map[string]any{"apps/old": written}},
		},
		OIDCRoles: []mock.VaultOIDCRole{{Name: "host", ClientID: "sts.amazonaws.com"}},
	})
	issuer := site.publish(t)
	sts := httptest.NewServer(mock.NewSTS(mock.STSOptions{Keys: &mock.Keys{}, Providers: []mock.Provider{{Issuer: issuer, Audience: "sts.amazonaws.com"}}}))
	t.Cleanup(sts.Close)
	agent := startAgent(t, harness.AgentOptions{Config: fmt.Sprintf(`upstreams:
  vault:
    kind: vault
    address: %s
    tls: {ca: %q}
    auth: %s
    aws: {roles: {assumed: {ttl: 30m}, federated: {path: creds/federated}, robot: {path: static-creds/robot}}}
    kv: {keys: {new: {mount: secret, path: apps/new}, old: {mount: old, path: apps/old, version: "1"}}}
    identity_tokens: {host: {}}
  aws:
    kind: web-identity
    base: {credential: host}
    region: eu-central-1
    endpoint: %q
    roles: {known: {role_arn: "arn:aws:iam::123456789012:role/known"}}
`, site.real.Nodes[0].URL, site.real.CA, site.appRole(t), sts.URL) + everything})
	m := newMetadata(t, agent)
	for name, begins := range map[string]string{
		"assumed": "ASIA", "federated": "ASIA", "robot": "AKIA", "new": "AKIAWRITTENBYHAND", "old": "AKIAWRITTENBYHAND", "known": "ASIA",
	} {
		if d := parse(t, m.document(t, name)); d.Code != "Success" || !strings.HasPrefix(d.AccessKeyID, begins) {
			t.Errorf("%s: got the key %s: %s", name, d.AccessKeyID, d.Code)
		}
	}
}

// publish lets everyone ask Vault for the keys that verify its tokens, and returns
// their issuer.
func (s *vaultSite) publish(t *testing.T) string {
	t.Helper()
	target, err := url.Parse(s.real.Nodes[0].URL)
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.real.Authority.Pool()}}
	proxy.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	s.write("identity/oidc/config", map[string]string{"issuer": server.URL})
	return server.URL + "/v1/identity/oidc"
}
