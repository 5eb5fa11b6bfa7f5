package mock

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

func TestVaultAppRole(t *testing.T) {
	v := newVaultTest(VaultOptions{AppRoles: []VaultAppRole{{
		Name: "web", RoleID: "role", VaultGrant: VaultGrant{TTL: 5 * time.Minute},
		SecretIDs: []VaultSecretID{{ID: "once", Uses: 1}, {ID: "always"}, {ID: "inside", CIDRs: []string{"10.0.0.0/8"}}},
	}}})
	login := func(role, secretID string) vaultAnswer {
		return v.as("").post(t, "auth/approle/login", map[string]string{"role_id": role, "secret_id": secretID})
	}
	login("role", "always").matches(t, "good", `{"request_id":"UUID","lease_id":"","renewable":false,"lease_duration":0,"data":null,"wrap_info":null,"warnings":null,`+
		`"auth":{"client_token":"SECRET","accessor":"ACCESSOR","policies":["default","purser"],"token_policies":["default","purser"],"metadata":{"role_name":"web"},`+
		`"lease_duration":300,"renewable":true,"entity_id":"UUID","token_type":"service","orphan":true,"mfa_requirement":null,"num_uses":0}}`)
	login("other", "always").wants(t, "another role", 400, "invalid role ID")
	login("role", "other").wants(t, "another secret", 400, "invalid secret id")
	login("", "").wants(t, "nothing", 500, "failed to determine alias name from login request")
	login("role", "").wants(t, "no secret", 400, "missing secret_id")
	login("role", "once").wants(t, "the only use", 200)
	login("role", "once").wants(t, "a use too much", 400, "invalid secret id")
	login("role", "inside").wants(t, "from elsewhere", 400, `source address "192.0.2.1" unauthorized through CIDR restrictions on the secret ID`)
	v.from = "10.1.2.3:4"
	login("role", "inside").wants(t, "from inside", 200)
	v.as("").post(t, "auth/none/login", nil).wants(t, "no such mount", 403, "permission denied")
	made, ok := v.NewSecretID("web", VaultSecretID{})
	if !ok || !strings.Contains(made, Marker) {
		t.Errorf("a new secret ID is %s, %v", made, ok)
	}
	login("role", made).wants(t, "a new one", 200)
	v.RevokeSecretIDs("web")
	login("role", made).wants(t, "all revoked", 400, "invalid secret id")
	if _, ok := v.NewSecretID("none", VaultSecretID{}); ok {
		t.Error("a secret ID of no role")
	}
	if r := v.Record(); r.Logins["auth/approle/login"] != 4 || r.LoginsRefused["auth/approle/login"] != 7 || r.LoginsRefused["auth/none/login"] != 1 {
		t.Errorf("logins %v, refused %v", r.Logins, r.LoginsRefused)
	}
	root := v.as(v.addRoot())
	if a := root.get(t, "auth/approle/role/web/role-id"); a.Data["role_id"] != "role" {
		t.Errorf("role-id: %s", a.text)
	}
	if a := root.post(t, "auth/approle/role/web/secret-id", map[string]any{"num_uses": 1, "ttl": "60s"}); a.status != 200 || !strings.Contains(a.text, `"secret_id_num_uses":1,"secret_id_ttl":60`) {
		t.Errorf("secret-id: %s", a.text)
	}
}

func TestVaultSecretIDEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVaultTest(VaultOptions{AppRoles: []VaultAppRole{{Name: "web", RoleID: "role"}}})
		made, _ := v.NewSecretID("web", VaultSecretID{TTL: time.Minute})
		login := map[string]string{"role_id": "role", "secret_id": made}
		v.post(t, "auth/approle/login", login).wants(t, "in time", 200)
		time.Sleep(time.Minute)
		v.post(t, "auth/approle/login", login).wants(t, "too late", 400, "invalid secret id")
	})
}

