package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/store"
)

const accountRoles = "arn:aws:iam::123456789012:role/"

// onDemand is a configuration with a pattern for roles on demand, and what everyone
// is granted.
func (c *cloud) onDemand(pattern, more string, granted ...string) string {
	return fmt.Sprintf(`upstreams:
  dc: {kind: ims, url: %q}
  containers: {kind: sts, base: {upstream: dc}, region: eu-central-1, endpoint: %q, on_demand: {apps: {role_arn: %q%s}}}
grants: {everyone: {credentials: ["*", "%s"]}}
`, c.imsURL, c.stsURL, pattern, more, strings.Join(granted, `", "`))
}

// role asks the front end for a role on demand.
func (r *running) role(arn string) (int, string) {
	r.t.Helper()
	return r.get(url.PathEscape(arn))
}

func TestARoleOnDemandIsAssumedForTheFirstWhoAsksAndIsInStockThen(t *testing.T) {
	c := startCloud(t)
	r := startAgent(t, c.onDemand(accountRoles+"app-*", ", session_name: '{{ .Credential }}'", accountRoles+"app-*"))
	r.waitReady()
	if calls := c.sts.Assumptions(); len(calls) != 0 {
		t.Fatalf("STS was asked before anybody wanted a role: %+v", calls)
	}
	var callers sync.WaitGroup
	bodies := make([]string, 50)
	for i := range bodies {
		callers.Go(func() { _, bodies[i] = r.role(accountRoles + "app-web") })
	}
	callers.Wait()
	for _, body := range bodies {
		if body != bodies[0] || !strings.Contains(body, `"Code" : "Success"`) {
			t.Fatalf("got %s", body)
		}
	}
	if calls := c.sts.Assumptions(); len(calls) != 1 || calls[0].Form.Get("RoleArn") != accountRoles+"app-web" || calls[0].Form.Get("RoleSessionName") != "app-web" {
		t.Errorf("STS was asked %+v, want once for all callers", calls)
	}
	c.sts.SetFaults(mock.Fault{Kind: mock.Hang})
	if _, again := r.role(accountRoles + "app-web"); again != bodies[0] {
		t.Error("it is not in stock")
	}
	if _, list := r.get(""); strings.Contains(list, "app") {
		t.Errorf("it is listed: %s", list)
	}
}

func TestPromise5ARoleOnDemandNeedsItsPatternAndAGrant(t *testing.T) {
	c := startCloud(t)
	r := startAgent(t, c.onDemand(accountRoles+"app-*", "", accountRoles+"app-web*", accountRoles+"admin", "arn:aws:iam::999999999999:role/app-web"))
	r.waitReady()
	for _, arn := range []string{
		accountRoles + "app-db",                  // no grant
		accountRoles + "admin",                   // no pattern
		accountRoles + "app-web/x",               // a path
		accountRoles + "x/app-web",               // a path
		"arn:aws:iam::999999999999:role/app-web", // another account
		"arn:aws-cn:iam::123456789012:role/app-web",
		accountRoles + "app-web*",
		accountRoles + "app-*",
	} {
		if code, body := r.role(arn); code != http.StatusNotFound {
			t.Errorf("%s: got %d %s", arn, code, body)
		}
	}
	if calls := c.sts.Assumptions(); len(calls) != 0 {
		t.Errorf("STS was asked %+v", calls)
	}
	if code, _ := r.role(accountRoles + "app-web1"); code != http.StatusOK {
		t.Errorf("what both allow: got %d", code)
	}
}

func TestAStarGrantsNoRoleOnDemandNotEvenOneInStock(t *testing.T) {
	c := startCloud(t)
	own := fmt.Sprintf("grants: {own: {user: %q, credentials: [%q]}, ", fmt.Sprint(os.Geteuid()), accountRoles+"app-*")
	r := startAgent(t, strings.Replace(c.onDemand(accountRoles+"app-*", "", "x"), "grants: {", own, 1))
	r.waitReady()
	if code, _ := r.role(accountRoles + "app-web"); code != http.StatusOK {
		t.Fatalf("the grant gives nothing: %d", code)
	}
	r.change(c.onDemand(accountRoles+"app-*", "", "x"))
	if code, _ := r.role(accountRoles + "app-web"); code != http.StatusNotFound {
		t.Errorf("the stock of a grant that is gone: got %d", code)
	}
}

