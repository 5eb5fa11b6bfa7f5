package mock

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// refusedBy is an AccessDeniedException.
func refusedBy(message string) *awsError {
	return &awsError{http.StatusForbidden, "AccessDeniedException", message}
}

// verifyX509 checks a signature of Signature Version 4 with X.509, and that one of the
// authorities signed the certificate. It returns the certificate. It follows AWS's
// description of the signing process and shares nothing with the client that it is to
// test.
func verifyX509(r *http.Request, body []byte, authorities *x509.CertPool, region string, now time.Time) (*x509.Certificate, *awsError) {
	all, ok := sentCertificates(r)
	if !ok {
		return nil, refusedBy("Missing or malformed X.509 certificate")
	}
	leaf := all[0]
	algorithm := "AWS4-X509-ECDSA-SHA256"
	if leaf.PublicKeyAlgorithm == x509.RSA {
		algorithm = "AWS4-X509-RSA-SHA256"
	}
	s, ok := parseSignatureBy(algorithm, r.Header.Get("Authorization"))
	signed, err := time.Parse(signedTime, r.Header.Get("X-Amz-Date"))
	switch {
	case !ok || err != nil || s.id != leaf.SerialNumber.String(),
		s.scope[0] != signed.Format("20060102") || region != "" && s.scope[1] != region || s.scope[2] != "rolesanywhere" || s.scope[3] != "aws4_request",
		!signsWhatMatters(r, s), !signedBy(leaf, toSign(r, body, s, algorithm), s.value):
		return nil, refusedBy("Invalid signature")
	case now.Sub(signed).Abs() > maxClockDifference:
		return nil, refusedBy("Signature expired or not yet current")
	case now.After(leaf.NotAfter):
		return nil, refusedBy("Certificate expired")
	}
	between := x509.NewCertPool()
	for _, certificate := range all[1:] {
		between.AddCert(certificate)
	}
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: authorities, Intermediates: between, CurrentTime: now, KeyUsages: usage})
	if err != nil || leaf.IsCA || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, refusedBy("Untrusted signing certificate")
	}
	return leaf, nil
}

// sentCertificates are those in the headers, the one that signs first.
func sentCertificates(r *http.Request) (all []*x509.Certificate, ok bool) {
	texts := []string{r.Header.Get("X-Amz-X509")}
	if chain := r.Header.Get("X-Amz-X509-Chain"); chain != "" {
		texts = append(texts, strings.Split(chain, ",")...)
	}
	for _, text := range texts {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, false
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, false
		}
		all = append(all, certificate)
	}
	return all, true
}

// signsWhatMatters demands that no header which decides anything is unsigned.
func signsWhatMatters(r *http.Request, s signature) bool {
	for _, name := range []string{"content-type", "host", "x-amz-date", "x-amz-x509", "x-amz-x509-chain"} {
		present := name == "host" || r.Header.Get(name) != ""
		if present && !slices.Contains(s.headers, name) {
			return false
		}
	}
	return true
}

func signedBy(certificate *x509.Certificate, text, value string) bool {
	signature, err := hex.DecodeString(value)
	if err != nil {
		return false
	}
	digest := sha256.Sum256([]byte(text))
	switch key := certificate.PublicKey.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, digest[:], signature)
	}
	return false
}