func TestVaultPasswords(t *testing.T) {
	v := newVaultTest(VaultOptions{Users: []VaultUser{{Name: "alice", Password: "right"}, {Name: "bob", Password: "right", LDAP: true}}}).as("")
	password := func(text string) map[string]string { return map[string]string{"password": text} }
	if a := v.post(t, "auth/userpass/login/alice", password("right")); a.status != 200 || a.Auth.Metadata["username"] != "alice" {
		t.Errorf("userpass: %s", a.text)
	}
	v.post(t, "auth/ldap/login/bob", password("right")).wants(t, "LDAP", 200)
	v.post(t, "auth/userpass/login/alice", password("wrong")).wants(t, "wrong", 400, "invalid username or password")
	v.get(t, "auth/userpass/login/alice").wants(t, "a wrong verb", 405, "unsupported operation")
	v.post(t, "auth/userpass/login/bob", password("right")).wants(t, "unknown", 400, "invalid username or password")
	v.post(t, "auth/userpass/login/alice", nil).wants(t, "none", 500, "missing password")
	v.post(t, "auth/ldap/login/bob", password("wrong")).wants(t, "wrong at LDAP", 400, "ldap operation failed: failed to bind as user")
}

// jwtTest has a role for each kind of key.
func jwtTest(t *testing.T) (v *vaultTest, ec *ecdsa.PrivateKey, rs *rsa.PrivateKey, shared []byte) {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if rs, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	shared = []byte("shared")
	return newVaultTest(VaultOptions{JWTRoles: []VaultJWTRole{
		{Name: "web", Key: &ec.PublicKey, Audiences: []string{"vault"}},
		{Name: "rsa", Key: &rs.PublicKey}, {Name: "shared", Key: shared, Subject: "me"},
		{Name: "pod", Key: &rs.PublicKey, Kubernetes: true},
	}}).as(""), ec, rs, shared
}

