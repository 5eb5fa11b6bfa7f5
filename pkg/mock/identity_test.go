package mock

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// withToken is a call with a token and all else that it needs.
func withToken(token string) url.Values {
	form := demo()
	form.Set("Action", withIdentity)
	form.Set("WebIdentityToken", token)
	return form
}

func askWithToken(s *STS, form url.Values) (int, string) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "http://sts.example.com/", strings.NewReader(form.Encode())))
	return w.Code, w.Body.String()
}

func TestSTSVerifiesTokensByTheKeysOfTheirIssuer(t *testing.T) {
	issuer, other := NewIssuer(), NewIssuer()
	server := httptest.NewServer(issuer)
	t.Cleanup(server.Close)
	gone := httptest.NewServer(issuer)
	gone.Close()
	named := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = strings.TrimPrefix(server.URL, "http://") // calls itself by another's name
		issuer.ServeHTTP(w, r)
	}))
	t.Cleanup(named.Close)
	s := NewSTS(STSOptions{
		Keys:  &Keys{},
		Roles: []STSRole{{ARN: "arn:aws:iam::123456789012:role/demo", By: []string{"web01"}}},
		Providers: []Provider{
			{server.URL, "aws"}, {gone.URL, "aws"}, {named.URL, "aws"},
		},
	})
	later := time.Now().Add(time.Hour)
	good := issuer.Token(server.URL, "web01", "aws", later)
	part := func(n int) string { return strings.Split(good, ".")[n] }
	for _, c := range []struct {
		name, token, want string
	}{
		{"good", good, "<Provider>" + server.URL + "</Provider><Audience>aws</Audience>"},
		{"over", issuer.Token(server.URL, "web01", "aws", time.Now().Add(-time.Second)), "ExpiredTokenException"},
		{"another audience", issuer.Token(server.URL, "web01", "vault", later), "InvalidIdentityToken"},
		{"another issuer", issuer.Token("https://example.invalid", "web01", "aws", later), "InvalidIdentityToken"},
		{"another key", other.Token(server.URL, "web01", "aws", later), "InvalidIdentityToken"},
		{"another subject", issuer.Token(server.URL, "db01", "aws", later), "AccessDenied"},
		{"an issuer that is gone", issuer.Token(gone.URL, "web01", "aws", later), "IDPCommunicationError"},
		{"an issuer of another name", issuer.Token(named.URL, "web01", "aws", later), "IDPCommunicationError"},
		{"no signature", part(0) + "." + part(1) + ".", "InvalidIdentityToken"},
		{"no algorithm", encode([]byte(`{"alg":"none"}`)) + "." + part(1) + ".", "InvalidIdentityToken"},
		{"other claims", part(0) + "." + encode(fmt.Appendf(nil, `{"iss":%q,"aud":"aws","sub":"web01","exp":%d}`, server.URL, later.Unix())) + "." + part(2), "InvalidIdentityToken"},
		{"no token", "nonsense", "InvalidIdentityToken"},
		{"a blank in it", good + " ", "ValidationError"},
	} {
		if _, got := askWithToken(s, withToken(c.token)); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	form := withToken(good)
	form.Set("ExternalId", "ext")
	if _, got := askWithToken(s, form); !strings.Contains(got, "ValidationError") {
		t.Errorf("a parameter of AssumeRole passes: %s", got)
	}
	if calls := s.Assumptions(); len(calls) != 2 || calls[0].By != "web01" || calls[0].Key != "" || calls[1].Code != "AccessDenied" {
		t.Errorf("got the calls %+v", calls)
	}
}

// TestSTSVerifiesTokensOfVault, which are signed by RSA and may be for several.
func TestSTSVerifiesTokensOfVault(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, discoveryPath) {
			writeJSON(w, map[string]string{"issuer": server.URL + "/v1/identity/oidc", "jwks_uri": server.URL + "/jwks"})
			return
		}
		writeJSON(w, map[string]any{"keys": []map[string]string{
			{"kty": "oct", "kid": jwtKeyID},
			{"kty": "RSA", "kid": jwtKeyID, "n": encode(key.N.Bytes()), "e": encode(big.NewInt(int64(key.E)).Bytes())},
		}})
	}))
	t.Cleanup(server.Close)
	issuer := server.URL + "/v1/identity/oidc"
	s := NewSTS(STSOptions{Keys: &Keys{}, Providers: []Provider{{issuer, "aws"}}})
	token, err := SignJWT(key, map[string]any{"iss": issuer, "sub": "entity", "aud": []string{"x", "aws"}, "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	if code, got := askWithToken(s, withToken(token)); code != http.StatusOK {
		t.Errorf("got %d %s", code, got)
	}
	wrong := []byte(token)
	if at := len(wrong) - 100; wrong[at] == 'A' {
		wrong[at] = 'B'
	} else {
		wrong[at] = 'A'
	}
	if _, got := askWithToken(s, withToken(string(wrong))); !strings.Contains(got, "verify the signature") {
		t.Errorf("a wrong signature: got %s", got)
	}
}
