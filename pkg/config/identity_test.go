package config

import (
	"fmt"
	"strings"
	"testing"
)

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

func TestAnIdentityHoldsNoSecret(t *testing.T) {
	c, err := loadText(t, "upstreams: {dc: {kind: ims, url: https://ims.example.com, proxy: 'http://p:1', proxy_user: u, proxy_password: s3cret}}\n")
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%#v", c.Upstreams["dc"].identity); strings.Contains(text, "s3cret") {
		t.Errorf("it is %s", text)
	}
}
