package rolesanywhere

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A recorder is a key that notes what it is to sign.
type recorder struct {
	public crypto.PublicKey
	digest string
}

func (r *recorder) Public() crypto.PublicKey { return r.public }

func (r *recorder) sign(_ context.Context, digest []byte) ([]byte, error) {
	r.digest = hex.EncodeToString(digest)
	return []byte{0xab, 0xcd}, nil
}

// U11. The digests were computed by the rules of AWS's documentation, apart from this
// code.
func TestTheCanonicalRequestIsThatOfTheVectors(t *testing.T) {
	const (
		query = "profileArn=arn%3Aaws%3Arolesanywhere%3Aus-west-2%3A111122223333%3Aprofile%2Fp&roleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fr&trustAnchorArn=arn%3Aaws%3Arolesanywhere%3Aus-west-2%3A111122223333%3Atrust-anchor%2Ft"
		body  = `{"durationSeconds":3600}`
	)
	at := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	intermediate := &x509.Certificate{Raw: []byte("Intermediate")}
	for _, c := range []struct {
		name    string
		public  crypto.PublicKey
		chain   []*x509.Certificate
		length  int
		request string
		toSign  string
		want    string // the Authorization
	}{
		{"RSA", &rsa.PublicKey{}, nil, 471, "f97d94edcc86f6b28cf98c9f9eca354981c87a7d949d5e8988231898d697e775", "f432e631f11355b6ebd74d1cc2aa8e5a78283b95e1ddf2860b81fa92cd2e330b",
			"AWS4-X509-RSA-SHA256 Credential=1311768467463790320/20240102/us-west-2/rolesanywhere/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-x509, Signature=abcd"},
		{"RSA with a chain", &rsa.PublicKey{}, []*x509.Certificate{intermediate}, 522, "70c35ecbd3ef30aaeb139d64128ad3c3dbaefa432015a8da23cc89f94b8f9bd9", "dcd69ac6932c7c6eb7565c4b801c4775637259b924562ea2d970193c360d526f",
			"AWS4-X509-RSA-SHA256 Credential=1311768467463790320/20240102/us-west-2/rolesanywhere/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-x509;x-amz-x509-chain, Signature=abcd"},
		// U14.
		{"EC", &ecdsa.PublicKey{}, nil, 471, "f97d94edcc86f6b28cf98c9f9eca354981c87a7d949d5e8988231898d697e775", "",
			"AWS4-X509-ECDSA-SHA256 Credential=1311768467463790320/20240102/us-west-2/rolesanywhere/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-x509, Signature=abcd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodPost, "https://rolesanywhere.us-west-2.amazonaws.com/sessions?"+query, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			key := &recorder{public: c.public}
			leaf := &x509.Certificate{Raw: []byte("MIIExampleCert"), SerialNumber: big.NewInt(0x123456789abcdef0)}
			id := &identity{leaf: leaf, chain: c.chain, key: key}
			if err := id.sign(req, []byte(body), "us-west-2", at); err != nil {
				t.Fatal(err)
			}
			authorization := req.Header.Get("Authorization")
			req.Header.Del("Authorization")
			text, _ := canonicalRequest(req, []byte(body))
			if len(text) != c.length || hexDigest(text) != c.request {
				t.Errorf("got %d bytes, %s, want %d, %s:\n%s", len(text), hexDigest(text), c.length, c.request, text)
			}
			if c.toSign != "" && key.digest != c.toSign {
				t.Errorf("signed %s, want %s", key.digest, c.toSign)
			}
			if authorization != c.want {
				t.Errorf("got %s\nwant %s", authorization, c.want)
			}
		})
	}
}
