package mock

import (
	"cmp"
	"crypto/ecdsa"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A VaultOIDCRole makes identity tokens below identity/oidc/token/.
type VaultOIDCRole struct {
	Mount    string // identity if empty
	Name     string
	ClientID string        // the audience
	Subject  string        // the entity of the caller's token if empty
	Issuer   string        // as the caller addressed this server if empty
	TTL      time.Duration // a day if zero
}

// issuer is the URL of an identity engine, as the caller addressed it.
func (c *vaultCall) issuer() string {
	scheme := "http://"
	if c.r.TLS != nil {
		scheme = "https://"
	}
	return scheme + c.r.Host + "/v1/" + c.mount + "oidc"
}

// identity answers oidc/token/NAME, and what verifies such tokens below
// oidc/.well-known/.
func (v *Vault) identity(c *vaultCall) (*envelope, *vaultError) {
	if refusal := c.only(canRead); refusal != nil {
		return nil, refusal
	}
	name, ok := strings.CutPrefix(c.below, "oidc/token/")
	switch {
	case c.below == "oidc/.well-known/keys":
		env := with(map[string]any{"keys": publish(v.signer).Keys})
		env.bare = true
		return env, nil
	case c.below == "oidc/.well-known/openid-configuration":
		env := with(map[string]any{
			"issuer": c.issuer(), "jwks_uri": c.issuer() + "/.well-known/keys", "response_types_supported": []string{"id_token"},
			"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"},
		})
		env.bare = true
		return env, nil
	case !ok:
		return nil, errPath
	}
	at := slices.IndexFunc(v.o.OIDCRoles, func(r VaultOIDCRole) bool { return r.Mount == c.mount && r.Name == name })
	if at < 0 || c.hits.has(Vanished) {
		return nil, refuse(http.StatusBadRequest, "role %q not found", name)
	}
	role := v.o.OIDCRoles[at]
	ttl := cmp.Or(role.TTL, 24*time.Hour)
	if brief, ok := c.hits.find(Short); ok {
		ttl = brief.Time
	}
	subject := cmp.Or(role.Subject, c.token.entity)
	if subject == "" {
		return nil, refuse(http.StatusBadRequest, "no entity associated with the request's token")
	}
	token, err := SignJWT(v.signer, map[string]any{
		"iss": cmp.Or(role.Issuer, c.issuer()), "aud": role.ClientID, "sub": subject, "iat": c.now.Unix(), "exp": c.now.Add(ttl).Unix(), "namespace": "root",
	})
	if err != nil {
		return nil, refuse(http.StatusInternalServerError, "%v", err)
	}
	v.record.Reads[c.namespace+c.path]++
	return with(map[string]any{"client_id": role.ClientID, "token": token, "ttl": int64(ttl / time.Second)}), nil
}

// IdentityKey is the key that verifies the tokens of OIDC roles.
func (v *Vault) IdentityKey() *ecdsa.PublicKey { return &v.signer.PublicKey }
