package ecs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
)

// The conformance tests are named by the vectors of the protocol reference.
var expires = time.Date(2024, 1, 2, 9, 4, 5, 0, time.UTC)

const token = "s3cr3t"

func webKeys() *credential.AWS {
	return &credential.AWS{
		AccessKeyID:     "ASIAEXAMPLEEXAMPLE01",
		SecretAccessKey: credential.NewSecret("secretEXAMPLE/with+slash=and0123456789ab"),
		SessionToken:    credential.NewSecret("tokenEXAMPLE=="),
		Issued:          expires.Add(-6 * time.Hour),
		Expires:         expires,
	}
}

// A caller is a View with state: what is in stock, and what is wrong with the rest.
type caller struct {
	names  []string
	v1     bool
	more   bool // may come
	stock  map[string]*credential.AWS
	errors map[string]error
}

func (c *caller) Names() []string { return c.names }
func (c *caller) IMDSv1() bool    { return c.v1 }
func (c *caller) Pending() bool   { return c.more }
func (c *caller) Get(_ context.Context, key credential.Key) (credential.Credential, error) {
	if err := c.errors[key.Name]; err != nil {
		return nil, err
	}
	if found := c.stock[key.Name]; found != nil {
		return found, nil
	}
	return nil, credential.ErrNotFound
}

// having returns a caller of two roles, the first one with changed keys.
func having(change func(*credential.AWS)) *caller {
	keys, other := webKeys(), webKeys()
	change(keys)
	other.AccessKeyID = "ASIAEXAMPLEEXAMPLE02"
	return &caller{names: []string{"web", "o@ther"}, stock: map[string]*credential.AWS{"web": keys, "o@ther": other}}
}

func unchanged(*credential.AWS) {}

func lacking(err error) *caller {
	return &caller{names: []string{"web"}, errors: map[string]error{"web": err}}
}

// golden is the one answer whose bytes are given from outside.
func golden(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/G-cont")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	if got := hex.EncodeToString(sum[:]); got != "210be1772fc50474289a1c76cf028ab14dd52e2605197387e4c69b7c85d37628" {
		t.Fatalf("testdata/G-cont has SHA-256 %s", got)
	}
	return string(text)
}

func newFrontend(t testing.TB, authorization string) *Frontend {
	t.Helper()
	f, err := New(Options{Authorization: credential.NewSecret(authorization)})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// ask sends a request through a real server, behind the guard of a listener on port
// 25772, and returns the answer and the outcome.
func ask(t *testing.T, f *Frontend, view frontend.View, r *http.Request) (*http.Response, string, frontend.Outcome) {
	t.Helper()
	guard := frontend.NewGuard(netip.MustParseAddrPort("127.0.0.1:25772"), Hosts()...)
	var outcome frontend.Outcome
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		outcome = f.Answer(w, frontend.Request{Request: r, View: view, Refused: guard.Check(r)})
	}))
	defer server.Close()
	if r.Host == "" {
		r.Host = "169.254.170.2"
	}
	r.URL.Scheme, r.URL.Host = "http", server.Listener.Addr().String()
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body), outcome
}

func newRequest(t *testing.T, method, target string, header http.Header) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://x"+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host, r.Header = header.Get("Host"), header.Clone()
	r.Header.Del("Host")
	return r
}

func with(lines ...string) http.Header {
	h := http.Header{"Authorization": {token}}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Set(name, value)
	}
	return h
}