func TestAnotherPatternAfterAReloadIsAnotherSession(t *testing.T) {
	c := startCloud(t)
	r := startAgent(t, c.onDemand(accountRoles+"app-*", ", external_id: one", accountRoles+"app-*"))
	r.waitReady()
	code, before := r.role(accountRoles + "app-web")
	if code != http.StatusOK {
		t.Fatalf("got %d", code)
	}
	r.change(c.onDemand(accountRoles+"app-*", ", external_id: two", accountRoles+"app-*"))
	code, after := r.role(accountRoles + "app-web")
	calls := c.sts.Assumptions()
	if code != http.StatusOK || after == before || len(calls) != 2 || calls[1].Form.Get("ExternalId") != "two" {
		t.Errorf("got %d, STS was asked %+v", code, calls)
	}
}

func TestPromise2TheWaitForARoleOnDemandIsConfigured(t *testing.T) {
	c := startCloud(t)
	r := startAgent(t, c.onDemand(accountRoles+"app-*", "", accountRoles+"app-*")+"on_demand: {wait: 100ms}\n")
	r.waitReady()
	c.sts.SetFaults(mock.Fault{Kind: mock.Latency, Time: 4 * time.Second})
	begin := time.Now()
	code, body := r.role(accountRoles + "app-web")
	if took := time.Since(begin); took < 100*time.Millisecond || took > 3*time.Second || !strings.Contains(body, `"Code" : "Failed"`) {
		t.Errorf("got %d %s after %v", code, body, took)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, body := r.role(accountRoles + "app-web"); strings.Contains(body, `"Code" : "Success"`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the fetch ended with its first caller")
		}
	}
	if calls := c.sts.Assumptions(); len(calls) != 1 {
		t.Errorf("STS was asked %d times", len(calls))
	}
}

func TestTwoUpstreamsForOneRoleOnDemandAreAnErrorAtStart(t *testing.T) {
	upstream := func(name, pattern string) string {
		return fmt.Sprintf("  %s: {kind: sts, base: {chain: default}, region: eu-central-1, on_demand: {x: {role_arn: %q}}}\n", name, accountRoles+pattern)
	}
	for _, c := range []struct{ a, b, want string }{
		{"app-*", "db-*", ""},
		{"app-*", "app/*", ""},
		{"app-*", "*-web", `upstreams "a" and "b" may both be asked for roles on demand that fit "` + accountRoles + `app-*" and "` + accountRoles + `*-web"; make the patterns exclude each other`},
		{"app", "app", `upstreams "a" and "b" may both be asked for roles on demand that fit "` + accountRoles + `app" and "` + accountRoles + `app"; make the patterns exclude each other`},
	} {
		text := ""
		if _, err := openSources(loadText(t, "upstreams:\n"+upstream("a", c.a)+upstream("b", c.b)).Upstreams, &store.Store{}, surroundings{log: zerolog.Nop()}); err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%s and %s: got %q, want %q", c.a, c.b, text, c.want)
		}
	}
}

func TestAGrantOfARoleThatNoUpstreamAllowsIsWarnedAbout(t *testing.T) {
	c := loadText(t, `upstreams:
  a: {kind: sts, base: {chain: default}, region: eu-central-1, on_demand: {x: {role_arn: "arn:aws:iam::123456789012:role/app-*"}}}
grants:
  good: {user: root, credentials: ["arn:aws:iam::123456789012:role/app-web", "arn:aws:iam::123456789012:role/*", "arn:aws:iam::123456789012:role/[x]", "*"]}
  bad: {user: root, credentials: ["arn:aws:iam::123456789012:role/db-*"]}
`)
	sources, err := openSources(c.Upstreams, &store.Store{}, surroundings{log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	want := `grant "bad": arn:aws:iam::123456789012:role/db-* gives nothing: no upstream has it in on_demand`
	if got := unmet(c, sources.byName); len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %s", got, want)
	}
}
