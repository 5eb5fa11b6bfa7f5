package vault

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

func brief() upstream.Options {
	o := upstream.Defaults()
	o.Timeouts = upstream.Timeouts{Dial: time.Second, TLS: time.Second, Header: 300 * time.Millisecond, Total: time.Second}
	return o
}

func clientOf(t *testing.T, o upstream.Options, addresses ...string) *client {
	t.Helper()
	c, err := newClient(o, addresses, "", zerolog.New(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve starts a server and counts what it is asked.
func serve(t *testing.T, handle http.HandlerFunc) (address string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

func write(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

var tokenX = credential.NewSecret("hvs.CONFIDENTIAL")

func TestClientSendsWhatVaultWants(t *testing.T) {
	for name, wrong := range map[string]string{
		"VAULT_ADDR": "http://127.0.0.1:1", "BAO_ADDR": "http://127.0.0.1:1", "BAO_TOKEN": "wrong", "BAO_NAMESPACE": "wrong", "HTTP_PROXY": "http://127.0.0.1:1",
	} {
		t.Setenv(name, wrong)
	}
	var got *http.Request
	var arrived time.Time
	var body map[string]any
	address, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, arrived = r, time.Now()
		_ = json.NewDecoder(r.Body).Decode(&body)
		write(`{"lease_duration": 18446744073709551316, "data": {"ttl": 18446744073709551316}, "new": {"x": 1}}`)(w, r)
	})
	c := clientOf(t, brief(), address+"/vault/")
	c.namespace = "team-a"
	r := request{method: "POST", path: "aws/sts/billing", body: map[string]any{"ttl": "1h"}}
	a, err := c.send(t.Context(), tokenX, r)
	if err != nil {
		t.Fatal(err)
	}
	if got.URL.Path != "/vault/v1/aws/sts/billing" || got.Method != "POST" || body["ttl"] != "1h" {
		t.Errorf("got %s %s with %v", got.Method, got.URL.Path, body)
	}
	for header, want := range map[string]string{
		"X-Vault-Token": "hvs.CONFIDENTIAL", "X-Vault-Namespace": "team-a", "X-Vault-Request": "true", "User-Agent": "purser",
	} {
		if got.Header.Get(header) != want {
			t.Errorf("%s is %q, want %q", header, got.Header.Get(header), want)
		}
	}
	if !a.sent.Before(arrived) { // case 24
		t.Error("the time of the request is not from before it was sent")
	}
	if a.secret.LeaseDuration != "18446744073709551316" || a.secret.Data["ttl"] != json.Number("18446744073709551316") {
		t.Errorf("the numbers read %v", a.secret.LeaseDuration)
	}
	if _, err = c.send(t.Context(), tokenX, request{path: "kv/x", namespace: "team-b"}); err != nil || got.Header.Get("X-Vault-Namespace") != "team-b" || got.Method != "GET" {
		t.Errorf("got %s in %q, %v", got.Method, got.Header.Get("X-Vault-Namespace"), err)
	}
}

func TestPromise6EnvelopesDoNotPrint(t *testing.T) {
	s := &secret{Data: map[string]any{"x": "CONFIDENTIAL"}, Auth: &authInfo{ClientToken: "CONFIDENTIAL"}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		for _, value := range []any{s, s.Auth, &answer{secret: s, raw: &upstream.Answer{Body: []byte("CONFIDENTIAL")}}, &token{value: tokenX}, request{body: s.Data}, &request{body: s.Data}} {
			if got := fmt.Sprintf(verb, value); strings.Contains(got, "CONFIDENTIAL") {
				t.Errorf("%s prints %s", verb, got)
			}
		}
	}
}

func TestClientAsksOverASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vault.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(write(`{}`))
	server.Listener = listener
	server.Start()
	defer server.Close()
	o := brief()
	o.Proxy = "http://127.0.0.1:1" // is not for sockets
	c := clientOf(t, o, "unix://"+path)
	if _, err := c.send(t.Context(), tokenX, billing); err != nil {
		t.Fatal(err)
	}
	server.Close()
	_, err = c.send(t.Context(), tokenX, billing)
	if err == nil || !strings.HasPrefix(err.Error(), "GET /v1/aws/sts/billing on unix://"+path+": ") {
		t.Errorf("got %v", err)
	}
}

// case 12, 13 and 37: what is not an answer of Vault.
func TestClientTakesNothingFromAnotherServer(t *testing.T) {
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		class  upstream.Class
		want   string
	}{
		"nothing":       {write(""), upstream.ClassMalformed, errNotVault.Error()},
		"HTML":          {write("<html>CONFIDENTIAL</html>"), upstream.ClassMalformed, errNotVault.Error()},
		"a list":        {write("[]"), upstream.ClassMalformed, errNotVault.Error()},
		"null":          {write("null"), upstream.ClassMalformed, errNotVault.Error()},
		"cut off":       {write(`{"data": {"access_key": "CONFIDENTIAL`), upstream.ClassMalformed, errNotVault.Error()},
		"two documents": {write(`{}{}`), upstream.ClassMalformed, errNotVault.Error()},
		"another type":  {write(`{"data": "CONFIDENTIAL"}`), upstream.ClassMalformed, errNotVault.Error()},
		"deep nesting":  {write(`{"data": {"x": ` + strings.Repeat("[", 100_000)), upstream.ClassMalformed, errNotVault.Error()},
		"too much":      {write(strings.Repeat(" ", upstream.MaxAnswer+1)), upstream.ClassTooLarge, "the answer is larger than 1048576 bytes"},
		"a balancer": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<html>CONFIDENTIAL", http.StatusBadGateway)
		}, upstream.ClassServer, "answered 502 Bad Gateway"},
		"no start yet, case 26": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"errors": ["Vault is not initialized"]}`, http.StatusNotImplemented)
		}, upstream.ClassServer, "answered 501: Vault is not initialised; somebody must run its operator init"},
		"a bad redirect": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://%CONFIDENTIAL")
			w.WriteHeader(307)
		}, upstream.ClassMalformed, "the request cannot be sent, or the answer is a redirect to nowhere"},
		"a move": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://other")
			w.WriteHeader(301)
		}, upstream.ClassRedirect, `answered 301 Moved Permanently: it leads to "https://other"; redirects are not followed, set the address itself`},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := serve(t, c.handle)
			_, err := clientOf(t, brief(), address).send(t.Context(), tokenX, billing)
			class, got := says(t, err)
			if class != c.class || got != c.want || strings.Contains(err.Error(), "CONFIDENTIAL") {
				t.Errorf("got %s: %v, want %s: %s", class, err, c.class, c.want)
			}
		})
	}
}

// case 28, 30, 31, 36 and 37: the next address is asked.
func TestClientAsksTheNextAddress(t *testing.T) {
	hangs := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	says := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, status) }
	}
	for name, c := range map[string]struct {
		first http.HandlerFunc
		next  bool
	}{
		"hangs":         {hangs, true},
		"sealed":        {says(503, `{"errors": ["Vault is sealed"]}`), true},
		"no leader":     {says(500, `{"errors": ["local node not active but active cluster node not found"]}`), true},
		"a maintenance": {says(502, "<html>"), true},
		"rubbish":       {write("<html>"), true},
		"a leader nowhere": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://192.0.2.1:8200/v1/x")
			w.WriteHeader(307)
		}, true},
		"a standby that only reads": {says(500, `{"errors": ["cannot write to readonly storage"]}`), true},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"data": `)
		}, true},
		"AWS throttles":     {says(502, `{"errors": ["Throttling: Rate exceeded"]}`), false},
		"STS does not work": {says(400, `{"errors": ["InternalFailure: x"]}`), false},
		"forbidden":         {says(403, `{"errors": ["permission denied"]}`), false},
		"missing":           {says(404, `{"errors": []}`), false},
	} {
		t.Run(name, func(t *testing.T) {
			first, asked := serve(t, c.first)
			second, _ := serve(t, write(`{}`))
			client := clientOf(t, brief(), first, second)
			for range 2 { // the second time it is remembered
				if _, err := client.send(t.Context(), tokenX, billing); (err == nil) != c.next {
					t.Errorf("got %v", err)
				}
			}
			if c.next && asked.Load() != 1 {
				t.Errorf("the address that failed was asked %d times, want once", asked.Load())
			}
		})
	}
}