func TestKeysAreServed(t *testing.T) {
	second := strings.Replace(golden(t), "EXAMPLE01", "EXAMPLE02", 1)
	account := func(k *credential.AWS) { k.AccountID = "111122223333" }
	role := func(k *credential.AWS) { k.RoleARN = "arn:aws:iam::111122223333:role/web" }
	withAccount := strings.Replace(golden(t), `,"Expiration"`, `,"AccountId":"111122223333","Expiration"`, 1)
	withRole := strings.Replace(withAccount, `{`, `{"RoleArn":"arn:aws:iam::111122223333:role/web",`, 1)
	for _, test := range []struct {
		id, target string
		header     http.Header
		view       *caller
		want       string
	}{
		{"C01", "/v1/credentials", with(), having(unchanged), golden(t)},
		{"C01 slash", "/v1/credentials/", with(), having(unchanged), golden(t)},
		{"C01 double slash", "//v1//credentials", with(), having(unchanged), golden(t)},
		{"C01 query", "/v1/credentials?id=1", with(), having(unchanged), golden(t)},
		{"C02", "/v1/credentials", with(), having(account), withAccount},
		{"C02 role", "/v1/credentials", with(), having(role), withRole},
		{"by name", "/v2/credentials/web", with(), having(unchanged), golden(t)},
		{"by another name, escaped", "/v2/credentials/o%40ther/", with(), having(unchanged), second},
		{"C09", "/v1/credentials", with("X-Aws-Ec2-Metadata-Token: wrong", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 0"), having(unchanged), golden(t)},
		{"C12", "/v1/credentials", with(), having(func(k *credential.AWS) {
			k.Expires = expires.Add(999 * time.Millisecond).In(time.FixedZone("west", -5*3600))
		}), golden(t)},
		{"C14", "/v1/credentials", with("Host: [::1]:25772"), having(unchanged), golden(t)},
		{"C16 EKS", "/v1/credentials", with("Host: 169.254.170.23"), having(unchanged), golden(t)},
		{"C16 EKS, IPv6", "/v1/credentials", with("Host: [fd00:ec2::23]"), having(unchanged), golden(t)},
	} {
		t.Run(test.id, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				got, body, outcome := ask(t, newFrontend(t, token), test.view, newRequest(t, method, test.target, test.header))
				want := test.want
				if method == http.MethodHead {
					want = ""
				}
				if got.StatusCode != http.StatusOK || body != want || got.ContentLength != int64(len(test.want)) {
					t.Errorf("%s: %s, length %d, %q, want %q", method, got.Status, got.ContentLength, body, want)
				}
				if types := got.Header["Content-Type"]; !slices.Equal(types, []string{"application/json"}) {
					t.Errorf("content type %q", types)
				}
				if outcome.Decision != frontend.Served || outcome.Status != http.StatusOK || outcome.Credential == "" || outcome.Dialect != Name {
					t.Errorf("outcome %+v", outcome)
				}
			}
		})
	}
}

