package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
	"github.com/purser-agent/purser/pkg/mock"
)

// A vaultSite is a real Vault with an AWS behind it, and what a host needs to log in.
type vaultSite struct {
	*realSetup
	contract *vaultContract
	dir      string // readable for everyone
}

func newVaultSite(t *testing.T, nodes int, o mock.VaultOptions) *vaultSite {
	t.Helper()
	s := &vaultSite{contract: newVaultContract(t)}
	s.contract.real = startVault(t, nodes)
	_, s.realSetup = s.contract.realVault(t, o)
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
	for _, n := range s.vault.Nodes {
		addresses = append(addresses, n.URL)
	}
	return fmt.Sprintf(`upstreams:
  vault:
    kind: vault
    address: [%s]
    tls: {ca: %q}
    auth: %s
    aws: {roles: {%s: {path: creds/%s%s}}}
`, strings.Join(addresses, ", "), s.vault.CA, auth, role, role, more) + everything
}

// appRole logs in as the AppRole "purser".
func (s *vaultSite) appRole(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("{method: approle, role_id: purser-role-id, secret_id: {file: %q}}", s.file(t, "secret_id", "good"))
}

var purserRole = mock.VaultAppRole{Name: "purser", RoleID: "purser-role-id", SecretIDs: []mock.VaultSecretID{{ID: "good"}}}

// TestLogsInToARealVault has each method get keys that STS made.
func TestLogsInToARealVault(t *testing.T) {
	t.Parallel()
	site := newVaultSite(t, 1, mock.VaultOptions{
		AppRoles:  []mock.VaultAppRole{purserRole},
		Users:     []mock.VaultUser{{Name: "purser", Password: "good"}},
		JWTRoles:  []mock.VaultJWTRole{{Name: "purser", Audiences: []string{"vault"}}},
		CertRoles: []mock.VaultCertRole{{Name: "hosts", CommonNames: []string{"web01.example.com"}}},
	})
	certificate, key, err := site.contract.authority.Issue(site.dir, "web01.example.com")
	must(t, err)
	if os.Geteuid() == 0 {
		must(t, os.Chown(key, nobodyUID, nobodyUID))
	}
	for name, auth := range map[string]string{
		"approle":  site.appRole(t),
		"cert":     fmt.Sprintf("{method: cert, role: hosts}\n    tls: {ca: %q, certificate: %q, key: %q}", site.vault.CA, certificate, key),
		"jwt":      fmt.Sprintf("{method: jwt, role: purser, jwt: {file: %q}}", site.file(t, "jwt", site.contract.jwts(t)["jwt_good"])),
		"userpass": fmt.Sprintf("{method: userpass, username: purser, password: {file: %q}}", site.file(t, "password", "good")),
		"token":    fmt.Sprintf("{method: token, token: {file: %q}}", site.file(t, "token", site.newToken(t))),
		"wrapped": fmt.Sprintf("{method: approle, role_id: purser-role-id, role: purser, secret_id_wrapped: true, secret_id: {file: %q}}",
			site.file(t, "wrapped", site.wrappedSecretID(t))),
	} {
		t.Run(name, func(t *testing.T) {
			config := site.config(auth, "test_role", "")
			if name == "cert" {
				config = strings.Replace(config, fmt.Sprintf("    tls: {ca: %q}\n", site.vault.CA), "", 1)
			}
			agent := startAgent(t, harness.AgentOptions{Config: config})
			d := parse(t, newMetadata(t, agent).document(t, "test_role"))
			if d.Code != "Success" || !strings.HasPrefix(d.AccessKeyID, "ASIA") || time.Until(d.Expiration) < 50*time.Minute {
				t.Errorf("got the key %s until %v: %s", d.AccessKeyID, d.Expiration, d.Code)
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
	v := s.contract.common(t, s.vault.Nodes[0].URL, s.vault.Root, s.vault.Authority)
	_, err := v.perform("> $root POST auth/approle/role/purser/secret-id {}\n+ X-Vault-Wrap-TTL: 300s\n= wrap wrap_info.token")
	must(t, err)
	return v.vars["wrap"]
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
    kv: {keys: {new: {mount: secret, path: apps/new}, old: {mount: old, path: apps/old, version: 1}}}
    identity_tokens: {host: {}}
  aws:
    kind: web-identity
    base: {credential: host}
    region: eu-central-1
    endpoint: %q
    roles: {known: {role_arn: "arn:aws:iam::123456789012:role/known"}}
`, site.vault.Nodes[0].URL, site.vault.CA, site.appRole(t), sts.URL) + everything})
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
	target, err := url.Parse(s.vault.Nodes[0].URL)
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.vault.Authority.Pool()}}
	proxy.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	s.write("identity/oidc/config", map[string]string{"issuer": server.URL})
	return server.URL + "/v1/identity/oidc"
}
