package upstream

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/testkit"
)

// newTLSServer answers with the name in the client's certificate. It stops with the
// test.
func newTLSServer(t *testing.T, config *tls.Config) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, certificate := range r.TLS.PeerCertificates {
			fmt.Fprint(w, certificate.Subject.CommonName)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = config
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func TestOnlyTheConfiguredAuthorityIsTrusted(t *testing.T) {
	good, evil := newAuthority(t, "good"), newAuthority(t, "evil")
	ca := testkit.File(t, "ca.pem", good.pem())
	old := good.serverConfig("ims.example")
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for _, test := range []struct {
		name, url, serverName string
		want                  string // empty for success
	}{
		{"own authority", newTLSServer(t, good.serverConfig("ims.example")), "", ""},
		{"server_name that fits", newTLSServer(t, good.serverConfig("ims.example")), "ims.example", ""},
		{"server_name that does not fit", newTLSServer(t, good.serverConfig("ims.example")), "other.example", "the server's certificate is for ims.example, 127.0.0.1, not for other.example; if that is the right server, set tls.server_name"},
		{"another authority", newTLSServer(t, evil.serverConfig("ims.example")), "", "the server's certificate is signed by an authority that is not in tls.ca (" + ca + ")"},
		{"TLS 1.1", newTLSServer(t, old), "", "protocol version"},
		{"no TLS", strings.Replace(plain.URL, "http://", "https://", 1), "", "speaks HTTP, not HTTPS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := quick()
			o.TLS = TLS{CA: ca, ServerName: test.serverName}
			_, fault := get(t, newClient(t, o), test.url)
			switch {
			case test.want == "" && fault != nil:
				t.Error(fault)
			case test.want != "" && (fault == nil || fault.Kind != ClassTLS || !strings.Contains(fault.Error(), test.want)):
				t.Errorf("got %v, want a TLS error with ...%s...", fault, test.want)
			}
		})
	}
	t.Run("the system's authorities", func(t *testing.T) {
		_, fault := get(t, newClient(t, quick()), newTLSServer(t, good.serverConfig("ims.example")))
		if fault == nil || fault.Kind != ClassTLS || !strings.HasSuffix(fault.Error(), ": the server's certificate is signed by an authority that is not trusted; set tls.ca") {
			t.Errorf("got %v, want a TLS error", fault)
		}
	})
}

func TestTheHandshakeIsLimitedInTime(t *testing.T) {
	o := quick()
	o.Timeouts.TLS = 100 * time.Millisecond
	silent := raw(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	_, fault := get(t, newClient(t, o), strings.Replace(silent, "http://", "https://", 1))
	if fault == nil || fault.Kind != ClassTimeout || !strings.Contains(fault.Error(), "no TLS handshake within 100ms (timeouts.tls)") {
		t.Errorf("got %v, want a time-out of the handshake", fault)
	}
}

// clientFiles are a client certificate in two files, and a server that wants one.
type clientFiles struct {
	t         *testing.T
	authority *authority
	options   Options
	url       string
	log       bytes.Buffer
}

func newClientFiles(t *testing.T) *clientFiles {
	t.Helper()
	f := &clientFiles{t: t, authority: newAuthority(t, "authority"), options: quick()}
	config := f.authority.serverConfig("ims.example")
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, f.authority.pool()
	f.url = newTLSServer(t, config)
	dir := t.TempDir()
	f.options.TLS = TLS{
		CA:          filepath.Join(dir, "ca.pem"),
		Certificate: filepath.Join(dir, "certificate.pem"),
		Key:         filepath.Join(dir, "key.pem"),
	}
	testkit.Replace(t, f.options.TLS.CA, f.authority.pem())
	f.rotate("first")
	return f
}

func (f *clientFiles) client() *Client {
	f.t.Helper()
	client, err := NewClient(f.options, zerolog.New(&f.log))
	if err != nil {
		f.t.Fatal(err)
	}
	return client
}

func (f *clientFiles) rotate(name string) {
	f.t.Helper()
	certificate, key := f.authority.issue(name, time.Now().Add(time.Hour))
	testkit.Replace(f.t, f.options.TLS.Certificate, certificate)
	testkit.Replace(f.t, f.options.TLS.Key, key)
}

// expect makes a request and wants it to show the certificate with this name.
func (f *clientFiles) expect(client *Client, want string) {
	f.t.Helper()
	answer, fault := get(f.t, client, f.url)
	if fault != nil {
		f.t.Fatal(fault)
	}
	if got := string(answer.Body); got != want {
		f.t.Errorf("the server saw %q, want %q", got, want)
	}
}

func TestARotatedClientCertificateIsUsedAtTheNextRequest(t *testing.T) {
	f := newClientFiles(t)
	client := f.client()
	f.expect(client, "first")
	f.rotate("second")
	f.expect(client, "second")
	if !strings.Contains(f.log.String(), "certificate files changed and are in use") {
		t.Errorf("the change is not logged: %s", f.log.String())
	}
}

func TestARotationBySymlinkIsSeen(t *testing.T) {
	f := newClientFiles(t)
	dir := t.TempDir()
	for _, name := range []string{"first", "second"} {
		certificate, key := f.authority.issue(name, time.Now().Add(time.Hour))
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		testkit.Replace(t, filepath.Join(dir, name, "both.pem"), append(certificate, key...))
	}
	link := func(name string) {
		t.Helper()
		if err := os.Symlink(name, filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "current")); err != nil {
			t.Fatal(err)
		}
	}
	link("first")
	both := filepath.Join(dir, "current", "both.pem")
	f.options.TLS.Certificate, f.options.TLS.Key = both, both
	client := f.client()
	f.expect(client, "first")
	link("second")
	f.expect(client, "second")
}