func TestFailuresAreJSON(t *testing.T) {
	for _, test := range []struct {
		id, method, target string
		header             http.Header
		view               *caller
		status             int
		code               string
		decision           frontend.Decision
		route              string
	}{
		{"C03", "GET", "/v1/credentials", http.Header{}, having(unchanged), 401, "Unauthorized", frontend.Unauthorized, firstPattern},
		{"C04", "GET", "/v1/credentials", with("Authorization: s3cr3T"), having(unchanged), 401, "Unauthorized", frontend.Unauthorized, firstPattern},
		{"C04 longer", "GET", "/v1/credentials", with("Authorization: s3cr3t1"), having(unchanged), 401, "Unauthorized", frontend.Unauthorized, firstPattern},
		{"C04 scheme", "GET", "/v1/credentials", with("Authorization: Bearer s3cr3t"), having(unchanged), 401, "Unauthorized", frontend.Unauthorized, firstPattern},
		{"C04 not even IMDSv1", "GET", "/v1/credentials", http.Header{}, &caller{v1: true}, 401, "Unauthorized", frontend.Unauthorized, firstPattern},
		{"C06 never fetched", "GET", "/v1/credentials", with(), lacking(credential.ErrUnavailable), 503, "CredentialsUnavailable", frontend.Unavailable, firstPattern},
		{"C06 expired", "GET", "/v2/credentials/web", with(), lacking(credential.ErrExpired), 503, "CredentialsUnavailable", frontend.Unavailable, namedPattern},
		{"C06 refused by the upstream", "GET", "/v1/credentials", with(), lacking(credential.ErrRefused), 503, "CredentialsUnavailable", frontend.Unavailable, firstPattern},
		{"C06 no answer in time", "GET", "/v1/credentials", with(), lacking(context.DeadlineExceeded), 503, "CredentialsUnavailable", frontend.Unavailable, firstPattern},
		{"C07", "GET", "/unknown", with(), having(unchanged), 404, "NotFound", frontend.NotFound, elsewhere},
		{"C07 below", "GET", "/v1/credentials/web", with(), having(unchanged), 404, "NotFound", frontend.NotFound, elsewhere},
		{"C07 no name", "GET", "/v2/credentials/", with(), having(unchanged), 404, "NotFound", frontend.NotFound, elsewhere},
		{"C07 two names", "GET", "/v2/credentials/web/x", with(), having(unchanged), 404, "NotFound", frontend.NotFound, elsewhere},
		{"C07 dots", "GET", "/v2/credentials/../credentials/web", with(), having(unchanged), 404, "NotFound", frontend.NotFound, elsewhere},
		{"C07 hidden dots", "GET", "/v2/credentials/%2e%2e", with(), having(unchanged), 404, "NotFound", frontend.NotFound, elsewhere},
		{"C07 hidden slash", "GET", "/v2/credentials%2Fweb", with(), having(unchanged), 404, "NotFound", frontend.NotFound, elsewhere},
		{"role on demand, unknown", "GET", "/v2/credentials/arn:aws:iam::123456789012:role%2Fapp", with(), having(unchanged), 404, "NotFound", frontend.NotFound, namedPattern},
		{"role on demand, elsewhere", "GET", "/v1/credentials/arn:aws:iam::123456789012:role%2Fapp", with(), having(unchanged), 404, "NotFound", frontend.NotFound, elsewhere},
		{"role on demand, unescaped", "GET", "/v2/credentials/arn:aws:iam::123456789012:role/app", with(), having(unchanged), 404, "NotFound", frontend.NotFound, elsewhere},
		{"C07 without token", "GET", "/unknown", http.Header{}, having(unchanged), 401, "Unauthorized", frontend.Unauthorized, elsewhere},
		{"unknown name", "GET", "/v2/credentials/nobody", with(), having(unchanged), 404, "NotFound", frontend.NotFound, namedPattern},
		{"no credential for the caller yet", "GET", "/v1/credentials", with(), &caller{more: true}, 503, "CredentialsUnavailable", frontend.Unavailable, firstPattern},
		{"no credential for the caller", "GET", "/v1/credentials", with(), &caller{}, 404, "NotFound", frontend.NotFound, firstPattern},
		{"C08", "POST", "/v1/credentials", with(), having(unchanged), 405, "MethodNotAllowed", frontend.Invalid, firstPattern},
		{"C08 OPTIONS", "OPTIONS", "/v1/credentials", with(), having(unchanged), 405, "MethodNotAllowed", frontend.Invalid, firstPattern},
		{"C10", "GET", "/v1/credentials", with("X-Forwarded-For: 1.2.3.4"), having(unchanged), 403, "Forbidden", frontend.Refused, firstPattern},
		{"C25", "GET", "/v1/credentials", with("Host: evil.example"), having(unchanged), 403, "Forbidden", frontend.Refused, firstPattern},
	} {
		t.Run(test.id, func(t *testing.T) {
			got, body, outcome := ask(t, newFrontend(t, token), test.view, newRequest(t, test.method, test.target, test.header))
			var read map[string]string
			if err := json.Unmarshal([]byte(body), &read); err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			if got.StatusCode != test.status || read["code"] != test.code || read["Code"] != test.code || read["message"] == "" || read["message"] != read["Message"] {
				t.Errorf("%s %q", got.Status, body)
			}
			if got.ContentLength != int64(len(body)) || !slices.Equal(got.Header["Content-Type"], []string{"application/json"}) {
				t.Errorf("length %d, header %v", got.ContentLength, got.Header)
			}
			if allow := got.Header.Get("Allow"); (allow == "GET, HEAD") != (test.status == http.StatusMethodNotAllowed) {
				t.Errorf("Allow %q", allow)
			}
			if outcome.Decision != test.decision || outcome.Route != test.route || outcome.Status != test.status || outcome.Reason == "" {
				t.Errorf("outcome %+v", outcome)
			}
			if strings.Contains(fmt.Sprintf("%+v %s", outcome, body), token) {
				t.Errorf("the token shows in %q or %+v", body, outcome)
			}
		})
	}
}

