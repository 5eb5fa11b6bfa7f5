package mock

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	testAnchor  = "arn:aws:rolesanywhere:us-west-2:111122223333:trust-anchor/t"
	testProfile = "arn:aws:rolesanywhere:us-west-2:111122223333:profile/p"
	testARN     = "arn:aws:iam::111122223333:role/r"
)

// sessionRequest is a CreateSession call without a signature.
func sessionRequest(body string) *http.Request {
	query := url.Values{"profileArn": {testProfile}, "roleArn": {testARN}, "trustAnchorArn": {testAnchor}}
	r := httptest.NewRequest(http.MethodPost, "https://rolesanywhere.us-west-2.amazonaws.com/sessions?"+query.Encode(), strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// TestToSignTheVectors whose digests were computed by the rules of AWS's documentation.
func TestToSignTheVectors(t *testing.T) {
	const body = `{"durationSeconds":3600}`
	for chain, want := range map[string]string{
		"":                 "f432e631f11355b6ebd74d1cc2aa8e5a78283b95e1ddf2860b81fa92cd2e330b",
		"SW50ZXJtZWRpYXRl": "dcd69ac6932c7c6eb7565c4b801c4775637259b924562ea2d970193c360d526f",
	} {
		r := sessionRequest(body)
		r.Header.Set("X-Amz-Date", "20240102T030405Z")
		r.Header.Set("X-Amz-X509", "TUlJRXhhbXBsZUNlcnQ=")
		s := signature{scope: []string{"20240102", "us-west-2", "rolesanywhere", "aws4_request"}, headers: []string{"content-type", "host", "x-amz-date", "x-amz-x509"}}
		if chain != "" {
			r.Header.Set("X-Amz-X509-Chain", chain)
			s.headers = append(s.headers, "x-amz-x509-chain")
		}
		if got := sum([]byte(toSign(r, []byte(body), s, "AWS4-X509-RSA-SHA256"))); got != want {
			t.Errorf("chain %q: got %s, want %s", chain, got, want)
		}
	}
}

// A certified is who asks: a key with its certificates, the own first.
type certified struct {
	key   crypto.Signer
	chain []*x509.Certificate
}

func (a *Authority) certify(t *testing.T, key crypto.Signer, change func(*x509.Certificate), more ...*x509.Certificate) certified {
	t.Helper()
	wanted := CertificateFor("web01")
	if change != nil {
		change(wanted)
	}
	leaf, err := a.Sign(wanted, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return certified{key, append([]*x509.Certificate{leaf}, more...)}
}

// signed signs a request. Only the header that skipped names is
// left unsigned.
func (c certified) signed(t *testing.T, r *http.Request, body, region, skipped string, at time.Time) *http.Request {
	t.Helper()
	var texts []string
	for _, certificate := range c.chain {
		texts = append(texts, base64.StdEncoding.EncodeToString(certificate.Raw))
	}
	r.Header.Set("X-Amz-Date", at.UTC().Format(signedTime))
	r.Header.Set("X-Amz-X509", texts[0])
	headers := []string{"content-type", "host", "x-amz-date", "x-amz-x509"}
	if len(texts) > 1 {
		r.Header.Set("X-Amz-X509-Chain", strings.Join(texts[1:], ","))
		headers = append(headers, "x-amz-x509-chain")
	}
	s := signature{
		scope:   []string{at.UTC().Format("20060102"), region, "rolesanywhere", "aws4_request"},
		headers: slices.DeleteFunc(headers, func(name string) bool { return name == skipped }),
	}
	algorithm := "AWS4-X509-ECDSA-SHA256"
	if _, ok := c.key.Public().(*rsa.PublicKey); ok {
		algorithm = "AWS4-X509-RSA-SHA256"
	}
	digest := sha256.Sum256([]byte(toSign(r, []byte(body), s, algorithm)))
	value, err := c.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s, SignedHeaders=%s, Signature=%s", algorithm,
		c.chain[0].SerialNumber, strings.Join(s.scope, "/"), strings.Join(s.headers, ";"), hex.EncodeToString(value)))
	return r
}

func TestRolesAnywhereVerifiesWhoAsks(t *testing.T) {
	newAuthority := func(by *Authority) *Authority {
		a, err := NewAuthority("authority", by)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	anchor, other := newAuthority(nil), newAuthority(nil)
	between := newAuthority(anchor)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	service := NewRolesAnywhere(RolesAnywhereOptions{Keys: &Keys{}, Region: "us-west-2", Authorities: []*x509.Certificate{anchor.Certificate}})
	good, now := anchor.certify(t, ec, nil), time.Now()
	for _, c := range []struct {
		name    string
		who     certified
		region  string
		skipped string
		at      time.Time
		spoil   func(*http.Request)
		status  int
		want    string
	}{
		{"EC", good, "us-west-2", "", now, nil, 201, `"accessKeyId":"ASIA`},
		{"RSA", anchor.certify(t, rsaKey, nil), "us-west-2", "", now, nil, 201, `"accessKeyId":"ASIA`},
		{"a chain", between.certify(t, ec, nil, between.Certificate), "us-west-2", "", now, nil, 201, `"accessKeyId":"ASIA`},
		{"14 minutes late", good, "us-west-2", "", now.Add(-14 * time.Minute), nil, 201, `"accessKeyId":"ASIA`},
		{"16 minutes late", good, "us-west-2", "", now.Add(-16 * time.Minute), nil, 403, "Signature expired"},
		{"another region", good, "us-east-1", "", now, nil, 403, "Invalid signature"},
		{"an unsigned certificate", good, "us-west-2", "x-amz-x509", now, nil, 403, "Invalid signature"},
		{"an unsigned chain", between.certify(t, ec, nil, between.Certificate), "us-west-2", "x-amz-x509-chain", now, nil, 403, "Invalid signature"},
		{"another role", good, "us-west-2", "", now, func(r *http.Request) { r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "role%2Fr", "role%2Fx", 1) }, 403, "Invalid signature"},
		{"another host", good, "us-west-2", "", now, func(r *http.Request) { r.Host = "evil.example.com" }, 403, "Invalid signature"},
		{"another body", good, "us-west-2", "", now, func(r *http.Request) { r.Body = http.NoBody }, 403, "Invalid signature"},
		{"another serial number", good, "us-west-2", "", now, func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "Credential=", "Credential=1", 1))
		}, 403, "Invalid signature"},
		{"another's certificate", certified{rsaKey, good.chain}, "us-west-2", "", now, nil, 403, "Invalid signature"},
		{"no signature", good, "us-west-2", "", now, func(r *http.Request) { r.Header.Del("Authorization") }, 403, "Invalid signature"},
		{"no certificate", good, "us-west-2", "", now, func(r *http.Request) { r.Header.Del("X-Amz-X509") }, 403, "Missing or malformed"},
		{"another authority", other.certify(t, ec, nil), "us-west-2", "", now, nil, 403, "Untrusted signing certificate"},
		{"without what is between", between.certify(t, ec, nil), "us-west-2", "", now, nil, 403, "Untrusted signing certificate"},
		{"an authority", anchor.certify(t, ec, func(c *x509.Certificate) { c.IsCA = true }), "us-west-2", "", now, nil, 403, "Untrusted signing certificate"},
		{"an expired one", anchor.certify(t, ec, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), "us-west-2", "", now, nil, 403, "Certificate expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			const body = `{"durationSeconds":900}`
			r := c.who.signed(t, sessionRequest(body), body, c.region, c.skipped, c.at)
			if c.spoil != nil {
				c.spoil(r)
			}
			w := httptest.NewRecorder()
			service.ServeHTTP(w, r)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("got %d %s, want %d ...%s", w.Code, w.Body, c.status, c.want)
			}
			if w.Code == 403 && w.Header().Get("X-Amzn-ErrorType") != "AccessDeniedException:" {
				t.Errorf("the error's type is %q", w.Header().Get("X-Amzn-ErrorType"))
			}
		})
	}
}

func TestRolesAnywhereKeysAreKnownToTheSTS(t *testing.T) {
	anchor, err := NewAuthority("authority", nil)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := &Keys{}
	service := NewRolesAnywhere(RolesAnywhereOptions{Keys: keys, Authorities: []*x509.Certificate{anchor.Certificate}})
	const body = `{"durationSeconds":3600,"roleSessionName":"web01"}`
	w := httptest.NewRecorder()
	service.ServeHTTP(w, anchor.certify(t, ec, nil).signed(t, sessionRequest(body), body, "us-west-2", "", time.Now()))
	sessions := service.Sessions()
	if w.Code != 201 || len(sessions) != 1 || sessions[0].SessionName != "web01" {
		t.Fatalf("got %d %s, %+v", w.Code, w.Body, sessions)
	}
	if made, known := keys.find(sessions[0].Made); !known || made.of != "r" || time.Until(made.ends) > time.Hour {
		t.Errorf("the STS would see %s", made.of)
	}
}
