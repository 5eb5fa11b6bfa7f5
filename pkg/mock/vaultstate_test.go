package mock

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestVaultStates(t *testing.T) {
	v := newVaultTest(VaultOptions{AppRoles: []VaultAppRole{{Name: "web", RoleID: "role"}}})
	login := func() vaultAnswer { return v.post(t, "auth/approle/login", map[string]string{"role_id": "x"}) }
	read := func() vaultAnswer { return v.get(t, "aws/creds/test_role") }
	health := func(query string) vaultAnswer { return v.as("").get(t, "sys/health"+query) }
	const noLeader = "local node not active but active cluster node not found"

	v.Seal()
	read().wants(t, "sealed", 503, "Vault is sealed")
	login().wants(t, "login when sealed", 503, "Vault is sealed")
	if a := health(""); a.status != 503 || !strings.Contains(a.text, `"sealed":true`) || !strings.Contains(a.text, `"standby":true`) {
		t.Errorf("health when sealed: %s", a.text)
	}
	if a := v.as("").get(t, "sys/seal-status"); a.status != 200 || !strings.Contains(a.text, `"sealed":true`) {
		t.Errorf("seal-status when sealed: %s", a.text)
	}
	v.Unseal()
	read().wants(t, "unsealed", 200)
	v.SetInitialized(false)
	read().wants(t, "not initialised", 503, "Vault is sealed")
	if a := health(""); a.status != 501 || !strings.Contains(a.text, `"initialized":false`) {
		t.Errorf("health when not initialised: %s", a.text)
	}
	v.SetInitialized(true)
	v.SetStandby("")
	read().wants(t, "no leader", 500, noLeader)
	v.SetStandby("https://leader.example.com:8200/")
	a := v.get(t, "aws/creds/test_role?ttl=15m")
	if a.status != 307 || a.header.Get("Location") != "https://leader.example.com:8200/v1/aws/creds/test_role?ttl=15m" || a.text != "" {
		t.Errorf("standby: %d %s %q", a.status, a.header.Get("Location"), a.text)
	}
	for query, want := range map[string]int{"": 429, "?standbyok=true": 200, "?standbyok": 429, "?standbyok=false": 429, "?standbycode=299": 299, "?standbyok=true&activecode=204": 204, "?sealedcode=200": 429} {
		if a := health(query); a.status != want {
			t.Errorf("health%s: %d, want %d", query, a.status, want)
		}
	}
}

func TestVaultHealth(t *testing.T) {
	v := newVaultTest(VaultOptions{})
	health := func(query string) vaultAnswer { return v.as("").get(t, "sys/health"+query) }
	for status, query := range map[int]string{472: "drsecondarycode", 473: "performancestandbycode", 474: "haunhealthycode", 530: "removedcode"} {
		v.SetHealth(status)
		if a := health(""); a.status != status {
			t.Errorf("health %d: %d", status, a.status)
		}
		if a := health("?" + query + "=299"); a.status != 299 {
			t.Errorf("health?%s: %d", query, a.status)
		}
	}
	v.SetHealth(0)
	if a := health(""); a.status != 200 || !strings.Contains(a.text, `"performance_standby":false`) {
		t.Errorf("health: %s", a.text)
	}
	if a := newVaultTest(VaultOptions{OpenBao: true}).get(t, "sys/health"); strings.Contains(a.text, "performance_standby") {
		t.Errorf("OpenBao's health: %s", a.text)
	}
}

func TestVaultStatesAsFaults(t *testing.T) {
	v := newVaultTest(VaultOptions{})
	for fault, want := range map[Kind]vaultError{Sealed: *errSealed, Uninitialized: *errSealed, NoLeader: {status: 500, errors: []string{"local node not active but active cluster node not found"}}, Forbidden: *errDenied} {
		v.SetFaults(Fault{Kind: fault, On: Credentials})
		v.get(t, "aws/creds/test_role").wants(t, string(fault), want.status, want.errors...)
	}
	v.SetFaults(Fault{Kind: Uninitialized})
	if a := v.get(t, "sys/health"); a.status != 501 {
		t.Errorf("health with the fault: %d", a.status)
	}
}

