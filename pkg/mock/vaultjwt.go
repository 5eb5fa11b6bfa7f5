package mock

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"time"
)

// A VaultJWTRole logs in with a JSON Web Token: at jwt, or at kubernetes with the
// token of a service account.
type VaultJWTRole struct {
	Mount      string // auth/jwt or auth/kubernetes if empty
	Kubernetes bool
	Name       string
	Key        any      // verifies: []byte for HS256, *ecdsa.PublicKey for ES256, *rsa.PublicKey for RS256
	Audiences  []string // the token must be for one of them, if there are any
	Subject    string   // the token must have it, if not empty
	VaultGrant
}

const (
	jwtLeeway = time.Minute       // how far the clocks may differ
	jwtLife   = 150 * time.Second // of a token that does not tell both of its times
)

// openJWT verifies a token and returns its claims.
func openJWT(text string, key any) (jwtClaims, error) {
	token, err := parseJWT(text)
	if err != nil {
		return jwtClaims{}, fmt.Errorf("error verifying token signature: %w", err)
	}
	if !token.verifies(key) {
		return jwtClaims{}, errors.New("error verifying token signature: no known key successfully validated the token signature")
	}
	return token.claims()
}

// check holds the claims against a role and a clock.
func (j jwtClaims) check(role VaultJWTRole, now time.Time) error {
	switch {
	case role.Subject != "" && role.Subject != j.Subject:
		return errors.New("invalid subject (sub) claim")
	case len(role.Audiences) > 0 && !slices.ContainsFunc(role.Audiences, func(one string) bool { return slices.Contains(j.Audience, one) }):
		return errors.New("invalid audience (aud) claim: audience claim does not match any expected audience")
	}
	begins, ends, issued := j.NotBefore.at(), j.Expires.at(), j.IssuedAt.at()
	if begins.IsZero() && ends.IsZero() && issued.IsZero() {
		return errors.New("no issued at (iat), not before (nbf), or expiration time (exp) claims in token")
	}
	// A missing time follows from the others.
	if ends.IsZero() {
		ends = issued.Add(jwtLife)
		if issued.Before(begins) {
			ends = begins.Add(jwtLife)
		}
	}
	switch {
	case begins.IsZero() && issued.IsZero():
		begins = ends.Add(-jwtLife)
	case begins.IsZero():
		begins = issued
	}
	switch {
	case now.Add(jwtLeeway).Before(begins):
		return errors.New("invalid not before (nbf) claim: token not yet valid")
	case !now.Add(-jwtLeeway).Before(ends):
		return errors.New("invalid expiration time (exp) claim: token is expired")
	case now.Add(jwtLeeway).Before(issued):
		return errors.New("invalid issued at (iat) claim: token issued in the future")
	}
	return nil
}

// jwtLogin answers login at jwt and kubernetes.
func (v *Vault) jwtLogin(c *vaultCall) (*envelope, *vaultError) {
	if c.below != "login" {
		return nil, errPath
	}
	if refusal := c.only(canUpdate); refusal != nil {
		return nil, refusal
	}
	kubernetes := v.mounts[c.mount].kind == "kubernetes"
	name := c.text("role")
	at := slices.IndexFunc(v.o.JWTRoles, func(r VaultJWTRole) bool { return r.Mount == c.mount && r.Name == name })
	switch {
	case name == "":
		return nil, refuse(http.StatusBadRequest, "missing role")
	case at < 0 && kubernetes:
		return nil, refuse(http.StatusBadRequest, "invalid role name %q", name)
	case at < 0:
		return nil, refuse(http.StatusBadRequest, "role %q could not be found", name)
	case c.text("jwt") == "" && kubernetes:
		return nil, refuse(http.StatusBadRequest, "missing jwt")
	case c.text("jwt") == "":
		return nil, refuse(http.StatusBadRequest, "missing token")
	}
	role := v.o.JWTRoles[at]
	claims, err := openJWT(c.text("jwt"), role.Key)
	if err == nil {
		err = claims.check(role, c.now)
	}
	switch {
	case err != nil && kubernetes:
		return nil, errDenied
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "error validating token: %v", err)
	case claims.Subject == "" && !kubernetes:
		return nil, refuse(http.StatusBadRequest, "claim \"sub\" not found in token")
	}
	return v.login(c, role.VaultGrant, path.Base(c.mount)+"-"+claims.Subject, map[string]string{"role": name})
}
