package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A certifiedHost has a certificate from an authority of its own, in files that the agent reads.
type certifiedHost struct {
	t       *testing.T
	dir     string
	key     *ecdsa.PrivateKey // the authority's
	ca      *x509.Certificate
	serials int64
}

func newCertifiedHost(t *testing.T) *certifiedHost {
	t.Helper()
	dir, err := os.MkdirTemp("", "purser-e2e-certificate-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	h := &certifiedHost{t: t, dir: dir}
	h.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := h.certificate("authority", 24*time.Hour)
	template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	h.ca = template
	h.ca = h.sign(template, &h.key.PublicKey)
	h.write("ca.pem", "CERTIFICATE", h.ca.Raw)
	return h
}

// certificate is one that ends after a time.
func (h *certifiedHost) certificate(name string, life time.Duration) *x509.Certificate {
	h.serials++
	return &x509.Certificate{
		SerialNumber: big.NewInt(h.serials), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
}

func (h *certifiedHost) sign(template *x509.Certificate, public *ecdsa.PublicKey) *x509.Certificate {
	h.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, h.ca, public, h.key)
	must(h.t, err)
	certificate, err := x509.ParseCertificate(der)
	must(h.t, err)
	return certificate
}

// write puts a PEM block into a file, by rename, that only the agent's account can read.
func (h *certifiedHost) write(name, kind string, der []byte) {
	h.t.Helper()
	h.put(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (h *certifiedHost) put(name string, text []byte) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	must(h.t, os.WriteFile(path+".new", text, 0o400))
	if os.Geteuid() == 0 {
		must(h.t, os.Chown(path+".new", nobodyUID, nobodyUID))
	}
	must(h.t, os.Rename(path+".new", path))
}

// newPair makes a certificate with a new key.
func (h *certifiedHost) newPair(name string, life time.Duration) (certificate *x509.Certificate, key []byte) {
	h.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(h.t, err)
	key, err = x509.MarshalPKCS8PrivateKey(private)
	must(h.t, err)
	return h.sign(h.certificate(name, life), &private.PublicKey), key
}

// encryptedPair installs a certificate for a key that openssl encrypted, and the file with
// the password.
func (h *certifiedHost) encryptedPair(password string) {
	h.t.Helper()
	root, err := harness.Root()
	must(h.t, err)
	keys := filepath.Join(root, "pkg", "upstream", "roles-anywhere", "testdata", "keys")
	plain, err := os.ReadFile(filepath.Join(keys, "ec-pkcs8.pem"))
	must(h.t, err)
	block, _ := pem.Decode(plain)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(h.t, err)
	encrypted, err := os.ReadFile(filepath.Join(keys, "encrypted-default.pem"))
	must(h.t, err)
	h.put("host.key", encrypted)
	h.put("password", []byte(password+"\n"))
	h.write("host.pem", "CERTIFICATE", h.sign(h.certificate("encrypted", 240*time.Hour), &key.(*ecdsa.PrivateKey).PublicKey).Raw)
}

// askedWith is the certificate of the latest session.
func askedWith(t *testing.T, mock *harness.Mock) string {
	t.Helper()
	sessions, err := mock.Sessions()
	must(t, err)
	if len(sessions) == 0 {
		t.Fatal("no session was asked for")
	}
	return strings.TrimPrefix(sessions[len(sessions)-1], "CN=")
}

// TestACertificateRotatesWhileTheAgentServes, from an encrypted key to a plain one, and
// then to one that has expired.
func TestACertificateRotatesWhileTheAgentServes(t *testing.T) {
	const password = "correct-horse"
	host := newCertifiedHost(t)
	host.encryptedPair(password)
	mock, err := harness.StartMockWithRolesAnywhere(filepath.Join(host.dir, "ca.pem"))
	must(t, err)
	t.Cleanup(func() { _, _ = mock.Stop() })
	const arn = "arn:aws:rolesanywhere:eu-central-1:123456789012:"
	agent := startAgent(t, harness.AgentOptions{Config: fmt.Sprintf(`upstreams:
  office:
    kind: roles-anywhere
    trust_anchor_arn: %[1]strust-anchor/t
    profile_arn: %[1]sprofile/p
    endpoint: http://%[2]s
    certificate: %[3]s/host.pem
    key: %[3]s/host.key
    key_password: {file: %[3]s/password}
    roles: {web: {role_arn: "arn:aws:iam::123456789012:role/web"}}
`, arn, mock.RolesAnywhere, host.dir) + everything})
	m := newMetadata(t, agent)
	if d := parse(t, m.document(t, "web")); d.Code != "Success" || !strings.Contains(d.Token, harness.Marker) || askedWith(t, mock) != "encrypted" {
		t.Errorf("got %s for the certificate %q", d.Code, askedWith(t, mock))
	}
	refresh := func(want int) string {
		t.Helper()
		time.Sleep(1100 * time.Millisecond) // ends are whole seconds, and new keys must end later
		r, err := agent.Run("refresh", "web")
		must(t, err)
		if r.Exit != want {
			t.Errorf("a refresh ends with %d: %s", r.Exit, r.Stderr)
		}
		return r.Stderr
	}

	certificate, key := host.newPair("renewed", 240*time.Hour)
	host.write("host.pem", "CERTIFICATE", certificate.Raw)
	before := m.document(t, "web")
	refresh(0)
	if got := askedWith(t, mock); got != "encrypted" || m.document(t, "web") == before {
		t.Errorf("with half a rotation the certificate %q is used", got)
	}
	host.write("host.key", "PRIVATE KEY", key)
	refresh(0)
	if got := askedWith(t, mock); got != "renewed" {
		t.Errorf("after the rotation the certificate %q is used", got)
	}

	stock := m.document(t, "web")
	certificate, lateKey := host.newPair("late", -time.Hour)
	host.write("host.pem", "CERTIFICATE", certificate.Raw)
	host.write("host.key", "PRIVATE KEY", lateKey)
	sentence := fmt.Sprintf("the certificate in %s/host.pem expired on %s; put a new one and its key there", host.dir, certificate.NotAfter.UTC().Format(time.RFC3339))
	if said := refresh(1); !strings.Contains(said, sentence) {
		t.Errorf("a refresh says %q, want ...%s...", said, sentence)
	}
	if m.document(t, "web") != stock {
		t.Error("an expired certificate changed what is in stock")
	}
	expectCheck(t, agent, 1, "upstream office: failed\n  upstream \"office\", credential \"web\": "+sentence+"\n")
	expectCheck(t, agent, 0, "upstream office: not asked (--offline)\n  warning: "+sentence+"\n", "--offline")

	soon, soonKey := host.newPair("soon", time.Hour)
	host.write("host.pem", "CERTIFICATE", soon.Raw)
	host.write("host.key", "PRIVATE KEY", soonKey)
	must(t, harness.Await(5*time.Second, func() error { // a change is a retry at once
		if got := askedWith(t, mock); got != "soon" {
			return fmt.Errorf("the certificate %q is used", got)
		}
		return nil
	}))
	expires := soon.NotAfter.UTC().Format(time.RFC3339)
	expectCheck(t, agent, 0, "warning: the certificate in "+host.dir+"/host.pem expires on "+expires)
	if !strings.Contains(agent.Output(), `"expires":"`+expires+`"`) {
		t.Error("the log does not warn of the certificate's end")
	}
	noSecretOfAKey(t, agent, password, key, lateKey, soonKey)
}

// expectCheck wants `purser check` to end so, and to print a text.
func expectCheck(t *testing.T, agent *harness.Agent, code int, want string, flags ...string) {
	t.Helper()
	r, err := agent.Run(append([]string{"check"}, flags...)...)
	must(t, err)
	if r.Exit != code || !strings.Contains(r.Stdout, want) {
		t.Errorf("check %v ended with %d and said\n%s%s\nwant %d and\n%s", flags, r.Exit, r.Stdout, r.Stderr, code, want)
	}
}

// noSecretOfAKey looks for keys and their password in all that the agent said.
func noSecretOfAKey(t *testing.T, agent *harness.Agent, password string, keys ...[]byte) {
	t.Helper()
	for _, command := range [][]string{{"status"}, {"status", "--json"}, {"config"}, {"reload"}} {
		_, err := agent.Run(command...)
		must(t, err)
	}
	never := []string{password}
	for _, der := range keys {
		lines := strings.Split(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "\n")
		never = append(never, lines[1], lines[2])
	}
	for _, text := range never {
		if strings.Contains(agent.Said(), text) {
			t.Errorf("the agent said %q", text)
		}
	}
}
