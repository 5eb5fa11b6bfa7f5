package vault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/upstream"
)

// An authority issues client certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hosts"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.cert = a.sign(t, template, template, a.key)
	return a
}

func (a *authority) sign(t *testing.T, template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue writes a certificate and its key into one file.
func (a *authority) issue(t *testing.T, path string, begins, ends time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "web01"},
		NotBefore: begins, NotAfter: ends, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))+
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// certGate is a Vault that takes the certificates of an authority, and a client that
// has the one in path.
func certGate(t *testing.T, a *authority, path, role string, names ...string) *gate {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	g := newGate(t, setting{
		secure: true, auth: Auth{Method: "cert", Role: role},
		vault: mock.VaultOptions{CertRoles: []mock.VaultCertRole{{Name: "web", CAs: pool, CommonNames: names}}},
		client: func(o *upstream.Options, s *httptest.Server) {
			s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
			o.TLS = upstream.TLS{CA: filepath.Join(t.TempDir(), "ca.pem"), Certificate: path, Key: path}
		},
	})
	writeFile(t, g.client.http.Files()[0], string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.http.Certificate().Raw})))
	return g
}

// case 62
func TestACertificateLogsIn(t *testing.T) {
	const wrong = "answered 400: Vault does not take the client certificate, or saw none: TLS must end at Vault itself, and auth/cert trust its issuer and know the role"
	now := time.Now()
	a, path := newAuthority(t), filepath.Join(t.TempDir(), "host.pem")
	expired, early := now.Add(-time.Minute).Truncate(time.Second), now.Add(time.Minute).Truncate(time.Second)

	a.issue(t, path, now.Add(-time.Hour), expired)
	g := certGate(t, a, path, "web")
	if _, got := says(t, g.keys(t)); got != wrong+"; the certificate in tls.certificate expired at "+clock(expired, now) {
		t.Errorf("expired: got %q", got)
	}
	a.issue(t, path, early, now.Add(time.Hour))
	g.again()
	if _, got := says(t, g.keys(t)); got != wrong+"; the certificate in tls.certificate is not valid before "+clock(early, now) {
		t.Errorf("early: got %q", got)
	}
	newAuthority(t).issue(t, path, now.Add(-time.Hour), now.Add(time.Hour))
	g.again()
	if _, got := says(t, g.keys(t)); got != wrong {
		t.Errorf("of somebody else: got %q", got)
	}
	a.issue(t, path, now.Add(-time.Hour), now.Add(time.Hour))
	g.again()
	if err := g.keys(t); err != nil {
		t.Errorf("renewed on disk: %v", err)
	}
	if _, got := says(t, certGate(t, a, path, "web", "db01").keys(t)); got != "answered 400: the client certificate does not meet what the role at auth/cert wants of it" {
		t.Errorf("of another host: got %q", got)
	}
	writeFile(t, path, "CONFIDENTIAL")
	if err := certGate(t, a, path, "web").keys(t); err == nil || !strings.Contains(err.Error(), "tls.certificate "+path) {
		t.Errorf("rubbish: got %v", err)
	}
}
