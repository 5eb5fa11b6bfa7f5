package mock

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A Provider is an issuer of OpenID Connect that an account knows, and the audience
// that tokens must be for.
type Provider struct{ Issuer, Audience string }

// An identity is what a token says of its bearer.
type identity struct {
	issuer, subject, audience string
	ends                      time.Time
}

// issuerTime bounds how long an issuer may take.
const issuerTime = 5 * time.Second

// identify verifies a token by the keys that its issuer publishes now, as STS does, and
// by a clock.
func identify(ctx context.Context, providers []Provider, token string, now time.Time) (identity, *awsError) {
	header, claims, signed, signature, err := parseToken(token)
	if err != nil {
		return identity{}, badToken("The ID Token provided is not a valid JWT")
	}
	who := identity{claims.Issuer, claims.Subject, "", time.Unix(claims.Expires, 0)}
	known := slices.IndexFunc(providers, func(p Provider) bool { return p.Issuer == claims.Issuer })
	if known < 0 {
		return who, badToken("No OpenIDConnect provider found in your account for " + claims.Issuer)
	}
	if !slices.Contains(claims.Audience, providers[known].Audience) {
		return who, badToken("Incorrect token audience")
	}
	who.audience = providers[known].Audience
	ctx, cancel := context.WithTimeout(ctx, issuerTime)
	defer cancel()
	keys, err := publishedKeys(ctx, claims.Issuer)
	if err != nil {
		return who, &awsError{http.StatusBadRequest, "IDPCommunicationError", "Couldn't retrieve verification key from your identity provider"}
	}
	digest := sha256.Sum256([]byte(signed))
	if !slices.ContainsFunc(keys, func(k webKey) bool { return k.ID == header.ID && k.verifies(header.Algorithm, digest[:], signature) }) {
		return who, badToken("Couldn't verify the signature of the token")
	}
	if !now.Before(who.ends) {
		return who, &awsError{http.StatusBadRequest, "ExpiredTokenException", "Token expired"}
	}
	return who, nil
}

func badToken(message string) *awsError {
	return &awsError{http.StatusBadRequest, "InvalidIdentityToken", message}
}

type tokenHeader struct {
	Algorithm string `json:"alg"`
	ID        string `json:"kid"`
}

type tokenClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expires  int64    `json:"exp"`
}

// An audience is one text or a list of them.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

func parseToken(token string) (h tokenHeader, c tokenClaims, signed string, signature []byte, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return h, c, "", nil, errors.New("not three parts")
	}
	signature, err = base64.RawURLEncoding.DecodeString(parts[2])
	return h, c, parts[0] + "." + parts[1], signature, errors.Join(err, decodeJSON(parts[0], &h), decodeJSON(parts[1], &c))
}

func decodeJSON(part string, into any) error {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// A webKey is one key of a JSON Web Key Set (RFC 7517).
type webKey struct {
	ID    string `json:"kid"`
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	X     string `json:"x"`
	Y     string `json:"y"`
	N     string `json:"n"`
	E     string `json:"e"`
}

// verifies checks a signature (RFC 7518) of RS256 or ES256.
func (k webKey) verifies(algorithm string, digest, signature []byte) bool {
	number := func(text string) *big.Int {
		b, _ := base64.RawURLEncoding.DecodeString(text) // what is not a number verifies nothing
		return new(big.Int).SetBytes(b)
	}
	switch {
	case algorithm == "RS256" && k.Type == "RSA":
		e := number(k.E)
		if !e.IsInt64() || e.Int64() > 1<<31-1 {
			return false
		}
		return rsa.VerifyPKCS1v15(&rsa.PublicKey{N: number(k.N), E: int(e.Int64())}, crypto.SHA256, digest, signature) == nil
	case algorithm == "ES256" && k.Type == "EC" && k.Curve == "P-256" && len(signature) == 64:
		point := append([]byte{4}, append(number(k.X).FillBytes(make([]byte, 32)), number(k.Y).FillBytes(make([]byte, 32))...)...)
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil {
			return false
		}
		return ecdsa.Verify(key, digest, new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	}
	return false
}

// publishedKeys asks an issuer for its keys.
func publishedKeys(ctx context.Context, issuer string) ([]webKey, error) {
	var discovered struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := getJSON(ctx, strings.TrimRight(issuer, "/")+discoveryPath, &discovered); err != nil {
		return nil, err
	}
	if discovered.Issuer != issuer {
		return nil, fmt.Errorf("the issuer calls itself %q", discovered.Issuer)
	}
	var set struct{ Keys []webKey }
	err := getJSON(ctx, discovered.Keys, &set)
	return set.Keys, err
}

func getJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", res.Status)
	}
	return json.NewDecoder(io.LimitReader(res.Body, maxForm)).Decode(into)
}
