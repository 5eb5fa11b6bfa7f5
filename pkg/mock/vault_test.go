package mock

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A vaultAnswer is what a test sees of an answer.
type vaultAnswer struct {
	status int
	header http.Header
	text   string
	envelope
	Errors []string `json:"errors"`
}

// A vaultTest asks a Vault without a network.
type vaultTest struct {
	*Vault
	token     string
	namespace string
	wrap      string
	from      string // the address of the client
	spoil     func(*http.Request)
}

// newVaultTest has a Vault and a token for all that it has.
func newVaultTest(o VaultOptions) *vaultTest {
	v := NewVault(o)
	return &vaultTest{Vault: v, token: v.IssueToken(VaultGrant{})}
}

// as is the same with another token.
func (v vaultTest) as(token string) *vaultTest {
	v.token = token
	return &v
}

func (v *vaultTest) ask(t *testing.T, method, path string, body any) vaultAnswer {
	t.Helper()
	var text []byte
	switch body := body.(type) {
	case nil:
	case string:
		text = []byte(body)
	default:
		var err error
		if text, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	r := httptest.NewRequest(method, "/v1/"+path, bytes.NewReader(text))
	for name, value := range map[string]string{"X-Vault-Token": v.token, "X-Vault-Namespace": v.namespace, "X-Vault-Wrap-TTL": v.wrap} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	if v.from != "" {
		r.RemoteAddr = v.from
	}
	if v.spoil != nil {
		v.spoil(r)
	}
	w := httptest.NewRecorder()
	v.ServeHTTP(w, r)
	a := vaultAnswer{status: w.Code, header: w.Header(), text: w.Body.String()}
	if a.text != "" {
		decoder := json.NewDecoder(strings.NewReader(a.text))
		decoder.UseNumber()
		if err := decoder.Decode(&a); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, a.text)
		}
	}
	return a
}

func (v *vaultTest) get(t *testing.T, path string) vaultAnswer {
	t.Helper()
	return v.ask(t, http.MethodGet, path, nil)
}

func (v *vaultTest) post(t *testing.T, path string, body any) vaultAnswer {
	t.Helper()
	return v.ask(t, http.MethodPost, path, body)
}

// wants checks the status, and of an error the whole text.
func (a vaultAnswer) wants(t *testing.T, what string, status int, errors ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: status %d %s, want %d", what, a.status, a.text, status)
		return
	}
	if got, want := strings.Join(a.Errors, "|"), strings.Join(errors, "|"); got != want {
		t.Errorf("%s: errors %q, want %q", what, got, want)
	}
}

// matches compares the body, in which identifiers and times are replaced.
func (a vaultAnswer) matches(t *testing.T, what, want string) {
	t.Helper()
	got := a.text
	for _, one := range [][2]string{
		{`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "UUID"},
		{`(hv[sb]\.|[sb]\.)?` + Marker + `[A-Z2-7]+`, "SECRET"},
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`, "TIME"},
		{`A(SIA|KIA)[A-Z2-7]{16}`, "ID"},
		{`(creds|sts)/(\w+)/[A-Z2-7]{24}`, "$1/$2/LEASE"},
		{`"accessor":"[A-Z2-7]{24}"`, `"accessor":"ACCESSOR"`},
		{`vault-[\w-]*-\d{10}-[A-Z2-7]+`, "SESSION"},
	} {
		got = regexp.MustCompile(one[0]).ReplaceAllString(got, one[1])
	}
	if got != want+"\n" {
		t.Errorf("%s: got\n%swant\n%s", what, got, want)
	}
}

