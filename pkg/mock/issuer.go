package mock

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
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
type Issuer struct {
	key *ecdsa.PrivateKey
	id  string
}

// NewIssuer makes an issuer with a key of its own.
func NewIssuer() *Issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // the system has no randomness
	}
	return &Issuer{key, rand.Text()}
}

// ServeHTTP implements http.Handler.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	url := "http://" + r.Host
	switch r.URL.Path {
	case discoveryPath:
		writeJSON(w, map[string]any{"issuer": url, "jwks_uri": url + keysPath, "id_token_signing_alg_values_supported": []string{"ES256"}})
	case keysPath:
		point, err := i.key.PublicKey.Bytes() // 4, x, y
		if err != nil {
			http.Error(w, "no key", http.StatusInternalServerError)
			return
		}
		writeJSON(w, map[string]any{"keys": []map[string]string{{
			"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": i.id, "x": encode(point[1:33]), "y": encode(point[33:]),
		}}})
	default:
		http.NotFound(w, r)
	}
}

// Token signs a token that the issuer at a URL gives to a subject for an audience.
func (i *Issuer) Token(url, subject, audience string, ends time.Time) string {
	claims := map[string]any{
		"iss": url, "sub": subject, "aud": audience, "iat": time.Now().Unix(), "exp": ends.Unix(), "jti": secret(40),
	}
	text := encodeJSON(map[string]any{"alg": "ES256", "typ": "JWT", "kid": i.id}) + "." + encodeJSON(claims)
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	if err != nil {
		panic(err) // the key is our own
	}
	return text + "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func encodeJSON(value any) string {
	b, err := json.Marshal(value)
	if err != nil {
		panic(err) // maps of texts and numbers only
	}
	return encode(b)
}
