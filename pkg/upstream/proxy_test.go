package upstream

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/testkit"
)

// A forwarder is a proxy for plain requests and CONNECT.
type forwarder struct {
	mu       sync.Mutex
	password string // of the user purser; empty asks for none
	seen     []string
	peers    int // client certificates that it was shown
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.seen = append(f.seen, r.Method+" "+r.RequestURI)
	want := f.password
	if r.TLS != nil {
		f.peers += len(r.TLS.PeerCertificates)
	}
	f.mu.Unlock()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("purser:"+want))
	if want != "" && r.Header.Get("Proxy-Authorization") != basic {
		w.Header().Set("Proxy-Authenticate", "Basic")
		http.Error(w, confidential, http.StatusProxyAuthRequired)
		return
	}
	if r.Method == http.MethodConnect {
		tunnel(w, r.Host)
		return
	}
	if !r.URL.IsAbs() {
		http.Error(w, "not a request for a proxy", http.StatusBadRequest)
		return
	}
	r.Header.Del("Proxy-Authorization")
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer res.Body.Close()
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, res.Body)
}

func tunnel(w http.ResponseWriter, to string) {
	far, err := net.Dial("tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer far.Close()
	w.WriteHeader(http.StatusOK)
	near, reader, err := http.NewResponseController(w).Hijack() // the reader has the bytes that came before this
	if err != nil {
		return
	}
	defer near.Close()
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(far, reader); _ = far.(*net.TCPConn).CloseWrite() })
	both.Go(func() { _, _ = io.Copy(near, far); _ = near.Close() })
	both.Wait()
}

func (f *forwarder) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.seen...)
}

func (f *forwarder) setPassword(password string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.password = password
}

// newOrigin answers "origin", over TLS if there is an authority.
func newOrigin(t *testing.T, a *authority) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" {
			t.Error("the proxy's password reached the upstream")
		}
		fmt.Fprint(w, "origin")
	}))
	if a == nil {
		server.Start()
	} else {
		server.TLS = a.serverConfig("ims.example")
		server.StartTLS()
	}
	t.Cleanup(server.Close)
	return server.URL
}

func TestEveryRequestGoesThroughTheProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.9:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.9:1")
	t.Setenv("NO_PROXY", "*")
	a := newAuthority(t, "authority")
	for _, origin := range []string{newOrigin(t, nil), newOrigin(t, a)} {
		f := &forwarder{}
		server := httptest.NewServer(f)
		defer server.Close()
		o := quick()
		o.TLS.CA = testkit.File(t, "ca.pem", a.pem())
		o.Proxy = server.URL
		if answer, fault := get(t, newClient(t, o), origin+"/latest"); fault != nil || string(answer.Body) != "origin" {
			t.Errorf("%s: got %v, %v", origin, answer, fault)
		}
		want := "GET " + origin + "/latest"
		if host, secure := strings.CutPrefix(origin, "https://"); secure {
			want = "CONNECT " + host
		}
		if got := f.requests(); len(got) != 1 || got[0] != want {
			t.Errorf("the proxy saw %v, want %s", got, want)
		}

		o = quick()
		o.TLS.CA = testkit.File(t, "ca.pem", a.pem())
		if _, fault := get(t, newClient(t, o), origin); fault != nil {
			t.Errorf("without a proxy: %v", fault)
		}
		if got := f.requests(); len(got) != 1 {
			t.Errorf("the proxy saw %v", got)
		}
	}
}

func TestNothingLeavesWhenTheProxyIsDown(t *testing.T) {
	asked := make(chan struct{}, 10)
	origin := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	defer origin.Close()
	for _, target := range []string{origin.URL, strings.Replace(origin.URL, "http://", "https://", 1)} {
		o := quick()
		o.Proxy = "http://127.0.0.9:1"
		_, fault := get(t, newClient(t, o), target)
		if fault == nil || fault.Kind != ClassProxy || fault.Permanent() || !strings.Contains(fault.Error(), "through proxy 127.0.0.9:1: the proxy cannot be reached: dial tcp") {
			t.Errorf("got %v, want that the proxy cannot be reached", fault)
		}
	}
	if len(asked) > 0 {
		t.Error("the upstream was asked without the proxy")
	}
}

func TestTheProxyPasswordIsReadAgain(t *testing.T) {
	a := newAuthority(t, "authority")
	for _, origin := range []string{newOrigin(t, nil), newOrigin(t, a)} {
		f := &forwarder{password: "one" + confidential}
		server := httptest.NewServer(f)
		defer server.Close()
		o := quick()
		o.TLS.CA = testkit.File(t, "ca.pem", a.pem())
		o.Proxy, o.ProxyUser = server.URL, "purser"
		o.ProxyPassword = credential.SecretRef{File: testkit.File(t, "password", "one"+confidential+"\n")}
		client := newClient(t, o)
		if _, fault := get(t, client, origin); fault != nil {
			t.Fatal(fault)
		}
		f.setPassword("two")
		_, fault := get(t, client, origin)
		if fault == nil || fault.Kind != ClassProxy || !fault.Permanent() || !strings.Contains(fault.Error(), "407 Proxy Authentication Required: ") {
			t.Errorf("got %v, want a permanent error of the proxy", fault)
		}
		testkit.Replace(t, o.ProxyPassword.File, "two")
		if _, fault := get(t, client, origin); fault != nil {
			t.Errorf("the new password is not used: %v", fault)
		}
		testkit.Replace(t, o.ProxyPassword.File, "")
		if _, fault := get(t, client, origin); fault == nil || fault.Kind != ClassProxy || !strings.Contains(fault.Error(), "proxy_password: "+o.ProxyPassword.File) {
			t.Errorf("got %v, want an error that names the file", fault)
		}
		if err := client.Check(); err == nil || !strings.Contains(err.Error(), "proxy_password: ") {
			t.Errorf("Check says %v", err)
		}
	}
}

