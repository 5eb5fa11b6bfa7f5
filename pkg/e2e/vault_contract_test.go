package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
	"github.com/purser-agent/purser/pkg/mock"
)

var update = flag.Bool("update", false, "write what the real Vault answers into testdata/vault")

// TestVaultContract keeps the fake honest: it plays each script in testdata/vault to
// the real Vault and to the fake, and both have to answer what is written there. With
// -update it is written anew, as the real one answers.
func TestVaultContract(t *testing.T) {
	c := newVaultContract(t)
	files, err := filepath.Glob("testdata/vault/*.txt")
	must(t, err)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if _, played := c.options[name]; !played && name != "standby" {
			t.Errorf("nobody plays %s", file)
		}
	}
	t.Run("real", func(t *testing.T) {
		c.real = startVault(t, 1)
		for name, options := range c.options {
			t.Run(name, func(t *testing.T) {
				v, setup := c.realVault(t, options)
				defer setup.dismantle()
				v.check(t, name, *update)
			})
		}
	})
	t.Run("fake", func(t *testing.T) {
		for name, options := range c.options {
			t.Run(name, func(t *testing.T) { c.fakeVault(t, options).check(t, name, false) })
		}
	})
}

// TestVaultContractOfAStandby does the same with a server that follows another, which
// then dies.
func TestVaultContractOfAStandby(t *testing.T) {
	c := newVaultContract(t)
	t.Run("real", func(t *testing.T) {
		c.real = startVault(t, 3)
		v, _ := c.realVault(t, mock.VaultOptions{})
		leader, err := c.real.Leader()
		must(t, err)
		standby := c.real.Nodes[0]
		if standby == leader {
			standby = c.real.Nodes[1]
		}
		v.url = standby.URL
		v.can["kill"] = func(string) error {
			leader.Kill()
			return nil
		}
		v.check(t, "standby", *update)
	})
	t.Run("fake", func(t *testing.T) {
		v := c.fakeVault(t, mock.VaultOptions{})
		must(t, v.can["standby"]("https://127.0.0.1:8200"))
		v.can["kill"] = func(string) error { return nil } // nobody is there anyway
		v.check(t, "standby", false)
	})
}

