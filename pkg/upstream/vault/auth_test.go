package vault

import (
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/upstream"
)

func TestAuthValidate(t *testing.T) {
	file := credential.SecretRef{File: "/etc/purser/secret"}
	for name, c := range map[string]struct {
		auth Auth
		want string // nothing for none; errors are separated by a line end
	}{
		"approle":        {Auth{Method: "approle", RoleID: text("x"), SecretID: file, RemoveSecretID: true}, ""},
		"wrapped":        {Auth{Method: "approle", RoleID: text("x"), SecretID: file, SecretIDWrapped: true, Role: "web"}, ""},
		"cert":           {Auth{Method: "cert"}, ""},
		"kubernetes":     {Auth{Method: "kubernetes", Role: "web"}, ""},
		"aws":            {Auth{Method: "aws", Base: BaseOptions{Upstream: "x"}, Region: "eu-central-1", Header: "vault.example.com"}, ""},
		"exec":           {Auth{Method: "exec", As: "kerberos", Command: []string{"/usr/bin/spnego", "x"}, Mount: "ad/kerberos"}, ""},
		"ldap":           {Auth{Method: "ldap", Username: `EXAMPLE\web@x`, Password: file}, ""},
		"nothing":        {Auth{}, "auth.method: missing; there is approle, aws, cert, exec, jwt, kubernetes, ldap, token, userpass"},
		"unknown":        {Auth{Method: "radius"}, `auth.method: "radius" is not one of approle, aws, cert, exec, jwt, kubernetes, ldap, token, userpass`},
		"no keys":        {Auth{Method: "userpass"}, "auth.password: missing, the method userpass needs it\nauth.username: missing, the method userpass needs it"},
		"others' keys":   {Auth{Method: "token", Token: file, Role: "web", Mount: "x"}, "auth.mount: is no key of the method token\nauth.role: is no key of the method token"},
		"wrapped inline": {Auth{Method: "approle", RoleID: text("x"), SecretID: text("y"), SecretIDWrapped: true, Role: "web"}, "auth.secret_id: must be a file for secret_id_wrapped and remove_secret_id"},
		"wrapped for whom": {Auth{Method: "approle", RoleID: text("x"), SecretID: file, SecretIDWrapped: true},
			"auth.role: belongs to secret_id_wrapped: it is the role that the wrapped secret ID must have been made for"},
		"paths": {Auth{Method: "cert", Mount: "auth/cert", Namespace: "/team"},
			"auth.namespace: \"/team\" is not a path such as team/web, without slashes around\nauth.mount: \"auth/cert\" begins with auth/, which is added by itself"},
		"a step up":        {Auth{Method: "cert", Mount: "a/../b"}, `auth.mount: "a/../b" is not a path such as team/web, without slashes around`},
		"a name as a path": {Auth{Method: "ldap", Username: "../x", Password: file}, `auth.username: "../x" cannot be a name in Vault`},
		"dots as a name":   {Auth{Method: "ldap", Username: "..", Password: file}, `auth.username: ".." cannot be a name in Vault`},
		"two bases":        {Auth{Method: "aws", Base: BaseOptions{"a", "b"}}, "auth.base: has both credential and upstream; one of them says which credential to use"},
		"a base's name":    {Auth{Method: "aws", Base: BaseOptions{Credential: "a/b"}}, `auth.base.credential: the name "a/b" contains a slash`},
		"a zone":           {Auth{Method: "aws", Base: BaseOptions{Upstream: "x"}, Region: "eu-central-1a"}, `auth.region: "eu-central-1a" is not a region such as eu-central-1`},
		"a header":         {Auth{Method: "aws", Base: BaseOptions{Upstream: "x"}, Header: "a\nb"}, "auth.header: has a character that no header has"},
		"a shell":          {Auth{Method: "exec", As: "jwt", Command: []string{"get-jwt"}}, `auth.command: "get-jwt" is not an absolute path`},
		"as what":          {Auth{Method: "exec", As: "saml", Command: []string{"/x"}}, `auth.as: "saml" is not one of jwt, token, kerberos`},
		"a role in vain":   {Auth{Method: "exec", As: "token", Role: "web", Mount: "x", Command: []string{"/x"}}, "auth.role: is for a program that prints a jwt\nauth.mount: a program that prints a token leaves nothing to log in at"},
	} {
		got := ""
		if err := c.auth.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func TestACertificateIsNeededToLogInWithOne(t *testing.T) {
	a := Auth{Method: "cert"}
	if err := a.checkTLS(&upstream.TLS{}); err == nil || err.Error() != "tls.certificate: missing, the login by certificate presents it" {
		t.Errorf("got %v", err)
	}
	if err := a.checkTLS(&upstream.TLS{Certificate: "x", Key: "x"}); err != nil {
		t.Error(err)
	}
}

func TestCheckNamesTheFileThatCannotBeRead(t *testing.T) {
	g := newGate(t, setting{auth: Auth{Method: "approle", RoleID: text("x"), SecretID: credential.SecretRef{File: "/nonexistent/secret_id"}}})
	if err := g.check(); err == nil || err.Error() != "/nonexistent/secret_id does not exist" {
		t.Errorf("got %v", err)
	}
	g = newGate(t, setting{auth: Auth{Method: "kubernetes", Role: "web"}, vault: mock.VaultOptions{JWTRoles: []mock.VaultJWTRole{kubeRole}}})
	if err := g.check(); err == nil || !strings.Contains(err.Error(), serviceAccount) {
		t.Errorf("got %v", err)
	}
	g = newGate(t, setting{auth: Auth{Method: "approle", RoleID: text("x"), SecretID: secretFile(t, "")}})
	if err := g.check(); err == nil || !strings.HasPrefix(err.Error(), "auth.secret_id: ") || !strings.HasSuffix(err.Error(), ": the file is empty") {
		t.Errorf("got %v", err)
	}
	g = newGate(t, setting{auth: Auth{Method: "approle", RoleID: text("x"), SecretID: credential.SecretRef{File: "/nonexistent/secret_id"}, RemoveSecretID: true}})
	if err := g.check(); err != nil {
		t.Errorf("removed after a login: got %v", err)
	}
}

func FuzzEndOfJWT(f *testing.F) {
	f.Add("a.eyJleHAiOjE3MDAwMDAwMDB9.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, jwt string) {
		if end, ok := endOf(credential.NewSecret(jwt)); ok && (end.Year() < 1970 || end.Year() > 6000) {
			t.Errorf("%q ends at %v", jwt, end)
		}
	})
}
