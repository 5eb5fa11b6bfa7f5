package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/mock"
)

// A running mock.
type running struct {
	url  string
	stop func() int // ends it and returns its exit code

	stderr bytes.Buffer // to be read after stop
}

// start runs the command with a free port and waits until it serves.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{}
	var lines []string
	lines, r.stop = startWith(t, 1, &r.stderr, args...)
	r.url = lines[0]
	return r
}

// startBeside is start for an IMS with another service beside it, and returns what is
// printed of each.
func startBeside(t *testing.T, args ...string) (lines []string, stop func() int) {
	t.Helper()
	return startWith(t, 2, io.Discard, args...)
}

// startWith runs the command until it has printed a number of lines.
func startWith(t *testing.T, n int, stderr io.Writer, args ...string) (lines []string, stop func() int) {
	t.Helper()
	stdout, out := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"--listen", "127.0.0.1:0"}, args...), out, stderr)
		_ = out.Close()
	}()
	printed := bufio.NewReader(stdout)
	for range n {
		line, err := printed.ReadString('\n')
		if err != nil {
			t.Fatalf("it ended with code %d", <-code)
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return lines, func() int { cancel(); return <-code }
}

func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return fetch(t, client, r)
}

func post(t *testing.T, url, token, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", token)
	return fetch(t, http.DefaultClient, r)
}

func fetch(t *testing.T, client *http.Client, r *http.Request) (int, string) {
	t.Helper()
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

const list = "/meta-data/iam/security-credentials/"

func TestServesAsTheFlagsSay(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script.yaml")
	if err := os.WriteFile(script, []byte("- {at: 0s, fault: \"status=418,on=credentials,role=batch\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		args   []string
		path   string
		status int
		body   string
	}{
		{"defaults", nil, list, 200, "test_role"},
		{"roles", []string{"--role", "web", "--role", "batch:15m"}, list, 200, "web\nbatch"},
		{"number of roles", []string{"--roles", "2"}, list, 200, "test_role\ntest_role_2"},
		{"prefix", []string{"--prefix", "/api/machine"}, list, 200, "test_role"},
		{"fault", []string{"--fault", "status=503,on=list", "--fault", "latency=1ms"}, list, 503, "traceback"},
		{"script", []string{"--role", "batch", "--script", script}, list + "batch", 418, "traceback"},
		{"keys", []string{"--lifetime", "15m", "--cache", "1m"}, list + "test_role", 200, mock.Marker},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, test.args...)
			if test.name == "prefix" && !strings.HasSuffix(r.url, "/api/machine") {
				t.Errorf("the URL is %s", r.url)
			}
			if status, body := get(t, http.DefaultClient, r.url+test.path); status != test.status || !strings.Contains(body, test.body) {
				t.Errorf("got %d %s, want %d %s", status, body, test.status, test.body)
			}
			if code := r.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			logged := r.stderr.String()
			if strings.Count(logged, "\n") != 1 || !strings.Contains(logged, `"message":"request"`) || strings.Contains(logged, mock.Marker) {
				t.Errorf("logged %s", logged)
			}
		})
	}
}

func TestStopsWhileARequestHangs(t *testing.T) {
	r := start(t, "--fault", "hang")
	failed := make(chan error, 1)
	go func() {
		res, err := http.Get(r.url + list)
		if err == nil {
			_ = res.Body.Close()
		}
		failed <- err
	}()
	for counted := ""; !strings.Contains(counted, `"connections": 2`); { // the hanging one and this one
		_, counted = get(t, http.DefaultClient, strings.TrimSuffix(r.url, "/latest")+"/_mock/requests")
	}
	began := time.Now()
	if code := r.stop(); code != 0 || time.Since(began) > stopWait {
		t.Errorf("exit code %d after %v: %s", code, time.Since(began), r.stderr.String())
	}
	if err := <-failed; err == nil {
		t.Error("the hanging request got an answer")
	}
}

func TestTLSWithClientCertificates(t *testing.T) {
	certificate, key, pair := selfSigned(t)
	r := start(t, "--tls-cert", certificate, "--tls-key", key, "--client-ca", certificate)
	if !strings.HasPrefix(r.url, "https://127.0.0.1:") {
		t.Errorf("the URL is %s", r.url)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}}
	config.RootCAs.AddCert(pair.Leaf)
	known := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	if status, body := get(t, known, r.url+list); status != 200 || body != "test_role" {
		t.Errorf("got %d %s", status, body)
	}
	unknown := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: config.RootCAs}}}
	if res, err := unknown.Get(r.url + list); err == nil {
		_ = res.Body.Close()
		t.Error("a client without a certificate got an answer")
	}
	if code := r.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// selfSigned makes a certificate for loopback that is its own authority.
func selfSigned(t *testing.T) (certificate, key string, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(t.TempDir(), "certificate.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: der},
		key:         {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pair, err = tls.LoadX509KeyPair(certificate, key); err != nil {
		t.Fatal(err)
	}
	return certificate, key, pair
}

func TestCommandLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	missing := filepath.Join(t.TempDir(), "missing")
	for _, test := range []struct {
		args []string
		code int
		want string // in the output
	}{
		{[]string{"version"}, 0, "purser-mock dev\n"},
		{[]string{"--help"}, 0, "purser-mock answers like the identity service"},
		{[]string{"version", "x"}, 2, `unknown command "x"`},
		{[]string{"x"}, 2, `unknown command "x"`},
		{[]string{"--rolse", "3"}, 2, "unknown flag: --rolse"},
		{[]string{"--roles", "x"}, 2, "invalid argument"},
		{[]string{"--roles", "0"}, 2, "--roles 0: must be between 1 and 10000"},
		{[]string{"--roles", "10001"}, 2, "--roles 10001: must be between"},
		{[]string{"--roles", "2", "--role", "a"}, 2, "--role and --roles exclude each other"},
		{[]string{"--role", "a:x"}, 2, `--role: role "a:x": "x" is not a lifetime`},
		{[]string{"--lifetime", "-1s"}, 2, "--lifetime -1s: must be above zero"},
		{[]string{"--cache", "-1s"}, 2, "--cache -1s: must not be negative"},
		{[]string{"--fault", "hnag"}, 2, `--fault: fault "hnag": unknown kind`},
		{[]string{"--script", missing}, 2, "no such file"},
		{[]string{"--tls-cert", missing, "--tls-key", missing}, 2, "--tls-cert and --tls-key: "},
		{[]string{"--client-ca", missing}, 2, "--client-ca needs --tls-cert and --tls-key"},
		{[]string{"--listen", taken.Addr().String()}, 1, "address already in use"},
		{[]string{"--listen", "nonsense"}, 1, "missing port"},
	} {
		var output bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		code := run(ctx, test.args, &output, &output)
		cancel()
		if code != test.code || !strings.Contains(output.String(), test.want) {
			t.Errorf("%v: code %d, output %q, want %d and ...%s...", test.args, code, output.String(), test.code, test.want)
		}
	}
}
