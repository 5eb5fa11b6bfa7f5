package mock

import (
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// A VaultUser logs in with a name and a password, at userpass or LDAP.
type VaultUser struct {
	Mount    string // auth/userpass or auth/ldap if empty
	LDAP     bool
	Name     string
	Password string
	VaultGrant
}

// A VaultCertRole logs in with the client certificate of the connection.
type VaultCertRole struct {
	Mount string // auth/cert if empty
	Name  string
	CAs   *x509.CertPool
	// CommonNames, of which the certificate must have one; any if empty.
	CommonNames []string
	VaultGrant
}

// A VaultKerberos logs in with a SPNEGO token, which is compared and not understood.
type VaultKerberos struct {
	Mount     string // auth/kerberos if empty
	Negotiate string // what comes after Negotiate in the header Authorization
	VaultGrant
}

// login hands out the token of a grant, as all methods do.
func (v *Vault) login(c *vaultCall, grant VaultGrant, display string, meta map[string]string) (*envelope, *vaultError) {
	env := with(nil)
	if grant.MFA || c.hits.has(MFA) {
		env.Auth = &vaultAuth{Policies: []string{}, MFARequirement: map[string]any{
			"mfa_request_id":  vaultID(),
			"mfa_constraints": map[string]any{"purser": map[string]any{"any": []any{map[string]any{"type": "totp", "id": vaultID(), "uses_passcode": true}}}},
		}}
		return env, nil
	}
	namespace := v.namespaceOf(c.mount)
	t := v.newToken(grant, namespace, c.now)
	t.path, t.display, t.orphan = c.path, display, true
	t.meta = maps.Clone(meta)
	maps.Copy(t.meta, grant.Meta)
	env.Auth, env.Warnings = t.auth(), t.warnings()
	v.record.Logins[c.namespace+c.path]++
	if brief, ok := c.hits.find(Short); ok {
		t.ttl, t.ends = brief.Time, c.now.Add(brief.Time)
		env.Auth.LeaseDuration = int64(brief.Time / time.Second)
	}
	if lease, ok := c.hits.find(Lease); ok {
		env.Auth.LeaseDuration = int64(lease.Time / time.Second)
	}
	if c.hits.has(Incomplete) {
		env.Auth.ClientToken = ""
	}
	return env, nil
}

// passwordLogin answers login/NAME of userpass and LDAP.
func (v *Vault) passwordLogin(c *vaultCall) (*envelope, *vaultError) {
	name, ok := strings.CutPrefix(c.below, "login/")
	if !ok {
		return nil, errPath
	}
	if refusal := c.only(canUpdate); refusal != nil {
		return nil, refusal
	}
	at := slices.IndexFunc(v.o.Users, func(u VaultUser) bool { return u.Mount == c.mount && u.Name == name })
	if c.text("password") == "" {
		return nil, refuse(http.StatusInternalServerError, "missing password")
	}
	if at < 0 || v.o.Users[at].Password != c.text("password") {
		if v.mounts[c.mount].kind == "ldap" {
			return nil, refuse(http.StatusBadRequest, "ldap operation failed: failed to bind as user")
		}
		return nil, refuse(http.StatusBadRequest, "invalid username or password")
	}
	return v.login(c, v.o.Users[at].VaultGrant, path.Base(c.mount)+"-"+name, map[string]string{"username": name})
}

// certLogin looks at the certificate of the connection. In a test of the handler it is
// Request.TLS that has it.
func (v *Vault) certLogin(c *vaultCall) (*envelope, *vaultError) {
	if c.below != "login" {
		return nil, errPath
	}
	if refusal := c.only(canUpdate); refusal != nil {
		return nil, refusal
	}
	if c.r.TLS == nil {
		return nil, refuse(http.StatusBadRequest, "tls connection required")
	}
	if len(c.r.TLS.PeerCertificates) == 0 {
		return nil, refuse(http.StatusBadRequest, "client certificate must be supplied")
	}
	leaf, between := c.r.TLS.PeerCertificates[0], x509.NewCertPool()
	for _, one := range c.r.TLS.PeerCertificates[1:] {
		between.AddCert(one)
	}
	refusal := refuse(http.StatusBadRequest, "invalid certificate or no client certificate supplied; additionally got errors during verification: <nil>")
	for _, role := range v.o.CertRoles {
		if role.Mount != c.mount || c.text("name") != "" && c.text("name") != role.Name {
			continue
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: role.CAs, Intermediates: between, CurrentTime: c.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		switch {
		case err != nil:
		case len(role.CommonNames) == 0 || slices.Contains(role.CommonNames, leaf.Subject.CommonName):
			return v.login(c, role.VaultGrant, path.Base(c.mount)+"-"+role.Name, certMeta(role.Name, leaf))
		default:
			refusal = refuse(http.StatusBadRequest, "no chain matching all constraints could be found for this login certificate")
		}
	}
	return nil, refusal
}

// certMeta is what a token of a certificate tells of it.
func certMeta(role string, leaf *x509.Certificate) map[string]string {
	return map[string]string{
		"cert_name": role, "common_name": leaf.Subject.CommonName, "serial_number": leaf.SerialNumber.String(),
		"subject_key_id": colons(leaf.SubjectKeyId), "authority_key_id": colons(leaf.AuthorityKeyId),
	}
}

// colons prints bytes as 01:02:03.
func colons(b []byte) string {
	return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":")
}

// kerberosLogin compares the Negotiate header.
func (v *Vault) kerberosLogin(c *vaultCall) (*envelope, *vaultError) {
	if c.below != "login" {
		return nil, errPath
	}
	given, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Negotiate ")
	at := slices.IndexFunc(v.o.KerberosFor, func(k VaultKerberos) bool { return k.Mount == c.mount && k.Negotiate == given })
	if !ok || at < 0 {
		refusal := refuse(http.StatusUnauthorized, "Unauthorized")
		refusal.header = http.Header{"Www-Authenticate": {"Negotiate"}}
		return nil, refusal
	}
	return v.login(c, v.o.KerberosFor[at].VaultGrant, path.Base(c.mount), map[string]string{})
}
