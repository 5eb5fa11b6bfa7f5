package mock

import (
	"crypto/x509"
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
func (v *Vault) login(c *vaultCall, grant VaultGrant, display string) (*envelope, *vaultError) {
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
	env.Auth = t.auth()
	if grant.MaxTTL > 0 && grant.TTL > grant.MaxTTL {
		env.Warnings = []string{"TTL of \"" + short(grant.TTL) + "\" exceeded the effective max_ttl of \"" + short(grant.MaxTTL) + "\"; TTL value is capped accordingly"}
	}
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
	if at < 0 || v.o.Users[at].Password != c.text("password") {
		if v.mounts[c.mount].kind == "ldap" {
			return nil, refuse(http.StatusBadRequest, "ldap operation failed: failed to bind as user")
		}
		return nil, refuse(http.StatusBadRequest, "invalid username or password")
	}
	return v.login(c, v.o.Users[at].VaultGrant, path.Base(c.mount)+"-"+name)
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
	for _, role := range v.o.CertRoles {
		if role.Mount != c.mount || c.text("name") != "" && c.text("name") != role.Name {
			continue
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: role.CAs, Intermediates: between, CurrentTime: c.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err == nil && (len(role.CommonNames) == 0 || slices.Contains(role.CommonNames, leaf.Subject.CommonName)) {
			return v.login(c, role.VaultGrant, path.Base(c.mount)+"-"+leaf.Subject.CommonName)
		}
	}
	return nil, refuse(http.StatusBadRequest, "invalid certificate or no client certificate supplied")
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
	return v.login(c, v.o.KerberosFor[at].VaultGrant, path.Base(c.mount))
}
