package mock

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"
)

// An Authority signs certificates, for tests of who is known by one.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// NewAuthority returns one that another has signed, or that signs itself.
func NewAuthority(name string, by *Authority) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	own := CertificateFor(name)
	own.IsCA, own.KeyUsage = true, x509.KeyUsageCertSign
	a := &Authority{own, key}
	if by == nil {
		by = a
	}
	a.Certificate, err = by.Sign(own, key.Public())
	return a, err
}

// CertificateFor is a certificate for a host, to be changed and signed: valid from an
// hour ago for a hundred days.
func CertificateFor(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // cannot fail
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
}

// Sign signs a certificate for a key.
func (a *Authority) Sign(wanted *x509.Certificate, key crypto.PublicKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, wanted, a.Certificate, key, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Issue signs a certificate for a new key and returns both as PEM.
func (a *Authority) Issue(wanted *x509.Certificate) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	signed, err := a.Sign(wanted, private.Public())
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	return CertificatePEM(signed), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// CertificatePEM is certificates as one PEM text.
func CertificatePEM(certificates ...*x509.Certificate) (text []byte) {
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}
