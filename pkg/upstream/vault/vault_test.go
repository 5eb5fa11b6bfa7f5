package vault

import (
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// valid are options without a fault.
func valid() *Options {
	o := Defaults()
	o.Address = []string{"https://vault.example.com:8200"}
	o.Auth = Auth{Method: "token", Token: credential.SecretRef{File: "/run/token"}}
	o.AWS.Roles = map[string]Role{"web": {}}
	return o
}

// A mistake is a change to valid options, and the sentences about it.
type mistake struct {
	name   string
	change func(*Options)
	want   string
}

func (test mistake) run(t *testing.T) {
	o := valid()
	test.change(o)
	got := ""
	if err := o.Validate(); err != nil {
		got = err.Error()
	}
	if want := strings.TrimPrefix(test.want, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := New("vault", o, nil, nil, quiet); (err == nil) != (got == "") {
		t.Errorf("New says %v", err)
	}
}

// TestMistakesInTheOptionsAreSaidAllAtOnce has a sentence for each that can be made,
// beginning with its key.
func TestMistakesInTheOptionsAreSaidAllAtOnce(t *testing.T) {
	for _, test := range []mistake{
		{"nothing", func(o *Options) { *o = *Defaults() }, `
address: missing, such as https://vault.example.com:8200
auth.method: missing; there is approle, aws, cert, exec, jwt, kubernetes, ldap, token, userpass
aws.roles: missing, such as billing: {path: sts/billing}; or kv.keys, or identity_tokens`},
		{"addresses", func(o *Options) {
			o.Address = []string{"https://a/v1", "http://vault.example.com", "https://u:CONFIDENTIAL@b", "https://c", "https://c/", "unix://socket", "http://127.0.0.1:8200"}
		}, `
address: number 1 of 7: ends with /v1, which is added by itself; leave it out
address: number 2 of 7: "http://vault.example.com" is not encrypted, so that everybody on the way could read the secrets; write https://, or set insecure_http
address: number 3 of 7: holds an @; a user or password does not belong in a URL
address: number 5 of 7: "https://c/" is there twice
address: number 6 of 7: is no absolute path of a socket, such as unix:///run/vault-agent.sock`},
		{"69: http on purpose", func(o *Options) { o.Address, o.InsecureHTTP = []string{"http://vault.example.com"}, true }, ""},
		{"paths", func(o *Options) {
			o.Namespace, o.AWS.Mount = "/team", "aws/"
			o.AWS.Roles = map[string]Role{"web": {Path: "roles/web", Mount: "a//b"}, "db": {Path: "sts/../x"}, "a/b": {Path: "sts/ab"}}
			o.KV.Keys = map[string]KVKeys{"legacy": {Mount: "x y"}, "other": {Path: "../x", SecretKey: "access_key"}}
			o.IdentityTokens = map[string]IdentityToken{"ci": {Role: "a/b"}}
		}, `
namespace: "/team" is not a path such as team/web, without slashes around
aws.mount: "aws/" is not a path such as aws, without slashes around
aws.roles: the name "a/b" contains a slash
aws.roles.db.path: "sts/../x" is not sts/NAME, creds/NAME or static-creds/NAME
aws.roles.web.mount: "a//b" is not a path such as aws, without slashes around
aws.roles.web.path: "roles/web" is not sts/NAME, creds/NAME or static-creds/NAME
kv.keys.legacy.mount: "x y" is not a path such as aws, without slashes around
kv.keys.legacy.path: missing, such as apps/legacy
kv.keys.other.path: "../x" is not a path such as apps/legacy, without slashes around
kv.keys.other.access_key: the fields ["access_key" "access_key" ""] of the secret are not different
identity_tokens.ci.role: "a/b" cannot be the name of a role`},
		{"one name, three secrets", func(o *Options) {
			o.KV.Keys = map[string]KVKeys{"web": {Path: "apps/web"}}
			o.IdentityTokens = map[string]IdentityToken{"web": {}}
		}, `
kv.keys.web: aws.roles has this name, too
identity_tokens.web: kv.keys has this name, too`},
	} {
		t.Run(test.name, test.run)
	}
}

func TestMistakesInWhatIsAskedAreSaidAllAtOnce(t *testing.T) {
	for _, test := range []mistake{
		{"what is asked of the AWS engine", func(o *Options) {
			o.AWS.Roles = map[string]Role{
				"a": {RoleARN: "web", TTL: time.Minute, SessionName: "{{ .User }}", Method: "PUT", Reread: time.Minute},
				"b": {Path: "static-creds/b", RoleARN: webARN, TTL: time.Hour, SessionName: "x", Method: "GET", AllowIAMUser: true, Reread: time.Second},
				"c": {TTL: 15*time.Minute + time.Millisecond},
				"d": {TTL: 36 * time.Hour, Method: "POST", RoleARN: webARN},
			}
		}, `
aws.roles.a.role_arn: "web" is not the ARN of a role, such as arn:aws:iam::123456789012:role/demo
aws.roles.a.session_name: unknown {{ .User }}; there is {{ .Hostname }} and {{ .Credential }}
aws.roles.a.ttl: 1m0s is not between 15m0s and 36h0m0s in whole seconds
aws.roles.a.method: "PUT" is neither GET nor POST
aws.roles.a.reread: is for static-creds/ paths; other keys are replaced before they end
aws.roles.b.allow_iam_user: is for sts/ and creds/ paths; keys of static-creds/ are as they are
aws.roles.b.method: is for sts/ and creds/ paths; keys of static-creds/ are as they are
aws.roles.b.role_arn: is for sts/ and creds/ paths; keys of static-creds/ are as they are
aws.roles.b.session_name: is for sts/ and creds/ paths; keys of static-creds/ are as they are
aws.roles.b.ttl: is for sts/ and creds/ paths; keys of static-creds/ are as they are
aws.roles.b.reread: 1s is not between 10s and 24h0m0s
aws.roles.c.ttl: 15m0.001s is not between 15m0s and 36h0m0s in whole seconds`},
		{"what every upstream has", func(o *Options) { o.Timeouts.Dial = -1 }, `
timeouts.dial: -1ns is not between 0s and 1m0s`},
	} {
		t.Run(test.name, test.run)
	}
}

// An upstream that logs in by AWS has a base, of whatever kind.
func TestBaseIsTheOneOfTheLogin(t *testing.T) {
	o := valid()
	o.Auth = Auth{Method: "aws", Base: BaseOptions{Credential: "demo"}}
	if name, from := o.BaseOf(); name != "demo" || from != "" || o.CheckChained() != nil {
		t.Errorf("got %q from %q, %v", name, from, o.CheckChained())
	}
}