func TestTheProxysWordsAreNotRepeated(t *testing.T) {
	proxy := raw(t, saying("HTTP/1.1 502 "+confidential+"\r\nContent-Length: 0\r\n\r\n"))
	o := quick()
	o.Proxy = strings.TrimSuffix(proxy, "/latest")
	_, fault := get(t, newClient(t, o), "https://ims.example/")
	if fault == nil || fault.Kind != ClassProxy || fault.Status != 502 || !strings.Contains(fault.Error(), "CONNECT ims.example:443 through proxy") {
		t.Errorf("got %v, want the status of the proxy", fault)
	}
}

func TestAnHTTPSProxyGetsNoClientCertificate(t *testing.T) {
	f := newClientFiles(t)
	proxy := &forwarder{}
	server := httptest.NewUnstartedServer(proxy)
	server.TLS = f.authority.serverConfig("proxy.example")
	server.TLS.ClientAuth = 1 // tls.RequestClientCert
	server.StartTLS()
	defer server.Close()
	f.options.Proxy = server.URL
	f.options.TLS.ServerName = "ims.example"
	f.expect(f.client(), "first")
	if len(proxy.requests()) != 1 || proxy.peers != 0 {
		t.Errorf("the proxy saw %v and %d client certificates", proxy.requests(), proxy.peers)
	}
	host, _ := strings.CutPrefix(f.url, "https://")
	f.options.NoProxy = []string{host}
	f.expect(f.client(), "first")
	if len(proxy.requests()) != 1 {
		t.Error("an exempted address went through the proxy")
	}
}

// net/http lets a dial outlive its request, for up to a minute where a proxy hangs.
func TestAHangingProxyHoldsNothing(t *testing.T) {
	silent := raw(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	o := quick()
	o.Proxy = strings.TrimSuffix(silent, "/latest")
	o.Timeouts.Total = 50 * time.Millisecond
	client := newClient(t, o)
	before := runtime.NumGoroutine()
	for range 20 {
		if _, fault := get(t, client, "https://ims.example/"); fault == nil || fault.Kind != ClassTimeout {
			t.Fatalf("got %v, want a time-out", fault)
		}
	}
	for range 100 {
		if runtime.NumGoroutine() <= before+2 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func TestNoProxy(t *testing.T) {
	for _, test := range []struct {
		entry string
		url   string
		want  bool // exempt
	}{
		{"ims.example", "http://ims.example/", true},
		{"IMS.Example.", "http://ims.EXAMPLE./", true},
		{"ims.example", "http://a.ims.example/", true},
		{"ims.example", "http://notims.example/", false},
		{".ims.example", "http://a.ims.example/", true},
		{".ims.example", "http://ims.example/", false},
		{"*.ims.example", "http://a.b.ims.example/", true},
		{"*.ims.example", "http://ims.example/", false},
		{"ims.example:8443", "https://ims.example:8443/", true},
		{"ims.example:8443", "https://ims.example/", false},
		{"ims.example:443", "https://ims.example/", true},
		{"ims.example:80", "http://ims.example/", true},
		{"10.1.2.3", "http://10.1.2.3/", true},
		{"10.1.2.3:8080", "http://10.1.2.3:8080/", true},
		{"10.1.2.3:8080", "http://10.1.2.3/", false},
		{"10.0.0.0/8", "http://10.1.2.3/", true},
		{"10.0.0.0/8", "http://11.1.2.3/", false},
		{"10.0.0.0/8", "http://[::ffff:10.1.2.3]/", true},
		{"::1", "http://[::1]/", true},
		{"[::1]", "http://[::1]/", true},
		{"[::1]:8080", "http://[::1]:8080/", true},
		{"2001:db8::/32", "http://[2001:db8::5]/", true},
		{"fe80::/10", "http://[fe80::1%25eth0]/", true},
		{"example", "http://10.1.2.3/", false},
		{"localhost", "http://127.0.0.1/", false},
		{"127.0.0.0/8", "http://localhost/", false},
	} {
		t.Run(test.entry+" "+test.url, func(t *testing.T) {
			exempt, err := parseNoProxy([]string{test.entry})
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(test.url)
			if err != nil {
				t.Fatal(err)
			}
			if got := !(&proxy{exempt: exempt}).carries(u); got != test.want {
				t.Errorf("exempt is %v, want %v", got, test.want)
			}
		})
	}
	for _, bad := range []string{"", "*", ".", "*.", "a b", "http://a", "10.0.0.0/33", "a/b", "a:0", "a:70000", "a:x", ":80", "a..b", "bücher.example", "a,b", "256.0.0.1:x"} {
		if got, err := parseNoProxy([]string{bad}); err == nil {
			t.Errorf("%q is accepted as %+v", bad, got)
		}
	}
}

func FuzzNoProxy(f *testing.F) {
	for _, seed := range []string{"ims.example", ".a:80", "10.0.0.0/8", "[::1]:8080", "fe80::1%eth0", "*", "a:b:c"} {
		f.Add(seed, "ims.example")
	}
	f.Fuzz(func(t *testing.T, entry, host string) {
		exempt, err := parseNoProxy([]string{entry})
		if err != nil {
			return
		}
		e := exempt[0]
		if e.domain == "" && !e.network.IsValid() {
			t.Errorf("%q exempts nothing", entry)
		}
		_ = (&proxy{exempt: exempt}).carries(&url.URL{Scheme: "http", Host: host})
	})
}