func TestVaultAnswersInAnEnvelope(t *testing.T) {
	v := newVaultTest(VaultOptions{AWSRoles: []VaultAWSRole{{Name: "web"}}, KV: []VaultKV{{}}})
	a := v.get(t, "aws/creds/web")
	a.wants(t, "keys", 200)
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Content-Type": "application/json", "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if _, err := http.ParseTime(a.header.Get("Date")); err != nil {
		t.Errorf("Date: %v", err)
	}
	v.get(t, "secret/data/none").matches(t, "a missing secret", `{"errors":[]}`)
	root := v.as(v.addRoot())
	root.get(t, "nowhere/x").wants(t, "no mount", 404, `no handler for route "nowhere/x". route entry not found.`)
	root.get(t, "aws/nothing").wants(t, "no path", 404, "1 error occurred:\n\t* unsupported path\n\n")
	root.ask(t, http.MethodDelete, "aws/creds/web", nil).wants(t, "a wrong verb", 405, "1 error occurred:\n\t* unsupported operation\n\n")
	root.ask(t, "PROPFIND", "aws/creds/web", nil).wants(t, "an unknown verb", 405)
	root.post(t, "aws/creds/web", "{").wants(t, "bad JSON", 400, "error parsing JSON")
	root.post(t, "aws/creds/web", strings.Repeat(" ", maxCall+1)).wants(t, "a large body", 413, "http: request body too large")
	if b := root.post(t, "auth/token/revoke", map[string]string{"token": v.IssueToken(VaultGrant{})}); b.status != 204 || b.text != "" || b.header.Get("Content-Type") != "application/json" {
		t.Errorf("nothing to answer: %d %q", b.status, b.text)
	}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
		root.ask(t, method, "aws/creds/web", nil).wants(t, method, 200)
	}
	for _, list := range []vaultAnswer{root.ask(t, "LIST", "aws/roles", nil), root.get(t, "aws/roles?list=true")} {
		list.matches(t, "a list", `{"request_id":"UUID","lease_id":"","renewable":false,"lease_duration":0,"data":{"keys":["web"]},"wrap_info":null,"warnings":null,"auth":null}`)
	}
	w := httptest.NewRecorder()
	v.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ui/", nil))
	if w.Code != 404 || w.Body.String() != "404 page not found\n" {
		t.Errorf("beside /v1/: %d %q", w.Code, w.Body)
	}
}

// addRoot makes a root token.
func (v *Vault) addRoot() string {
	v.state.Lock()
	defer v.state.Unlock()
	return v.addToken(VaultToken{Root: true})
}

func TestVaultTokenHeaders(t *testing.T) {
	v := newVaultTest(VaultOptions{})
	none := v.as("")
	none.get(t, "aws/creds/test_role").wants(t, "none", 403, "permission denied")
	none.spoil = func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+v.token) }
	none.get(t, "aws/creds/test_role").wants(t, "a bearer", 200)
	v.as("hvs.nonsense").get(t, "aws/creds/test_role").wants(t, "an unknown one", 403, "permission denied")
}

func TestVaultPolicies(t *testing.T) {
	v := newVaultTest(VaultOptions{
		AWSRoles: []VaultAWSRole{{Name: "web"}, {Name: "batch"}},
		KV:       []VaultKV{{Secrets: map[string]map[string]any{"team/a/key": {"k": "v"}, "team/b/key": {"k": "v"}}}},
		Policies: map[string][]VaultRule{
			"read":  {{Path: "aws/creds/web", Capabilities: []string{"read"}}},
			"write": {{Path: "aws/creds/*", Capabilities: []string{"update"}}},
			"deny":  {{Path: "aws/creds/web", Capabilities: []string{"deny"}}},
			"part":  {{Path: "secret/data/team/+/key", Capabilities: []string{"read"}}},
			"wrap":  {{Path: "aws/creds/web", Capabilities: []string{"read"}, MinWrap: time.Second, MaxWrap: time.Minute}},
		},
	})
	denied := "1 error occurred:\n\t* permission denied\n\n"
	for _, c := range []struct {
		policies     string
		method, path string
		wrap         string
		status       int
	}{
		{"read", "GET", "aws/creds/web", "", 200},
		{"read", "POST", "aws/creds/web", "", 403},
		{"read", "GET", "aws/creds/batch", "", 403},
		{"write", "POST", "aws/creds/web", "", 200},
		{"write", "GET", "aws/creds/web", "", 403},
		{"read write", "POST", "aws/creds/web", "", 403}, // the better fit decides alone
		{"read deny", "GET", "aws/creds/web", "", 403},
		{"write deny", "POST", "aws/creds/batch", "", 200},
		{"part", "GET", "secret/data/team/a/key", "", 200},
		{"part", "GET", "secret/data/team/key", "", 403},
		{"wrap", "GET", "aws/creds/web", "", 403},
		{"wrap", "GET", "aws/creds/web", "30s", 200},
		{"wrap", "GET", "aws/creds/web", "600", 403},
	} {
		one := v.as(v.IssueToken(VaultGrant{Policies: strings.Fields(c.policies)}))
		one.wrap = c.wrap
		a := one.ask(t, c.method, c.path, nil)
		if c.status == 403 {
			a.wants(t, c.policies+" "+c.method+" "+c.path+" "+c.wrap, 403, denied)
			continue
		}
		a.wants(t, c.policies+" "+c.method+" "+c.path+" "+c.wrap, c.status)
	}
	v.SetPolicy("purser")
	v.get(t, "aws/creds/web").wants(t, "a policy that was taken away", 403, denied)
}
