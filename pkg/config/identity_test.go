package config

import (
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// meaning leaves out in which words upstreams were configured.
func meaning(upstreams map[string]Upstream) map[string]Upstream {
	if upstreams == nil {
		return nil
	}
	plain := map[string]Upstream{}
	for name, u := range upstreams {
		u.identity = nil
		plain[name] = u
	}
	return plain
}

func identityOf(t *testing.T, section, name string) string {
	t.Helper()
	c, err := loadText(t, "upstreams: {dc: "+section+"}\n")
	if err != nil {
		t.Fatal(err)
	}
	return c.Upstreams["dc"].Identity(name)
}

func TestAnIdentityFollowsWhoseCredentialItIsAndNotHowItIsAskedFor(t *testing.T) {
	const before = `{kind: ims, url: https://ims.example.com, roles: {web: {role: prod-web}, db: {}}, tls: {certificate: /etc/a.pem, key: /etc/a.key}}`
	for _, c := range []struct {
		name, section string
		same          bool
	}{
		{"nothing", before, true},
		{"the order", `{tls: {key: /etc/a.key, certificate: /etc/a.pem}, roles: {db: {}, web: {role: prod-web}}, url: https://ims.example.com, kind: ims}`, true},
		{"a proxy", strings.Replace(before, "kind", "proxy: 'http://p:1', kind", 1), true},
		{"required, time-outs and refresh", strings.Replace(before, "kind", "required: false, timeouts: {dial: 1s}, refresh: {longest: 1h}, kind", 1), true},
		{"the authorities", strings.Replace(before, "tls: {", "tls: {ca: /etc/ca.pem, ", 1), true},
		{"another role of the section", strings.Replace(before, "db: {}", "db: {role: other}, new: {}", 1), true},
		{"the role itself", strings.Replace(before, "prod-web", "test-web", 1), false},
		{"the address", strings.Replace(before, "ims.example", "other.example", 1), false},
		{"the account", strings.Replace(before, "kind", `account_id: "123456789012", kind`, 1), false},
		{"a list of one address", strings.Replace(before, "https://ims.example.com", "[https://ims.example.com]", 1), true},
		{"an address to fail over to", strings.Replace(before, "https://ims.example.com", "[https://ims.example.com, https://second.example.com]", 1), true},
		{"another first address", strings.Replace(before, "https://ims.example.com", "[https://second.example.com, https://ims.example.com]", 1), false},
		{"the certificate", strings.Replace(before, "a.pem", "b.pem", 1), false},
	} {
		if got := identityOf(t, c.section, "web") == identityOf(t, before, "web"); got != c.same {
			t.Errorf("%s: the identity stays: %v, want %v", c.name, got, c.same)
		}
	}
	if identityOf(t, before, "web") == identityOf(t, before, "db") {
		t.Error("two roles have one identity")
	}
}

func TestAnIdentityIsThatOfOneName(t *testing.T) {
	for _, c := range []struct {
		name, before, after, of string
		same                    bool
	}{
		{"its own name as the upstream's", `{roles: {web: {}}}`, `{roles: {web: {role: web}}}`, "web", true},
		{"no entry and an empty one", `{}`, `{roles: {web: {}}}`, "web", true},
		{"the first roles of others", `{}`, `{roles: {db: {role: x}}}`, "", true},
		{"another engine beside", `{aws: {mount: aws, roles: {web: {path: sts/web}}}}`, `{aws: {mount: aws, roles: {web: {path: sts/web}}}, kv: {mount: kv, keys: {db: {path: db}}}}`, "web", true},
		{"another mount", `{aws: {mount: aws, roles: {web: {}}}}`, `{aws: {mount: aws2, roles: {web: {}}}}`, "web", false},
		{"how often a key is read", `{kv: {keys: {web: {path: w, reread: 5m}}}}`, `{kv: {keys: {web: {path: w}}}}`, "web", true},
		{"how long it may take and last", `{roles: {web: {role_arn: a, duration: 1h}}, timeout: 5s}`, `{roles: {web: {role_arn: a, duration: 2h}}}`, "web", true},
		{"the path of a key", `{kv: {keys: {web: {path: w}}}}`, `{kv: {keys: {web: {path: x}}}}`, "web", false},
		{"a role that is called as a key", `{roles: {timeout: {role_arn: a}}}`, `{roles: {timeout: {role_arn: b}}}`, "timeout", false},
		{"a tag that is called as a key", `{roles: {web: {tags: {refresh: a}}}}`, `{roles: {web: {tags: {refresh: b}}}}`, "web", false},
		{"a pattern on demand, for a declared role", `{roles: {web: {}}}`, `{roles: {web: {}}, on_demand: {apps: {role_arn: a}}}`, "web", true},
		{"a pattern on demand, for a role on demand", `{on_demand: {apps: {external_id: a}}}`, `{on_demand: {apps: {external_id: b}}}`, "arn:aws:iam::123456789012:role/app", false},
		{"the login", `{auth: {method: approle, role_id: a}}`, `{auth: {method: approle, role_id: b}}`, "", false},
	} {
		before, after := sectionOf(t, c.before), sectionOf(t, c.after)
		if got := before.Identity(c.of) == after.Identity(c.of); got != c.same {
			t.Errorf("%s: the identity stays: %v, want %v", c.name, got, c.same)
		}
	}
}

// sectionOf is an upstream of any kind.
func sectionOf(t *testing.T, text string) Upstream {
	t.Helper()
	var section map[string]any
	if err := yaml.Unmarshal([]byte(text), &section); err != nil {
		t.Fatal(err)
	}
	return Upstream{identity: newIdentity(section)}
}

func TestAnIdentityHoldsNoSecret(t *testing.T) {
	c, err := loadText(t, "upstreams: {dc: {kind: ims, url: https://ims.example.com, proxy: 'http://p:1', proxy_user: u, proxy_password: s3cret}}\n")
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%#v", c.Upstreams["dc"].identity); strings.Contains(text, "s3cret") {
		t.Errorf("it is %s", text)
	}
}