// case 31: nobody is there, or the name leads nowhere.
func TestClientAsksTheNextAddressWhereNobodyIs(t *testing.T) {
	second, _ := serve(t, write(`{}`))
	closed := httptest.NewServer(write(`{}`))
	closed.Close()
	for _, first := range []string{closed.URL, "http://nobody.invalid:8200"} {
		if _, err := clientOf(t, brief(), first, second).send(t.Context(), tokenX, billing); err != nil {
			t.Errorf("after %s: %v", first, err)
		}
	}
}

// case 27 and 28: a standby that does not forward.
func TestClientFollowsAStandbyOnce(t *testing.T) {
	var got *http.Request
	var body string
	leader, leaderAsked := serve(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, body = r, string(text)
		write(`{}`)(w, r)
	})
	leads := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to+r.URL.RequestURI())
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	}
	standby, _ := serve(t, leads(leader))
	r := request{method: "POST", path: "aws/sts/billing", query: map[string][]string{"ttl": {"1h"}}, body: map[string]any{"a": 1}}

	if _, err := clientOf(t, brief(), standby, leader).send(t.Context(), tokenX, r); err != nil {
		t.Fatal(err)
	}
	if got.Method != "POST" || got.URL.RequestURI() != "/v1/aws/sts/billing?ttl=1h" || body != `{"a":1}` || got.Header.Get("X-Vault-Token") != tokenX.Reveal() || got.Header.Get("X-Vault-Request") != "true" {
		t.Errorf("the leader got %s %s %s", got.Method, got.URL.RequestURI(), body)
	}

	before := leaderAsked.Load()
	_, err := clientOf(t, brief(), standby).send(t.Context(), tokenX, r)
	class, text := says(t, err)
	if want := `this is a standby and its leader "` + leader + `" is no configured address, so the token does not go there; add it to address, or let Vault forward requests`; class != upstream.ClassServer || text != want {
		t.Errorf("got %s: %s\nwant %s", class, text, want)
	}
	if leaderAsked.Load() != before {
		t.Error("the token went to an address that nobody configured")
	}

	var loop string
	loop, looped := serve(t, func(w http.ResponseWriter, r *http.Request) { leads(loop)(w, r) })
	if _, err = clientOf(t, brief(), loop).send(t.Context(), tokenX, r); err == nil || looped.Load() != 2 {
		t.Errorf("a loop: %d requests, %v", looped.Load(), err)
	}
}