func TestVaultQuota(t *testing.T) {
	v := newVaultTest(VaultOptions{})
	const want = `request path "aws/creds/test_role": rate limit quota exceeded`
	v.SetFaults(Fault{Kind: Quota})
	a := v.get(t, "aws/creds/test_role")
	a.wants(t, "without headers", 429, want)
	if _, given := a.header["Retry-After"]; given {
		t.Error("there is Retry-After")
	}
	v.SetFaults(Fault{Kind: Quota, RetryAfter: 9 * time.Second})
	a = v.get(t, "aws/creds/test_role")
	a.wants(t, "with headers", 429, want)
	for name, want := range map[string]string{"Retry-After": "9", "X-Ratelimit-Limit": "1", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "9"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestVaultFailuresAreLists(t *testing.T) {
	v := newVaultTest(VaultOptions{})
	v.SetFaults(Fault{Kind: LeaseQuota})
	v.get(t, "aws/creds/test_role").wants(t, "a quota of leases", 429, "1 error occurred:\n\t* request path \"aws/creds/test_role\": lease count quota exceeded\n\n")
	v.SetFaults(Fault{Kind: Status, Status: 412, RetryAfter: time.Second})
	if a := v.get(t, "aws/creds/test_role"); a.status != 412 || len(a.Errors) != 1 || !strings.Contains(a.Errors[0], Marker) || a.header.Get("Retry-After") != "1" {
		t.Errorf("got %d %s", a.status, a.text)
	}
}

// A server is told that the client has given up only when the body has been read.
func TestVaultLetsGoOfAClientThatGivesUp(t *testing.T) {
	v := NewVault(VaultOptions{})
	v.SetFaults(Fault{Kind: Hang})
	gone := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		v.ServeHTTP(w, r)
	}))
	client := http.Client{Timeout: 50 * time.Millisecond}
	if res, err := client.Post(server.URL+"/v1/sys/leases/revoke", "application/json", strings.NewReader(`{"lease_id": "x"}`)); err == nil {
		res.Body.Close()
		t.Error("a request that hangs got an answer")
	}
	select {
	case <-gone:
		server.Close()
	case <-time.After(10 * time.Second):
		t.Error("the request goes on without its client")
	}
}

// Its state is one for all requests; the race detector says whether it is guarded.
func TestVaultServesManyAtOnce(t *testing.T) {
	v := newVaultTest(VaultOptions{AppRoles: []VaultAppRole{{Name: "web", RoleID: "role", SecretIDs: []VaultSecretID{{ID: "s"}}}}})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 20 {
				a := v.post(t, "auth/approle/login", map[string]string{"role_id": "role", "secret_id": "s"})
				if a.Auth != nil { // nobody had sealed it
					one := v.as(a.Auth.ClientToken)
					one.get(t, "aws/creds/test_role")
					one.post(t, "auth/token/revoke-self", nil)
				}
				v.Seal()
				v.Unseal()
				v.SetPolicy("other", VaultRule{Path: "x"})
			}
		})
	}
	for range 20 {
		v.Record()
		v.RevokeLeases()
	}
	clients.Wait()
	if got := v.Record().Logins["auth/approle/login"]; got == 0 {
		t.Error("nobody logged in")
	}
}

