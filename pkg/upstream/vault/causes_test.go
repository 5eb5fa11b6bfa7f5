package vault

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A faultCase is something that Vault does not give, and the sentence that says so.
type faultCase struct {
	name      string
	server    func(*mock.VaultOptions)
	options   func(*Options)
	fault     func(*site)
	want      string
	class     upstream.Class
	permanent bool
	wait      time.Duration // the least
}

// run makes the fault for real and compares the whole sentence, its class, whether
// somebody must act, and the wait.
func (test faultCase) run(t *testing.T) {
	o := one(mock.VaultAWSRole{ARNs: []string{webARN}})
	if test.server != nil {
		test.server(&o)
	}
	s := newSite(t, o, test.options)
	if test.fault != nil {
		test.fault(s)
	}
	_, err := s.get(t, "web")
	fault, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		t.Fatalf("got error %v, want one of pkg/upstream", err)
	}
	if got := s.says(t, err); got != test.want {
		t.Errorf("got  %s\nwant %s", got, test.want)
	}
	if fault.Kind != test.class || fault.Permanent() != test.permanent || fault.Wait < test.wait {
		t.Errorf("got class %s, permanent %v, wait %v; want %s, %v, %v", fault.Kind, fault.Permanent(), fault.Wait, test.class, test.permanent, test.wait)
	}
}

func ofAWS(code string) func(*site) {
	return func(s *site) { s.vault.SetFaults(mock.Fault{Kind: mock.Code, Code: code, On: mock.Credentials}) }
}

func ofAnswers(kind mock.Kind) func(*site) {
	return func(s *site) { s.vault.SetFaults(mock.Fault{Kind: kind, On: mock.Credentials}) }
}

func withPolicy(rules ...mock.VaultRule) func(*site) {
	return func(s *site) { s.vault.SetPolicy("purser", rules...) }
}

func withRole(r Role) func(*Options) {
	return func(o *Options) { o.AWS.Roles["web"] = r }
}

func withKV(version int) func(*mock.VaultOptions) {
	return func(o *mock.VaultOptions) {
		o.KV = []mock.VaultKV{{Version: version, Secrets: map[string]map[string]any{"apps/web": {"access_key": "AKIA1", "secret_key": mock.Marker}}}}
	}
}

func withKeys(k KVKeys) func(*Options) {
	return func(o *Options) { o.AWS.Roles, o.KV.Keys = nil, map[string]KVKeys{"web": k} }
}

func withToken(o *Options) {
	o.AWS.Roles, o.IdentityTokens = nil, map[string]IdentityToken{"web": {Role: "hosts"}}
}

// Cases 41 to 43: what AWS says to Vault.
func TestWhatAWSDoesNotGiveIsSaidInOneSentence(t *testing.T) {
	for _, test := range []faultCase{
		{"42: a role that Vault may not assume", nil, nil, ofAWS("AccessDenied"),
			"GET /v1/aws/sts/web: answered 400: the role behind aws/sts/web is not assumable by Vault (AccessDenied): the role's trust policy and the permissions of the identity that Vault has in AWS must both allow it", upstream.ClassRefused, true, 0},
		{"43: AWS fails", nil, nil, ofAWS("InternalFailure"),
			"GET /v1/aws/sts/web: answered 400: AWS has an error of its own (InternalFailure)", upstream.ClassServer, false, 0},
		{"43: Vault cannot reach AWS", nil, nil, ofAWS("Unreachable"),
			"GET /v1/aws/sts/web: answered 400: Vault cannot reach AWS; look at its network and the endpoints of its AWS engine", upstream.ClassServer, false, 0},
		{"41: AWS throttles Vault", nil, nil, ofAWS("Throttling"),
			"GET /v1/aws/sts/web: answered 502: AWS gets more requests from Vault's account than it takes (Throttling)", upstream.ClassThrottled, false, 15 * time.Second},
		{"the keys of Vault itself", nil, nil, ofAWS("InvalidClientTokenId"),
			"GET /v1/aws/sts/web: answered 400: AWS does not take the keys that Vault itself asks with (InvalidClientTokenId); whoever runs Vault must replace those of the engine behind aws/sts/web", upstream.ClassRequest, true, 0},
		{"a life that the role does not allow", nil, nil, ofAWS("ValidationError"),
			"GET /v1/aws/sts/web: answered 400: AWS takes a parameter to be wrong (ValidationError): most often the life that is asked for is longer than the role of AWS allows", upstream.ClassRequest, true, 0},
		{"a code that nobody knows", nil, nil, ofAWS("SomethingNew"),
			"GET /v1/aws/sts/web: answered 400: Vault could not do GET aws/sts/web, most often because what it asks itself gives no answer; its log tells", upstream.ClassServer, false, 0},
		{"no such role", nil, withRole(Role{Path: "sts/gone"}), nil,
			"GET /v1/aws/sts/gone: answered 400: Vault has no role behind aws/sts/gone; correct the path, or have the role made", upstream.ClassRequest, true, 0},
	} {
		t.Run(test.name, test.run)
	}
}

