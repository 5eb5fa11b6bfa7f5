package rolesanywhere

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// service is the name that requests are signed for.
const service = "rolesanywhere"

// signatureTime is the form of X-Amz-Date.
const signatureTime = "20060102T150405Z"

// sign adds the headers of Signature Version 4 with X.509: unlike the usual one it is
// made with a private key, names the certificate by its serial number and carries it.
// The request has no other headers than these and Content-Type.
func (id *identity) sign(req *http.Request, body []byte, region string, at time.Time) error {
	algorithm := "AWS4-X509-ECDSA-SHA256"
	if _, ok := id.key.Public().(*rsa.PublicKey); ok {
		algorithm = "AWS4-X509-RSA-SHA256"
	}
	date := at.UTC().Format(signatureTime)
	scope := strings.Join([]string{date[:8], region, service, "aws4_request"}, "/")
	req.Header.Set("X-Amz-Date", date)
	req.Header.Set("X-Amz-X509", base64.StdEncoding.EncodeToString(id.leaf.Raw))
	if len(id.chain) > 0 {
		chain := make([]string, 0, len(id.chain))
		for _, certificate := range id.chain {
			chain = append(chain, base64.StdEncoding.EncodeToString(certificate.Raw))
		}
		req.Header.Set("X-Amz-X509-Chain", strings.Join(chain, ","))
	}
	canonical, names := canonicalRequest(req, body)
	toSign := strings.Join([]string{algorithm, date, scope, hexDigest(canonical)}, "\n")
	digest := sha256.Sum256([]byte(toSign))
	signature, err := id.key.sign(req.Context(), digest[:])
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		algorithm, id.leaf.SerialNumber, scope, names, hex.EncodeToString(signature)))
	return nil
}

// canonicalRequest returns what the digest is made of, and the names of the headers in
// it. The request's query must be sorted and encoded as url.Values does it, without
// blanks.
func canonicalRequest(req *http.Request, body []byte) (text []byte, names string) {
	headers := map[string]string{"host": req.URL.Host}
	all := []string{"host"}
	for name, values := range req.Header {
		name = strings.ToLower(name)
		headers[name] = strings.Join(strings.Fields(strings.Join(values, ",")), " ")
		all = append(all, name)
	}
	slices.Sort(all)
	names = strings.Join(all, ";")
	var b strings.Builder
	b.WriteString(req.Method + "\n" + req.URL.EscapedPath() + "\n" + req.URL.RawQuery + "\n")
	for _, name := range all {
		b.WriteString(name + ":" + headers[name] + "\n")
	}
	b.WriteString("\n" + names + "\n" + hexDigest(body))
	return []byte(b.String()), names
}

func hexDigest(text []byte) string {
	digest := sha256.Sum256(text)
	return hex.EncodeToString(digest[:])
}
