package mock

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"path"
	"slices"
	"strings"
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

// SignJWT makes a JSON Web Token with a key: []byte for HS256, *ecdsa.PrivateKey of
// P-256 for ES256, *rsa.PrivateKey for RS256.
func SignJWT(signer any, claims map[string]any) (string, error) {
	header := map[string]string{"typ": "JWT", "kid": "purser-mock"}
	switch signer.(type) {
	case []byte:
		header["alg"] = "HS256"
	case *ecdsa.PrivateKey:
		header["alg"] = "ES256"
	case *rsa.PrivateKey:
		header["alg"] = "RS256"
	default:
		return "", fmt.Errorf("a JWT cannot be signed with a %T", signer)
	}
	first, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	second, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(first) + "." + base64.RawURLEncoding.EncodeToString(second)
	digest := sha256.Sum256([]byte(text))
	var signed []byte
	switch key := signer.(type) {
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		signed = mac.Sum(nil)
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			return "", err
		}
		signed = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case *rsa.PrivateKey:
		if signed, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:]); err != nil {
			return "", err
		}
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signed), nil
}

// jwtClaims are those that are looked at.
type jwtClaims struct {
	Subject   string      `json:"sub"`
	Audience  jwtAudience `json:"aud"`
	Expires   jwtTime     `json:"exp"`
	NotBefore jwtTime     `json:"nbf"`
	IssuedAt  jwtTime     `json:"iat"`
}

// A jwtTime is a number of seconds; zero for none.
type jwtTime float64

func (t jwtTime) at() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t), 0)
}

// A jwtAudience is one text or a list.
type jwtAudience []string

// UnmarshalJSON takes both.
func (a *jwtAudience) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = jwtAudience{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}

// openJWT verifies the signature with a key, whose kind says the algorithm, and
// returns the claims.
func openJWT(text string, key any) (jwtClaims, error) {
	var claims jwtClaims
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return claims, errors.New("error verifying token signature: go-jose/go-jose: compact JWS format must have three parts")
	}
	var pieces [3][]byte
	for i, part := range parts {
		var err error
		if pieces[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return claims, fmt.Errorf("error verifying token signature: %w", err)
		}
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	if json.Unmarshal(pieces[0], &header) != nil || !signedWell(header.Algorithm, parts[0]+"."+parts[1], pieces[2], key) {
		return claims, errors.New("error verifying token signature: no known key successfully validated the token signature")
	}
	return claims, json.Unmarshal(pieces[1], &claims)
}

func signedWell(algorithm, text string, signed []byte, key any) bool {
	digest := sha256.Sum256([]byte(text))
	switch key := key.(type) {
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		return algorithm == "HS256" && hmac.Equal(signed, mac.Sum(nil))
	case *ecdsa.PublicKey:
		return algorithm == "ES256" && len(signed) == 64 &&
			ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signed[:32]), new(big.Int).SetBytes(signed[32:]))
	case *rsa.PublicKey:
		return algorithm == "RS256" && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signed) == nil
	}
	return false
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