func TestABrokenRotationKeepsTheFormerPair(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(*clientFiles)
		want string
	}{
		{"half of it", func(f *clientFiles) {
			certificate, _ := f.authority.issue("second", time.Now().Add(time.Hour))
			testkit.Replace(f.t, f.options.TLS.Certificate, certificate)
		}, "private key does not match public key"},
		{"empty key", func(f *clientFiles) { testkit.Replace(f.t, f.options.TLS.Key, "") }, "tls.key"},
		{"missing key", func(f *clientFiles) { _ = os.Remove(f.options.TLS.Key) }, "no such file"},
		{"rubbish", func(f *clientFiles) { testkit.Replace(f.t, f.options.TLS.Certificate, confidential) }, "tls.certificate"},
		{"empty bundle", func(f *clientFiles) { testkit.Replace(f.t, f.options.TLS.CA, "") }, "no PEM certificate"},
		{"broken bundle", func(f *clientFiles) {
			testkit.Replace(f.t, f.options.TLS.CA, append(f.authority.pem(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"...))
		}, "certificate 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newClientFiles(t)
			client := f.client()
			f.expect(client, "first")
			test.do(f)
			f.expect(client, "first")
			f.expect(client, "first")
			logged := f.log.String()
			if strings.Count(logged, "keeping the former ones") != 1 || !strings.Contains(logged, test.want) {
				t.Errorf("logged %q, want one line with ...%s...", logged, test.want)
			}
			if strings.Contains(logged, confidential) {
				t.Errorf("the log quotes a file: %s", logged)
			}
			if err := client.Check(); err == nil || !strings.Contains(err.Error(), ".pem") {
				t.Errorf("Check says %v", err)
			}
			testkit.Replace(t, f.options.TLS.CA, f.authority.pem())
			f.rotate("third")
			f.expect(client, "third")
		})
	}
}

func TestARefusedCertificateIsExplained(t *testing.T) {
	f := newClientFiles(t)
	certificate, key := f.authority.issue("late", time.Now().Add(-time.Minute))
	testkit.Replace(t, f.options.TLS.Certificate, certificate)
	testkit.Replace(t, f.options.TLS.Key, key)
	client := f.client()
	if _, fault := get(t, client, f.url); fault == nil || fault.Kind != ClassTLS ||
		!strings.Contains(fault.Error(), "our own certificate "+f.options.TLS.Certificate+" expired on ") {
		t.Errorf("got %v, want a hint at our own certificate", fault)
	}
	testkit.Replace(t, f.options.TLS.Key, "rubbish")
	if _, fault := get(t, client, f.url); fault == nil || fault.Kind != ClassTLS ||
		!strings.Contains(fault.Error(), "the certificate files changed but cannot be used: tls.certificate") {
		t.Errorf("got %v, want a hint at the changed files", fault)
	}
}

func TestMissingFilesFailTheRequestNotTheStart(t *testing.T) {
	f := newClientFiles(t)
	if err := os.Remove(f.options.TLS.Key); err != nil {
		t.Fatal(err)
	}
	client := f.client()
	if _, fault := get(t, client, f.url); fault == nil || fault.Kind != ClassTLS || !strings.Contains(fault.Error(), f.options.TLS.Key) {
		t.Errorf("got %v, want a TLS error that names the file", fault)
	}
	f.rotate("second")
	f.expect(client, "second")
}

func TestConcurrentRequestsNeverMixOldAndNewFiles(t *testing.T) {
	f := newClientFiles(t)
	client := f.client()
	f.expect(client, "first")
	testkit.LookWhile(t, func() error {
		answer, err := client.Get(t.Context(), f.url)
		if err == nil && len(answer.Body) == 0 {
			err = errors.New("a request went without a certificate")
		}
		return err
	}, func() {
		for i := range 20 {
			f.rotate(fmt.Sprint("certificate-", i))
			time.Sleep(10 * time.Millisecond)
		}
	})
	f.expect(client, "certificate-19")
}