// Cases 10, 12, 13, 25, 26, 49 and 73: what Vault does not let this host have, or cannot give.
func TestWhatVaultDoesNotGiveIsSaidInOneSentence(t *testing.T) {
	for _, test := range []faultCase{
		{"10: a policy that does not allow it", nil, nil, withPolicy(),
			`GET /v1/aws/sts/web: answered 403: permission denied on aws/sts/web: a policy of the token must allow "read" there`, upstream.ClassRefused, true, 0},
		{"10: a policy for GET alone", nil, withRole(Role{Method: "POST"}), withPolicy(mock.VaultRule{Path: "aws/*", Capabilities: []string{"read"}}),
			`POST /v1/aws/sts/web: answered 403: permission denied on aws/sts/web: a policy of the token must allow "update" there`, upstream.ClassRefused, true, 0},
		{"no such mount", nil, withRole(Role{Mount: "aws-gone"}), withPolicy(mock.VaultRule{Path: "*", Capabilities: []string{"read"}}),
			"GET /v1/aws-gone/sts/web: answered 404: no engine is mounted at aws-gone; correct mount, or namespace", upstream.ClassRequest, true, 0},
		{"73: no such namespace", func(o *mock.VaultOptions) { o.OpenBao, o.Namespaces = true, []string{"team"} }, func(o *Options) { o.Namespace, o.Auth.Namespace = "taem", "root" }, nil,
			`GET /v1/aws/sts/web: answered 404: this server has no such namespace (namespace "taem"); correct namespace or auth.namespace`, upstream.ClassRequest, true, 0},
		{"49: a token with one use left", nil, nil, func(s *site) {
			s.source.server.auth.Token.Value = credential.NewSecret(s.vault.IssueToken(mock.VaultGrant{NumUses: 2}))
		},
			"GET /v1/aws/sts/web: answered 400: the token was good for one use more, with which Vault gives no keys that it could not take back; set token_num_uses to 0", upstream.ClassRequest, true, 0},
		{"25: sealed", nil, nil, func(s *site) { s.vault.Seal() },
			"GET /v1/auth/token/lookup-self: answered 503: Vault is sealed; somebody must unseal it", upstream.ClassServer, false, 0},
		{"26: not initialised, which Vault calls sealed", nil, nil, func(s *site) { s.vault.SetInitialized(false) },
			"GET /v1/auth/token/lookup-self: answered 503: Vault is sealed; somebody must unseal it", upstream.ClassServer, false, 0},
		{"13: an answer without end", nil, nil, ofAnswers(mock.Huge),
			"GET /v1/aws/sts/web: the answer is larger than 1048576 bytes", upstream.ClassTooLarge, false, 0},
		{"12: a page of some proxy", nil, nil, ofAnswers(mock.HTML),
			"GET /v1/aws/sts/web: the answer is not a JSON document as Vault sends it; is something else at this address?", upstream.ClassMalformed, false, 0},
		{"12: an answer that breaks off", nil, nil, ofAnswers(mock.Malformed),
			"GET /v1/aws/sts/web: the answer is not a JSON document as Vault sends it; is something else at this address?", upstream.ClassMalformed, false, 0},
	} {
		t.Run(test.name, test.run)
	}
}