func TestWithoutATokenOnlyCallersOfIMDSv1AreServed(t *testing.T) {
	f := newFrontend(t, "")
	for _, test := range []struct {
		v1     bool
		header http.Header
		want   int
	}{
		{true, http.Header{}, http.StatusOK},
		{true, with(), http.StatusOK},
		{false, http.Header{}, http.StatusUnauthorized},
		{false, with(), http.StatusUnauthorized},
		{false, http.Header{"Authorization": {""}}, http.StatusUnauthorized},
	} {
		view := having(unchanged)
		view.v1 = test.v1
		if got, body, _ := ask(t, f, view, newRequest(t, http.MethodGet, "/v1/credentials", test.header)); got.StatusCode != test.want {
			t.Errorf("IMDSv1 %v, header %v: %s %s", test.v1, test.header, got.Status, body)
		}
	}
}

func TestRefusedRequestNeedsNoView(t *testing.T) {
	for _, target := range []string{"/v1/credentials", "/v2/credentials/web", "/"} {
		w := httptest.NewRecorder()
		newFrontend(t, "").Answer(w, frontend.Request{Request: httptest.NewRequest(http.MethodGet, target, nil), Refused: "a peer from elsewhere"})
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
}

func TestTokenMustFitIntoAHeader(t *testing.T) { // C20
	for _, bad := range []string{"s3cr3t\n", "s3cr3t\r", "s3 cr3t", "\x00", "sécret"} {
		_, err := New(Options{Authorization: credential.NewSecret(bad)})
		if err == nil {
			t.Errorf("%q was taken", bad)
		} else if strings.Contains(err.Error(), "s3") {
			t.Errorf("the token shows in %q", err)
		}
	}
}

func TestOwnsItsTwoPaths(t *testing.T) {
	f := newFrontend(t, token)
	for target, want := range map[string]bool{
		"/v1/credentials": true, "/v1/credentials/": true, "//v1/credentials": true, "/v1/credentials/x": true, "/v2/credentials/web": true, "/v2/credentials": true,
		"/": false, "/v1": false, "/v1/credentialsx": false, "/v3/credentials": false, "/latest/api/token": false, "/1.0/meta-data/": false,
	} {
		if got := f.Owns(httptest.NewRequest(http.MethodGet, target, nil)); got != want {
			t.Errorf("%s: %v, want %v", target, got, want)
		}
	}
}

// FuzzPath asks for any path with the token. Only the caller's credentials may
// answer, each under its own name.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/v1/credentials", "/v2/credentials/web", "/v2/credentials/o%40ther", "/v2/credentials/..", "/v2/credentials/%2e%2e",
		"/v2/credentials/%2fweb", "//v1//credentials//", "/", "*", "/v2/credentials/\xff", "/v2/credentials/web?x"} {
		f.Add(seed)
	}
	front := newFrontend(f, token)
	f.Fuzz(func(t *testing.T, target string) {
		u, err := http.NewRequest(http.MethodGet, target, nil)
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		r := &http.Request{Method: http.MethodGet, URL: u.URL, Header: http.Header{"Authorization": {token}}}
		outcome := front.Answer(w, frontend.Request{Request: r, View: having(unchanged)})
		segments := slices.DeleteFunc(strings.Split(r.URL.Path, "/"), func(s string) bool { return s == "" })
		want := http.StatusNotFound
		if path := strings.Join(segments, "/"); path == "v1/credentials" || path == "v2/credentials/web" || path == "v2/credentials/o@ther" {
			want = http.StatusOK
		}
		if hidden := r.URL.RawPath != ""; w.Code != want && (!hidden || w.Code != http.StatusNotFound) || outcome.Status != w.Code {
			t.Errorf("%q: %d, want %d, %+v", target, w.Code, want, outcome)
		}
	})
}