// later is a time of a JWT.
func later(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// jwt is a good one with some claims changed; nil takes one away.
func jwt(t *testing.T, signer any, change map[string]any) string {
	t.Helper()
	claims := map[string]any{"sub": "me", "aud": "vault", "iat": later(0), "nbf": later(0), "exp": later(10 * time.Minute)}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	token, err := SignJWT(signer, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

const (
	invalidJWT   = "error validating token: "
	unsignedJWT  = invalidJWT + "error verifying token signature: "
	signerOfNone = unsignedJWT + "no known key successfully validated the token signature"
)

func TestVaultJWT(t *testing.T) {
	v, ec, rs, shared := jwtTest(t)
	for _, c := range []struct {
		name, role string
		signer     any
		change     map[string]any
		status     int
		want       string
	}{
		{"good", "web", ec, nil, 200, ""},
		{"one of two audiences", "web", ec, map[string]any{"aud": []string{"x", "vault"}}, 200, ""},
		{"RSA", "rsa", rs, nil, 200, ""},
		{"a shared key", "shared", shared, nil, 200, ""},
		{"not yet, by 40 s", "web", ec, map[string]any{"nbf": later(40 * time.Second)}, 200, ""},
		{"not yet, by 200 s", "web", ec, map[string]any{"nbf": later(200 * time.Second)}, 400, invalidJWT + "invalid not before (nbf) claim: token not yet valid"},
		{"over, by 40 s", "web", ec, map[string]any{"exp": later(-40 * time.Second), "iat": later(-time.Hour), "nbf": nil}, 200, ""},
		{"over, by an hour", "web", ec, map[string]any{"exp": later(-time.Hour), "iat": later(-2 * time.Hour), "nbf": later(-2 * time.Hour)}, 400, invalidJWT + "invalid expiration time (exp) claim: token is expired"},
		{"without times", "web", ec, map[string]any{"exp": nil, "iat": nil, "nbf": nil}, 400, invalidJWT + "no issued at (iat), not before (nbf), or expiration time (exp) claims in token"},
		{"an end alone", "web", ec, map[string]any{"iat": nil, "nbf": nil}, 400, invalidJWT + "invalid not before (nbf) claim: token not yet valid"},
		{"a beginning alone", "web", ec, map[string]any{"exp": nil, "nbf": nil}, 200, ""},
		{"another audience", "web", ec, map[string]any{"aud": "x"}, 400, invalidJWT + "invalid audience (aud) claim: audience claim does not match any expected audience"},
		{"another subject", "shared", shared, map[string]any{"sub": "you"}, 400, invalidJWT + "invalid subject (sub) claim"},
		{"without subject", "web", ec, map[string]any{"sub": nil}, 400, `claim "sub" not found in token`},
		{"another key", "shared", []byte("other"), nil, 400, signerOfNone},
		{"another algorithm", "web", shared, nil, 400, signerOfNone},
		{"another role", "none", ec, nil, 400, `role "none" could not be found`},
		{"no role", "", ec, nil, 400, "missing role"},
	} {
		a := v.post(t, "auth/jwt/login", map[string]string{"role": c.role, "jwt": jwt(t, c.signer, c.change)})
		if c.want == "" {
			a.wants(t, c.name, c.status)
			continue
		}
		a.wants(t, c.name, c.status, c.want)
	}
}

func TestVaultJWTIsNone(t *testing.T) {
	v, _, rs, _ := jwtTest(t)
	for text, want := range map[string]string{
		"": "missing token", "garbage": unsignedJWT + "go-jose/go-jose: compact JWS format must have three parts", "!.b.c": unsignedJWT + "illegal base64 data at input byte 0",
	} {
		v.post(t, "auth/jwt/login", map[string]string{"role": "web", "jwt": text}).wants(t, text, 400, want)
	}
	pod := jwt(t, rs, nil)
	v.post(t, "auth/kubernetes/login", map[string]string{"role": "pod", "jwt": pod}).wants(t, "kubernetes", 200)
	v.post(t, "auth/kubernetes/login", map[string]string{"role": "pod", "jwt": pod + "x"}).wants(t, "a wrong one", 403, "permission denied")
	v.post(t, "auth/kubernetes/login", map[string]string{"role": "x", "jwt": pod}).wants(t, "no such role", 400, `invalid role name "x"`)
	if _, err := SignJWT("text", nil); err == nil {
		t.Error("a JWT was signed with a text")
	}
}

func TestVaultCert(t *testing.T) {
	pool := x509.NewCertPool()
	make := func(name string) *x509.Certificate {
		signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), SubjectKeyId: []byte{1, 171},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &signer.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	known, other := make("web01"), make("web02")
	pool.AddCert(known)
	v := newVaultTest(VaultOptions{CertRoles: []VaultCertRole{{Name: "named", CAs: pool, CommonNames: []string{"web09"}}, {Name: "web", CAs: pool}}}).as("")
	with := func(certificates ...*x509.Certificate) func(*http.Request) {
		return func(r *http.Request) { r.TLS = &tls.ConnectionState{PeerCertificates: certificates} }
	}
	refused := "invalid certificate or no client certificate supplied; additionally got errors during verification: <nil>"
	v.post(t, "auth/cert/login", nil).wants(t, "no TLS", 400, "tls connection required")
	v.spoil = with()
	v.post(t, "auth/cert/login", nil).wants(t, "no certificate", 400, "client certificate must be supplied")
	v.spoil = with(other)
	v.post(t, "auth/cert/login", nil).wants(t, "another certificate", 400, refused)
	v.spoil = with(known)
	v.post(t, "auth/cert/login", map[string]string{"name": "named"}).wants(t, "another name", 400, "no chain matching all constraints could be found for this login certificate")
	if a := v.post(t, "auth/cert/login", nil); a.status != 200 || a.Auth.Metadata["cert_name"] != "web" || a.Auth.Metadata["subject_key_id"] != "01:ab" {
		t.Errorf("good: %s", a.text)
	}
}

func TestVaultAWSLogin(t *testing.T) {
	known := &Keys{}
	v := newVaultTest(VaultOptions{Keys: known, AWSLogins: []VaultAWSLogin{{Name: "web", By: []string{"test_role"}, ServerID: "vault.example.com"}, {Name: "any"}}}).as("")
	session := func(role string) aws.Credentials {
		made := known.session(role, time.Now().Add(time.Hour))
		return aws.Credentials{AccessKeyID: made.id, SecretAccessKey: made.secret, SessionToken: made.token}
	}
	login := func(role string, keys aws.Credentials, server, form string) map[string]string {
		r, err := http.NewRequest(http.MethodPost, "https://sts.eu-central-1.amazonaws.com/", strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if server != "" {
			r.Header.Set("X-Vault-AWS-IAM-Server-ID", server)
		}
		digest := sha256.Sum256([]byte(form))
		if err := v4.NewSigner().SignHTTP(t.Context(), keys, r, hex.EncodeToString(digest[:]), "sts", "eu-central-1", time.Now()); err != nil {
			t.Fatal(err)
		}
		headers, err := json.Marshal(r.Header)
		if err != nil {
			t.Fatal(err)
		}
		code := base64.StdEncoding.EncodeToString
		return map[string]string{
			"role": role, "iam_http_request_method": "POST", "iam_request_url": code([]byte(r.URL.String())), "iam_request_body": code([]byte(form)), "iam_request_headers": code(headers),
		}
	}
	const form, server = "Action=GetCallerIdentity&Version=2011-06-15", "vault.example.com"
	wrong := session("test_role")
	wrong.SecretAccessKey = "x"
	good := login("any", session("test_role"), "", form)
	for name, c := range map[string]struct {
		body   map[string]string
		status int
		want   string
	}{
		"good":            {login("web", session("test_role"), server, form), 200, ""},
		"any keys":        {login("any", session("other"), "", form), 200, ""},
		"no header":       {login("web", session("test_role"), "", form), 400, `error validating X-Vault-AWS-IAM-Server-ID header: expected "vault.example.com" but got ""`},
		"another server":  {login("web", session("test_role"), "x", form), 400, "header: expected"},
		"another role":    {login("none", session("test_role"), server, form), 400, `entry for role "none" not found`},
		"other keys":      {login("web", session("other"), server, form), 400, "does not belong to the role"},
		"a wrong secret":  {login("any", wrong, "", form), 400, "SignatureDoesNotMatch"},
		"another action":  {login("any", session("test_role"), "", "Action=AssumeRole&Version=2011-06-15"), 400, "invalid request"},
		"another method":  {changed(good, "iam_http_request_method", "GET"), 400, "only 'POST' is supported"},
		"no URL":          {changed(good, "iam_request_url", ""), 400, "error parsing iam_request_url"},
		"a body in plain": {changed(good, "iam_request_body", form), 400, "failed to base64 decode iam_request_body"},
		"no headers":      {changed(good, "iam_request_headers", ""), 400, "missing iam_request_headers"},
	} {
		if a := v.post(t, "auth/aws/login", c.body); a.status != c.status || !strings.Contains(strings.Join(a.Errors, ""), c.want) {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
}

// changed is a copy with another value.
func changed(all map[string]string, name, value string) map[string]string {
	all = maps.Clone(all)
	all[name] = value
	return all
}

func TestVaultKerberos(t *testing.T) {
	v := newVaultTest(VaultOptions{KerberosFor: []VaultKerberos{{Negotiate: "YII"}}}).as("")
	header := func(text string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", text) }
	}
	v.spoil = header("Negotiate YII")
	v.post(t, "auth/kerberos/login", nil).wants(t, "good", 200)
	v.spoil = header("Negotiate YIX")
	if a := v.post(t, "auth/kerberos/login", nil); a.status != 401 || a.header.Get("Www-Authenticate") != "Negotiate" {
		t.Errorf("another ticket: %d %s", a.status, a.text)
	}
}

func TestVaultLoginFaults(t *testing.T) {
	v := newVaultTest(VaultOptions{Users: []VaultUser{{Name: "a", Password: "p"}, {Name: "mfa", Password: "p", VaultGrant: VaultGrant{MFA: true}}}})
	login := func(name string) vaultAnswer {
		return v.post(t, "auth/userpass/login/"+name, map[string]string{"password": "p"})
	}
	if a := login("mfa"); a.status != 200 || a.Auth.MFARequirement == nil || a.Auth.ClientToken != "" {
		t.Errorf("a user with a second factor: %s", a.text)
	}
	for _, fault := range []Fault{{Kind: MFA}, {Kind: Incomplete, On: Login}} {
		v.SetFaults(fault)
		if a := login("a"); a.status != 200 || a.Auth.ClientToken != "" || (a.Auth.MFARequirement != nil) != (fault.Kind == MFA) {
			t.Errorf("%s: %s", fault, a.text)
		}
	}
	v.SetFaults(Fault{Kind: Short, Time: time.Minute, On: Login}, Fault{Kind: Status, Status: 503, On: Token})
	if a := login("a"); a.Auth.LeaseDuration != 60 {
		t.Errorf("short: %s", a.text)
	}
	if got := v.Record().Logins["auth/userpass/login/a"]; got != 2 {
		t.Errorf("%d logins were granted", got)
	}
}