// startVault runs a real Vault until the test ends.
func startVault(t *testing.T, nodes int) *harness.Vault {
	t.Helper()
	_, err := harness.VaultBinary()
	needs(t, "a real Vault", err == nil)
	v, err := harness.StartVault(nodes)
	if v != nil {
		t.Cleanup(func() {
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	must(t, err)
	return v
}

// A vaultContract is what the real Vault and the fake have in common.
type vaultContract struct {
	options map[string]mock.VaultOptions // by the script's name

	authority      *harness.Authority
	server, client tls.Certificate
	signer         *ecdsa.PrivateKey // of the JWTs
	real           *harness.Vault
}

func newVaultContract(t *testing.T) *vaultContract {
	t.Helper()
	c := &vaultContract{options: map[string]mock.VaultOptions{}}
	var err error
	c.authority, err = harness.NewAuthority()
	must(t, err)
	c.server, c.client = c.issue(t, "localhost"), c.issue(t, "web01.example.com")
	c.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c.fill()
	return c
}

func (c *vaultContract) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	certificate, key, err := c.authority.Issue(t.TempDir(), name)
	must(t, err)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	must(t, err)
	return pair
}

// fill says what there is for each script.
func (c *vaultContract) fill() {
	reads := mock.VaultRule{Path: "aws/creds/test_role", Capabilities: []string{"read"}}
	role := mock.VaultAppRole{Name: "purser", RoleID: "purser-role-id", SecretIDs: []mock.VaultSecretID{
		{ID: "good"}, {ID: "once", Uses: 1}, {ID: "elsewhere", CIDRs: []string{"192.0.2.0/24"}},
	}, VaultGrant: mock.VaultGrant{TTL: time.Hour, MaxTTL: 2 * time.Hour}}
	batch := mock.VaultAppRole{Name: "batch", RoleID: "batch-role-id", SecretIDs: []mock.VaultSecretID{{ID: "good"}}, VaultGrant: mock.VaultGrant{TTL: 10 * time.Minute, Batch: true}}
	bound := mock.VaultAppRole{Name: "bound", RoleID: "bound-role-id", SecretIDs: []mock.VaultSecretID{{ID: "good"}}, VaultGrant: mock.VaultGrant{BoundCIDRs: []string{"192.0.2.0/24"}}}
	c.options = map[string]mock.VaultOptions{
		"aws": {AWSRoles: []mock.VaultAWSRole{
			{Name: "test_role"},
			{Name: "two", ARNs: []string{"arn:aws:iam::123456789012:role/one", "arn:aws:iam::123456789012:role/two"}},
			{Name: "capped", MaxTTL: 30 * time.Minute},
			{Name: "federated", Type: mock.FederationToken},
			{Name: "user", Type: mock.IAMUser},
		}, StaticRoles: []mock.VaultStaticRole{{Name: "robot"}}},
		"approle": {AppRoles: []mock.VaultAppRole{role, batch, bound}, Policies: map[string][]mock.VaultRule{
			"operator": {{Path: "auth/approle/role/purser/*", Capabilities: []string{"read", "update"}}},
		}},
		"cert": {CertRoles: []mock.VaultCertRole{
			{Name: "hosts", CAs: c.authority.Pool(), CommonNames: []string{"web01.example.com"}},
			{Name: "others", CAs: c.authority.Pool(), CommonNames: []string{"db01.example.com"}},
		}},
		"health": {},
		"identity": {
			OIDCRoles: []mock.VaultOIDCRole{{Name: "purser", ClientID: "sts.amazonaws.com", TTL: time.Hour}},
			Users:     []mock.VaultUser{{Name: "purser", Password: "good"}},
		},
		"jwt": {JWTRoles: []mock.VaultJWTRole{{Name: "purser", Key: &c.signer.PublicKey, Audiences: []string{"vault"}}}},
		"kv": {KV: []mock.VaultKV{
			{Secrets: map[string]map[string]any{"app": {"password": "x"}, "team/app": {"n": 1}}},
			{Mount: "old", Version: 1, Secrets: map[string]map[string]any{"app": {"password": "x"}}},
		}},
		"leases": {AWSRoles: []mock.VaultAWSRole{{Name: "test_role"}, {Name: "user", Type: mock.IAMUser}}},
		"policies": {Policies: map[string][]mock.VaultRule{
			"reads": {reads}, "updates": {{Path: reads.Path, Capabilities: []string{"update"}}},
			"wraps": {{Path: reads.Path, Capabilities: []string{"read"}, MinWrap: time.Second, MaxWrap: time.Minute}},
		}},
		"quota":    {},
		"seal":     {AppRoles: []mock.VaultAppRole{role}},
		"tokens":   {Policies: map[string][]mock.VaultRule{"other": {reads}}, AppRoles: []mock.VaultAppRole{role}},
		"userpass": {Users: []mock.VaultUser{{Name: "purser", Password: "good"}}},
		"wrapping": {
			AppRoles:   []mock.VaultAppRole{role},
			TokenRoles: []mock.VaultTokenRole{{Name: "app", Allowed: []string{"app"}, Orphan: true, VaultGrant: mock.VaultGrant{NumUses: 2, NoDefault: true, Fixed: true, MaxTTL: 10 * time.Minute}}},
			Policies: map[string][]mock.VaultRule{
				"app":    {reads},
				"broker": {{Path: "auth/token/create/app", Capabilities: []string{"update"}, MinWrap: time.Second, MaxWrap: time.Minute}},
			},
		},
	}
}

// jwts are tokens for a login, by what is special about them.
func (c *vaultContract) jwts(t *testing.T) map[string]string {
	t.Helper()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	now := time.Now()
	made := map[string]string{"jwt_garbage": "a.b.c"}
	for name, change := range map[string]map[string]any{
		"good":     {},
		"expired":  {"exp": now.Add(-10 * time.Minute).Unix()},
		"audience": {"aud": "other"},
		"early":    {"nbf": now.Add(200 * time.Second).Unix()},
		"skewed":   {"nbf": now.Add(40 * time.Second).Unix()},
		"foreign":  {},
	} {
		claims := map[string]any{"sub": "web01", "aud": "vault", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()}
		maps.Copy(claims, change)
		signer := c.signer
		if name == "foreign" {
			signer = other
		}
		made["jwt_"+name], err = mock.SignJWT(signer, claims)
		must(t, err)
	}
	return made
}

// common is what scripts can say to either Vault.
func (c *vaultContract) common(t *testing.T, url, root string, authority *harness.Authority, certificates ...tls.Certificate) vaultUnderTest {
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), Certificates: certificates}, DisableKeepAlives: true},
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	vars := c.jwts(t)
	vars["root"] = root
	return vaultUnderTest{url: url, client: client, vars: vars, can: map[string]func(string) error{"wait": wait}}
}

// fakeVault is the fake with these options.
func (c *vaultContract) fakeVault(t *testing.T, o mock.VaultOptions) vaultUnderTest {
	t.Helper()
	const root = "root-" + mock.Marker
	o.Tokens = append(slices.Clone(o.Tokens), mock.VaultToken{ID: root, Root: true})
	handler := mock.NewVault(o)
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{c.server}, ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	v := c.common(t, server.URL, root, c.authority, c.client)
	v.can["aws"] = func(faults string) error { return setFaults(&handler.Control, faults) }
	v.can["standby"] = func(url string) error { handler.SetStandby(url); return nil }
	v.can["unreachable"] = func(string) error { return setFaults(&handler.Control, "code=Unreachable") }
	v.can["quota"] = func(fault string) error { return setFaults(&handler.Control, fault) }
	v.can["seal"] = func(string) error { handler.Seal(); return nil }
	v.can["unseal"] = func(string) error { handler.Unseal(); return nil }
	return v
}

func setFaults(c *mock.Control, texts string) error {
	faults := []mock.Fault{}
	for text := range strings.FieldsSeq(texts) {
		fault, err := mock.ParseFault(text)
		if err != nil {
			return err
		}
		faults = append(faults, fault)
	}
	c.SetFaults(faults...)
	return nil
}

// publicKey is the key that verifies the JWTs, as PEM.
func (c *vaultContract) publicKey() string {
	der, err := x509.MarshalPKIXPublicKey(&c.signer.PublicKey)
	if err != nil {
		panic(err) // it is of a kind that is known
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