// Case 76 and its like: what is not where it is looked for.
func TestWhatIsNotInVaultIsSaidInOneSentence(t *testing.T) {
	for _, test := range []faultCase{
		{"static keys that nobody made", nil, withRole(Role{Path: "static-creds/web"}), nil,
			"GET /v1/aws/static-creds/web: answered 404: there is nothing at aws/static-creds/web", upstream.ClassRequest, true, 0},
		{"76: a secret that is not there", withKV(2), withKeys(KVKeys{Path: "apps/gone"}), nil,
			`GET /v1/secret/data/apps/gone: answered 404: the KV engine at "secret" has no secret "apps/gone"; correct path, which is without data/, or write the secret`, upstream.ClassRequest, true, 0},
		{"76: the same in version 1", withKV(1), withKeys(KVKeys{Path: "apps/gone"}), nil,
			`GET /v1/secret/apps/gone: answered 404: the KV engine at "secret" has no secret "apps/gone"; correct path, which is without data/, or write the secret`, upstream.ClassRequest, true, 0},
		{"76: a secret that was deleted", withKV(2), withKeys(KVKeys{Path: "apps/web"}), func(s *site) { s.vault.DeleteSecret("secret", "apps/web") },
			`GET /v1/secret/data/apps/web: answered 404: version 1 of the secret "apps/web" was deleted; undelete it, or write the keys anew`, upstream.ClassRequest, true, 0},
		{"76: the path form of another version", withKV(2), withKeys(KVKeys{Path: "apps/web", Version: 1}), withPolicy(mock.VaultRule{Path: "*", Capabilities: []string{"read"}}),
			`GET /v1/secret/apps/web: answered 404: the KV engine at "secret" is not of version 1; correct version, or leave it out`, upstream.ClassRequest, true, 0},
		{"a KV engine that the token may not see", withKV(2), withKeys(KVKeys{Path: "apps/web"}), withPolicy(),
			`GET /v1/sys/internal/ui/mounts/secret/apps/web: answered 403: no KV engine that the token may see is mounted at "secret": correct mount, or have a policy allow "read" below it`, upstream.ClassRefused, true, 0},
		{"a mount of another kind", nil, withKeys(KVKeys{Mount: "aws", Path: "sts/web"}), nil,
			`GET /v1/sys/internal/ui/mounts/aws/sts/web: what is mounted at "aws" is no KV engine; correct mount`, upstream.ClassRequest, true, 0},
		{"a field that the secret does not have", withKV(2), withKeys(KVKeys{Path: "apps/web", AccessKey: "id"}), nil,
			`GET /v1/secret/data/apps/web: the answer has no field "id"`, upstream.ClassIncomplete, false, 0},
		{"no such role for identity tokens", nil, withToken, nil,
			"GET /v1/identity/oidc/token/hosts: answered 403: permission denied on identity/oidc/token/hosts: a policy of the token must allow \"read\" there", upstream.ClassRefused, true, 0},
		{"an identity that the token has not", func(o *mock.VaultOptions) {
			o.OIDCRoles, o.Tokens = []mock.VaultOIDCRole{{Name: "hosts"}}, []mock.VaultToken{{ID: mock.Marker, Root: true}}
		}, func(o *Options) {
			withToken(o)
			o.Auth.Token.Value = credential.NewSecret(mock.Marker)
		}, nil,
			"GET /v1/identity/oidc/token/hosts: answered 400: Vault makes no identity token at identity/oidc/token/hosts, as the token of this login belongs to no entity; a batch or root token has none, choose another auth.method", upstream.ClassRequest, true, 0},
	} {
		t.Run(test.name, test.run)
	}
}

// FuzzErrorsOfVaultAreNotQuoted: whatever a server writes, none of it gets into an
// error.
func FuzzErrorsOfVaultAreNotQuoted(f *testing.F) {
	f.Add(400, "Error assuming role: AccessDenied: "+mock.Marker)
	f.Add(403, mock.Marker)
	f.Add(502, "Throttling: "+mock.Marker)
	f.Fuzz(func(t *testing.T, status int, text string) {
		if len(text) < 12 {
			return
		}
		c, ok := causeOf(status, strings.ToLower(text), request{path: "aws/sts/web"})
		if ok && (strings.Contains(strings.ToLower(c.says), strings.ToLower(text)) || status < http.StatusBadRequest) {
			t.Errorf("%d %q is said as %q", status, text, c.says)
		}
	})
}

// An error lives until the next one, for each credential; the answer must not.
func TestErrorsDoNotKeepWhatTheyCameFrom(t *testing.T) {
	for _, answer := range []upstream.Answer{
		{Status: 404, Body: make([]byte, maxKept+1)}, {Status: 400, Body: []byte("x")}, {Status: 403, Body: []byte("x")},
	} {
		said, ok := errors.AsType[*refusal](explain(&answer, request{path: "aws/sts/web"}))
		if !ok || !said.body.Empty() {
			t.Errorf("%d: the answer is kept", answer.Status)
		}
	}
}

// A message of AWS may name anything; the code in front of it is what counts.
func TestCodeOfAWSIsTheOneInFrontOfTheMessage(t *testing.T) {
	for text, want := range map[string]string{
		"error assuming role: accessdenied: user: arn:aws:iam::1:user/vault is not authorized to perform: sts:assumerole on resource: arn:aws:iam::1:role/throttling": "AccessDenied",
		"operation error sts: assumerole, https response error statuscode: 403, requestid: 1, api error accessdenied: user: x":                                        "AccessDenied",
		"error assuming role: throttling: rate exceeded":         "Throttling",
		"error assuming role: accessdenied and more":             "",
		"error assuming role: requesterror: send request failed": "send request failed",
	} {
		c, _ := causeOf(http.StatusBadRequest, text, request{path: "aws/sts/web"})
		if c.text != want {
			t.Errorf("%q is taken for %q, want %q", text, c.text, want)
		}
	}
}