func TestVaultNamespaces(t *testing.T) {
	o := VaultOptions{
		OpenBao: true, Namespaces: []string{"team", "team/web"},
		AWSRoles: []VaultAWSRole{{Name: "root"}, {Mount: "team/aws", Name: "web"}, {Mount: "team/web/aws", Name: "deep"}},
		Users:    []VaultUser{{Mount: "team/auth/userpass", Name: "a", Password: "p"}},
		Tokens:   []VaultToken{{ID: "s." + Marker, Namespace: "team/web"}},
	}
	v := newVaultTest(o)
	at := func(namespace, token string) *vaultTest { one := v.as(token); one.namespace = namespace; return one }
	login := at("team", "").post(t, "auth/userpass/login/a", map[string]string{"password": "p"})
	login.wants(t, "login", 200)
	team := login.Auth.ClientToken
	if !strings.HasPrefix(team, "s.") {
		t.Error("a token with another prefix than OpenBao's")
	}
	for _, c := range []struct {
		name, namespace, token, path string
		status                       int
	}{
		{"its own", "team", team, "aws/creds/web", 200},
		{"its own in the path", "", team, "team/aws/creds/web", 200},
		{"one below", "team/web", team, "aws/creds/deep", 200},
		{"half in the header", "team", team, "web/aws/creds/deep", 200},
		{"one above", "", team, "aws/creds/root", 403},
		{"one above its own", "team", "s." + Marker, "aws/creds/web", 403},
		{"root's token below", "/team/", v.token, "aws/creds/web", 200},
		{"its lookup", "team", team, "auth/token/lookup-self", 200},
		{"root by name", "root", v.token, "aws/creds/root", 200},
	} {
		if a := at(c.namespace, c.token).get(t, c.path); a.status != c.status {
			t.Errorf("%s: %d %s", c.name, a.status, a.text)
		}
	}
	at("none", v.token).get(t, "aws/creds/root").wants(t, "unknown", 404, "namespace not found")
	v.SealNamespace("team")
	at("team", team).get(t, "aws/creds/web").wants(t, "sealed", 503, "Vault is sealed")
	v.get(t, "aws/creds/root").wants(t, "beside it", 200)
	v.UnsealNamespace("team")
	at("team", team).get(t, "aws/creds/web").wants(t, "unsealed", 200)

	community := newVaultTest(VaultOptions{})
	community.namespace = "none"
	community.get(t, "aws/creds/test_role").wants(t, "the community's edition", 200)
}

