package mock

import (
	"crypto/ecdsa"
	"net/http"
	"time"
)

// Where an issuer of OpenID Connect publishes what verifies its tokens.
const (
	discoveryPath = "/.well-known/openid-configuration"
	keysPath      = "/keys"
)

// An Issuer signs tokens and publishes its key, as an OpenID Connect provider does. It
// is an http.Handler, and safe for concurrent use.
type Issuer struct{ key *ecdsa.PrivateKey }

// NewIssuer makes an issuer with a key of its own.
func NewIssuer() *Issuer { return &Issuer{newSigner()} }

// ServeHTTP implements http.Handler.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	url := "http://" + r.Host
	switch r.URL.Path {
	case discoveryPath:
		writeJSON(w, map[string]any{"issuer": url, "jwks_uri": url + keysPath, "id_token_signing_alg_values_supported": []string{"ES256"}})
	case keysPath:
		writeJSON(w, publish(i.key))
	default:
		http.NotFound(w, r)
	}
}

// Token signs a token that the issuer at a URL gives to a subject for an audience.
func (i *Issuer) Token(url, subject, audience string, ends time.Time) string {
	token, err := SignJWT(i.key, map[string]any{
		"iss": url, "sub": subject, "aud": audience, "iat": time.Now().Unix(), "exp": ends.Unix(), "jti": secret(40),
	})
	if err != nil {
		panic(err) // the key is our own, and the claims are texts and numbers
	}
	return token
}
