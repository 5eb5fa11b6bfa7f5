package mock

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
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
	presented, err := parseJWT(token)
	if err != nil {
		return identity{}, badToken("The ID Token provided is not a valid JWT")
	}
	claims, err := presented.claims()
	if err != nil {
		return identity{}, badToken("The ID Token provided is not a valid JWT")
	}
	who := identity{claims.Issuer, claims.Subject, "", claims.Expires.at()}
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
	if !slices.ContainsFunc(keys, func(k webKey) bool { return k.ID == presented.keyID && presented.verifies(k.public()) }) {
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
	var set webKeySet
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