// The token goes from https to https only, and there only to where our own authority
// vouches for the server.
func TestClientTakesTheTokenNowhereElse(t *testing.T) {
	var got atomic.Int32
	count := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got.Add(1); write(`{}`)(w, r) })
	secure, plain := httptest.NewTLSServer(count), httptest.NewServer(count)
	defer secure.Close()
	defer plain.Close()
	for name, c := range map[string]struct {
		to    string
		ownCA bool
		want  int32
	}{
		"https, our authority":   {secure.URL, true, 1},
		"https, any authority":   {secure.URL, false, 0},
		"http":                   {plain.URL, true, 0},
		"no host":                {"", true, 0},
		"a user in it":           {strings.Replace(secure.URL, "://", "://user@", 1), true, 0},
		"another scheme, a file": {"file:///etc/passwd", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got.Store(0)
			standby := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", c.to+r.URL.Path)
				w.WriteHeader(http.StatusTemporaryRedirect)
			}))
			defer standby.Close()
			o := brief()
			o.TLS.CA = caFile(t, standby)
			client := clientOf(t, o, standby.URL)
			client.ownCA = c.ownCA
			_, err := client.send(t.Context(), tokenX, billing)
			if got.Load() != c.want || (err == nil) != (c.want == 1) {
				t.Errorf("got %d requests, %v, want %d", got.Load(), err, c.want)
			}
		})
	}
}

func caFile(t *testing.T, s *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	return path
}

// case 38 to 40: a limit for requests, or for leases.
func TestClientBelievesRetryAfterWithinReason(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 0, "9": 9 * time.Second, "86400": 5 * time.Minute, "-1": 0, "soon": 0} {
		address, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", value)
			http.Error(w, `{"errors": ["request path \"aws/sts/billing\": lease count quota exceeded"]}`, http.StatusTooManyRequests)
		})
		_, err := clientOf(t, brief(), address).send(t.Context(), tokenX, billing)
		fault, _ := errors.AsType[*upstream.Error](err)
		if fault == nil || fault.Wait != want || fault.Kind != upstream.ClassThrottled {
			t.Errorf("%q: got %v, want a wait of %v", value, err, want)
		}
	}
}

// case 20
func TestAge(t *testing.T) {
	for text, want := range map[string]time.Duration{"1200": 20 * time.Minute, "": 0, "-5": 0, "x": 0, "99999999999999999999": 0, "9999999999": maxAge} {
		if got := age(http.Header{"Age": {text}}); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// case 68: certificates, of both sides.
func TestClientFailsClosed(t *testing.T) {
	server := httptest.NewTLSServer(write(`{}`))
	defer server.Close()
	if _, err := clientOf(t, brief(), server.URL).send(t.Context(), tokenX, billing); err == nil {
		t.Error("a server that nobody vouches for is believed")
	}
	old := httptest.NewUnstartedServer(write(`{}`))
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11}
	old.StartTLS()
	defer old.Close()
	o := brief()
	o.TLS.CA = caFile(t, old)
	_, err := clientOf(t, o, old.URL).send(t.Context(), tokenX, billing)
	if class, _ := says(t, err); class != upstream.ClassTLS {
		t.Errorf("TLS 1.1: got %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{`{}`, `{"errors": ["Vault is sealed"]}`, `{"auth": {"client_token": "x", "lease_duration": 1e3}}`, `{"data": {"ttl": -1}, "wrap_info": {"ttl": "60"}}`} {
		f.Add(200, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a := &upstream.Answer{Status: status, Body: body}
		if status < 200 || status >= 300 {
			for _, path := range []string{"auth/approle/login", "aws/sts/x", "sys/wrapping/unwrap", ""} {
				err := explain(a, request{path: path})
				if fault, ok := errors.AsType[*upstream.Error](err); !ok || fault.Err == nil || len(body) > 40 && strings.Contains(err.Error(), string(body)) {
					t.Errorf("%s: %v", path, err)
				}
			}
			return
		}
		s, err := decode(a)
		if err != nil {
			return
		}
		t2, err := tokenOf(&answer{secret: s, raw: a, sent: time.Now()}, "", zerolog.Nop())
		if err == nil && (t2.value.Empty() || t2.until.Before(t2.from) && !t2.until.IsZero()) {
			t.Errorf("%s gives a token %+v", body, t2)
		}
	})
}
