package mock

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// jwtKeyID is the name of the one key that somebody here signs with.
const jwtKeyID = "purser-mock"

// SignJWT makes a JSON Web Token with a key: []byte for HS256, *ecdsa.PrivateKey of
// P-256 for ES256, *rsa.PrivateKey for RS256.
func SignJWT(signer any, claims map[string]any) (string, error) {
	header := map[string]string{"typ": "JWT", "kid": jwtKeyID}
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
	text := encode(first) + "." + encode(second)
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
	return text + "." + encode(signed), nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// newSigner makes a key for ES256.
func newSigner() *ecdsa.PrivateKey {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // it cannot fail with this curve and source
	}
	return signer
}

// A webToken is a JSON Web Token that nobody has verified yet.
type webToken struct {
	algorithm, keyID string
	signed           string
	signature        []byte
	payload          []byte
}

// parseJWT takes a token apart.
func parseJWT(text string) (t webToken, err error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return t, errors.New("go-jose/go-jose: compact JWS format must have three parts")
	}
	var pieces [3][]byte
	for i, part := range parts {
		if pieces[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return t, err
		}
	}
	var header struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
	}
	if json.Unmarshal(pieces[0], &header) != nil {
		header.Algorithm = "" // which no key has
	}
	return webToken{header.Algorithm, header.KeyID, parts[0] + "." + parts[1], pieces[2], pieces[1]}, nil
}

// verifies reports whether the token is signed with a key, whose kind says the
// algorithm (RFC 7518).
func (t webToken) verifies(key any) bool {
	digest := sha256.Sum256([]byte(t.signed))
	switch key := key.(type) {
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(t.signed))
		return t.algorithm == "HS256" && hmac.Equal(t.signature, mac.Sum(nil))
	case *ecdsa.PublicKey:
		return t.algorithm == "ES256" && len(t.signature) == 64 &&
			ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(t.signature[:32]), new(big.Int).SetBytes(t.signature[32:]))
	case *rsa.PublicKey:
		return t.algorithm == "RS256" && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], t.signature) == nil
	}
	return false
}

// jwtClaims are those that are looked at.
type jwtClaims struct {
	Issuer    string      `json:"iss"`
	Subject   string      `json:"sub"`
	Audience  jwtAudience `json:"aud"`
	Expires   jwtTime     `json:"exp"`
	NotBefore jwtTime     `json:"nbf"`
	IssuedAt  jwtTime     `json:"iat"`
}

func (t webToken) claims() (c jwtClaims, err error) { return c, json.Unmarshal(t.payload, &c) }

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

// A webKey is one key of a JSON Web Key Set (RFC 7517).
type webKey struct {
	ID    string `json:"kid"`
	Type  string `json:"kty"`
	Use   string `json:"use,omitempty"`
	Code  string `json:"alg,omitempty"`
	Curve string `json:"crv,omitempty"`
	X     string `json:"x,omitempty"`
	Y     string `json:"y,omitempty"`
	N     string `json:"n,omitempty"`
	E     string `json:"e,omitempty"`
}

// A webKeySet is how keys are published.
type webKeySet struct {
	Keys []webKey `json:"keys"`
}

// publish is the set of what verifies the tokens of a signer.
func publish(signer *ecdsa.PrivateKey) webKeySet {
	point, err := signer.PublicKey.Bytes() // 4, x, y
	if err != nil {
		panic(err) // the key is our own
	}
	return webKeySet{[]webKey{{ID: jwtKeyID, Type: "EC", Use: "sig", Code: "ES256", Curve: "P-256", X: encode(point[1:33]), Y: encode(point[33:])}}}
}

// public is the key that verifies RS256 or ES256, nil for any other.
func (k webKey) public() any {
	number := func(text string) *big.Int {
		b, _ := base64.RawURLEncoding.DecodeString(text) // what is not a number verifies nothing
		return new(big.Int).SetBytes(b)
	}
	switch {
	case k.Type == "RSA":
		if e := number(k.E); e.IsInt64() && e.Int64() < 1<<31 {
			return &rsa.PublicKey{N: number(k.N), E: int(e.Int64())}
		}
	case k.Type == "EC" && k.Curve == "P-256":
		x, y := number(k.X), number(k.Y)
		if max(x.BitLen(), y.BitLen()) > 256 {
			return nil
		}
		point := append([]byte{4}, append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...)...)
		if key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err == nil {
			return key
		}
	}
	return nil
}
