package sts

import (
	"encoding/base64"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
)

// A forwarder is an HTTP proxy that notes what it is asked for.
type forwarder struct {
	*httptest.Server
	target string // where every tunnel ends
	wants  string // the Proxy-Authorization that it demands; empty for none

	mu    sync.Mutex // guards asked
	asked []string
}

func newForwarder(t *testing.T) *forwarder {
	t.Helper()
	f := &forwarder{}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Method+" "+r.RequestURI)
	f.mu.Unlock()
	if f.wants != "" && r.Header.Get("Proxy-Authorization") != f.wants {
		http.Error(w, "who are you "+mock.Marker, http.StatusProxyAuthRequired)
		return
	}
	there, err := net.Dial("tcp", f.target)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	w.WriteHeader(http.StatusOK)
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	go func() { _, _ = io.Copy(there, buffered) }()
	_, _ = io.Copy(here, there)
}

func (f *forwarder) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// newDistantPlace is a place whose STS has TLS and a name that only the proxy can
// find.
func newDistantPlace(t *testing.T, f *forwarder, change func(o *Options)) *place {
	t.Helper()
	return newPlace(t, mock.STSOptions{}, func(o *Options, plain *httptest.Server) {
		secure := httptest.NewTLSServer(plain.Config.Handler)
		t.Cleanup(secure.Close)
		f.target = secure.Listener.Addr().String()
		ca := filepath.Join(t.TempDir(), "ca.pem")
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
		if err := os.WriteFile(ca, text, 0o600); err != nil {
			t.Fatal(err)
		}
		o.Endpoint, o.TLS.CA, o.TLS.ServerName, o.Proxy = "https://sts.invalid", ca, "example.com", f.URL
		if change != nil {
			change(o)
		}
	})
}

// U08.
func TestACallGoesThroughTheProxyWithItsPassword(t *testing.T) {
	f := newForwarder(t)
	f.wants = "Basic " + base64.StdEncoding.EncodeToString([]byte("purser:pa:ss"))
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("pa:ss\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newDistantPlace(t, f, func(o *Options) {
		o.ProxyUser, o.ProxyPassword = "purser", credential.SecretRef{File: file}
	})
	if _, err := p.fetch(t, "demo"); err != nil {
		t.Fatal(err)
	}
	if got := f.requests(); !slices.Equal(got, []string{"CONNECT sts.invalid:443"}) {
		t.Errorf("the proxy was asked %q", got)
	}
	if got := p.sts.Assumptions(); len(got) != 1 || got[0].Code != "" {
		t.Errorf("STS was asked %+v", got)
	}
}

// U09.
func TestAProxyThatRefusesIsNamedWithoutThePassword(t *testing.T) {
	f := newForwarder(t)
	f.wants = "something else"
	p := newDistantPlace(t, f, func(o *Options) {
		o.ProxyUser, o.ProxyPassword = "purser", credential.SecretRef{Value: credential.NewSecret("pa" + mock.Marker)}
	})
	_, err := p.fetch(t, "demo")
	want := "CONNECT sts.invalid:443 through proxy " + f.Listener.Addr().String() +
		": the proxy answered 407 Proxy Authentication Required: it wants proxy_user and proxy_password, or others than these"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if got := len(p.sts.Assumptions()); got != 0 {
		t.Errorf("STS was asked %d times", got)
	}
}

// TestNothingLeavesWhileTheProxyIsDown has an STS that could be reached without the
// proxy.
func TestNothingLeavesWhileTheProxyIsDown(t *testing.T) {
	f := newForwarder(t)
	p := newPlace(t, mock.STSOptions{}, func(o *Options, _ *httptest.Server) { o.Proxy = f.URL })
	f.Close()
	_, err := p.fetch(t, "demo")
	if err == nil || !strings.Contains(err.Error(), "the proxy cannot be reached") {
		t.Errorf("got %v", err)
	}
	if got := p.sts.Requests(); got.Total != 0 || got.Connections != 0 {
		t.Errorf("STS got %d requests on %d connections", got.Total, got.Connections)
	}
}