// order sends an order for a Vault.
func (v *vaultTest) order(method, path, body string) (int, string) {
	w := httptest.NewRecorder()
	v.ServeHTTP(w, httptest.NewRequest(method, "/_mock/vault"+path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// do is an order that is obeyed.
func (v *vaultTest) do(t *testing.T, method, path, body string) {
	t.Helper()
	if code, text := v.order(method, path, body); code != 204 {
		t.Errorf("%s %s: %d %s", method, path, code, text)
	}
}

func TestVaultOrders(t *testing.T) {
	v := newVaultTest(VaultOptions{
		AWSRoles: []VaultAWSRole{{Name: "user", Type: IAMUser}}, KV: []VaultKV{{}}, StaticRoles: []VaultStaticRole{{Name: "old"}},
		AppRoles: []VaultAppRole{{Name: "web", RoleID: "role"}}, OpenBao: true, Namespaces: []string{"team"},
	})
	status := func(path string) int { return v.get(t, path).status }
	health := func() int { return status("sys/health") }
	for _, c := range []struct {
		path string
		want int
	}{
		{"seal", 503}, {"unseal", 200}, {"uninitialize", 501}, {"initialize", 200}, {"standby?leader=http://x", 429}, {"active", 200},
	} {
		v.do(t, "POST", "/"+c.path, "")
		if got := health(); got != c.want {
			t.Errorf("after %s health is %d", c.path, got)
		}
	}
	v.do(t, "POST", "/seal?namespace=team", "")
	if got := status("team/aws/x"); got != 503 {
		t.Errorf("a sealed namespace: %d", got)
	}
	v.do(t, "POST", "/unseal?namespace=team", "")
	v.do(t, "PUT", "/secrets/secret/a/b", `{"k":"v"}`)
	if a := v.get(t, "secret/data/a/b"); a.status != 200 {
		t.Errorf("a secret that was written: %s", a.text)
	}
	v.do(t, "DELETE", "/secrets/secret/a/b", "")
	if got := status("secret/data/a/b"); got != 404 {
		t.Errorf("a secret that was deleted: %d", got)
	}
	first := v.get(t, "aws/static-creds/old").Data["access_key"]
	v.do(t, "POST", "/static/old", "")
	if v.get(t, "aws/static-creds/old").Data["access_key"] == first {
		t.Error("static keys were not changed")
	}
	for path, field := range map[string]string{"/secret-ids/web": "secret_id", "/secret-ids/web?wrap=30s": "wrapping_token"} {
		code, text := v.order("POST", path, "")
		var made map[string]string
		if err := json.Unmarshal([]byte(text), &made); code != 200 || err != nil || !strings.Contains(made[field], Marker) {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	v.do(t, "DELETE", "/secret-ids/web", "")
}

func TestVaultOrdersThatTakeAway(t *testing.T) {
	v := newVaultTest(VaultOptions{AWSRoles: []VaultAWSRole{{Name: "user", Type: IAMUser}}, KV: []VaultKV{{}}, StaticRoles: []VaultStaticRole{{Name: "old"}}})
	status := func(path string) int { return v.get(t, path).status }
	v.get(t, "aws/creds/user")
	v.do(t, "DELETE", "/leases", "")
	if r := v.Record(); r.Leases != 0 || r.LeasesEnded != 1 {
		t.Errorf("leases after their end: %+v", r)
	}
	v.do(t, "PUT", "/policies/purser", `[{"path": "aws/static-creds/*", "capabilities": ["read"]}]`)
	if status("aws/creds/user") != 403 || status("aws/static-creds/old") != 200 {
		t.Error("the policy was not written")
	}
	v.do(t, "DELETE", "/policies/purser", "")
	if got := status("aws/static-creds/old"); got != 403 {
		t.Errorf("a policy that was taken away: %d", got)
	}
	other := v.as(v.IssueToken(VaultGrant{}))
	v.do(t, "DELETE", "/tokens", `"`+other.token+`"`)
	other.get(t, "auth/token/lookup-self").wants(t, "one token", 403, "permission denied")
	v.do(t, "DELETE", "/tokens", "")
	v.get(t, "auth/token/lookup-self").wants(t, "all tokens", 403, "permission denied")
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/nonsense", ""}, {"DELETE", "/tokens", `"x"`}, {"DELETE", "/tokens", `x`}, {"PUT", "/secrets/aws/x", "{}"},
		{"PUT", "/secrets/secret/x", "x"}, {"PUT", "/policies/x", "x"}, {"POST", "/secret-ids/none", ""},
	} {
		if code, _ := v.order(c.method, c.path, c.body); code != 404 && code != 400 {
			t.Errorf("%s %s %s: %d", c.method, c.path, c.body, code)
		}
	}
	v.do(t, "DELETE", "", "")
	if code, text := v.order("GET", "", ""); code != 200 || !strings.Contains(text, `"reads": {}`) {
		t.Errorf("the record: %d %s", code, text)
	}
}

func TestVaultRecordHasNoSecrets(t *testing.T) {
	v := newVaultTest(VaultOptions{AppRoles: []VaultAppRole{{Name: "web", RoleID: "role", SecretIDs: []VaultSecretID{{}}}}})
	v.spoil = func(r *http.Request) {
		r.Header.Set("X-Vault-Request", "true")
		r.Header.Set("X-Vault-Namespace", "team")
		r.Header.Set("User-Agent", "purser/1")
	}
	v.get(t, "aws/creds/test_role?ttl=15m")
	v.spoil = nil
	v.wrap = "30"
	v.post(t, "sys/wrapping/unwrap", map[string]string{"token": v.get(t, "aws/creds/test_role").WrapInfo.Token})
	v.post(t, "auth/approle/login", map[string]string{"role_id": "role", "secret_id": v.secretIDs[0].ID}).wants(t, "login", 200)
	record := v.Record()
	text, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), Marker) {
		t.Errorf("a secret is in %s", text)
	}
	got := record.Latest[0]
	got.Time = time.Time{}
	want := VaultRequest{Method: "GET", Path: "aws/creds/test_role", Query: "ttl=15m", Namespace: "team", Marked: true, Agent: "purser/1", Status: 200}
	if got != want || len(record.Latest) != 4 || record.Latest[1].Marked || record.Latest[1].WrapTTL != "30" {
		t.Errorf("got %+v", record.Latest)
	}
}
