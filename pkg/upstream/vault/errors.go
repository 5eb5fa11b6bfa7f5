package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// faults returns the texts in an error of Vault, in lower case; none for a document
// of anybody else. They are compared and never passed on.
func faults(body []byte) []string {
	var document struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(body, &document) != nil {
		return nil
	}
	for i, text := range document.Errors {
		document.Errors[i] = strings.ToLower(text)
	}
	return document.Errors
}

// Where a cause can be the reason of a refusal.
type place int

const (
	anywhere place = iota
	atLogin        // below auth/
	atSecret       // elsewhere
)

// A cause is one reason that Vault may have to give nothing, known by the status and
// a part of the text.
type cause struct {
	status int // 0 for any
	at     place
	text   string // in lower case; empty for any
	class  upstream.Class
	says   string // {path}, {mount}, {namespace} and {method} are filled in
}

const (
	wrongSecretID = "Vault does not take the role ID or the secret ID: a secret ID may be mistyped, expired, used up or of another role; have a new one issued"
	noLeader      = "Vault's cluster has no leader at present; it is choosing one"
	badWrap       = "the wrapping token is not valid: used before, expired, or never issued"
)

// causes are looked through in order; the first that fits counts.
var causes = []cause{
	{503, anywhere, "sealed", upstream.ClassServer, "Vault{namespace} is sealed; somebody must unseal it"},
	{0, anywhere, "not initialized", upstream.ClassServer, "Vault is not initialised; somebody must run its operator init"},
	{501, anywhere, "", upstream.ClassServer, "Vault is not initialised; somebody must run its operator init"},
	{500, anywhere, "active cluster node not found", upstream.ClassServer, noLeader},
	{503, anywhere, "no active vault instance", upstream.ClassServer, noLeader},
	{404, anywhere, "namespace not found", upstream.ClassRequest, "this server has no such namespace{namespace}; correct namespace or auth.namespace"},
	{400, anywhere, "plugin not found in the catalog", upstream.ClassRequest, "the plugin behind {mount} is not installed on this server"},
	{400, anywhere, "wrapping token is not valid", upstream.ClassRefused, badWrap},
	{412, anywhere, "", upstream.ClassServer, "this server has not yet seen what another one wrote, or a proxy on the way removes X-Vault-Request"},
	{405, anywhere, "", upstream.ClassRequest, "Vault does not take {method} at {path}"},
	{413, anywhere, "", upstream.ClassRequest, "Vault takes the request to be too large"},

	{0, atLogin, "invalid role or secret id", upstream.ClassRefused, wrongSecretID},
	{0, atLogin, "invalid role id", upstream.ClassRefused, "Vault knows no such role ID at {mount}; correct auth.role_id or auth.mount"},
	{0, atLogin, "invalid secret id", upstream.ClassRefused, wrongSecretID},
	{0, atLogin, "missing secret_id", upstream.ClassRefused, "the role wants a secret ID; set auth.secret_id"},
	{0, atLogin, "missing role", upstream.ClassRefused, "{mount} has no default role; set auth.role"},
	{0, atLogin, "cidr", upstream.ClassRefused, "Vault does not let this host in from the address it has: the role or the secret ID is bound to other addresses (CIDR)"},
	{0, atLogin, "token is expired", upstream.ClassRefused, "the JWT has expired; whatever writes its file does so no more"},
	{0, atLogin, "not yet valid", upstream.ClassRefused, "the JWT is not valid yet; compare the clocks of its issuer and of Vault"},
	{0, atLogin, "no audiences bound", upstream.ClassRefused, "the JWT is made for an audience, and the role at {mount} names none that it takes (bound_audiences)"},
	{0, atLogin, "audience", upstream.ClassRefused, "the JWT is made for another audience than the role at {mount} wants"},
	{0, atLogin, "error validating token", upstream.ClassRefused, "Vault does not take the JWT: it has expired, or its issuer, signature or form is not what {mount} is set to trust"},
	{0, atLogin, "error validating claims", upstream.ClassRefused, "a claim of the JWT is not what the role at {mount} wants"},
	{0, atLogin, "could not be found", upstream.ClassRefused, "Vault knows no such role at {mount}; correct auth.role"},
	{0, atLogin, "invalid role name", upstream.ClassRefused, "Vault knows no such role at {mount}; correct auth.role"},
	{0, atLogin, "entry for role", upstream.ClassRefused, "Vault knows no such role at {mount}; correct auth.role"},
	{0, atLogin, "service account name not authorized", upstream.ClassRefused, "the role at {mount} is not for this service account"},
	{0, atLogin, "invalid username or password", upstream.ClassRefused, "Vault does not take the password of this user"},
	{0, atLogin, "failed to bind as user", upstream.ClassRefused, "the directory does not take the password of this user"},
	{0, atLogin, "ldap operation failed", upstream.ClassRefused, "the directory does not take this user or the password"},
	{0, atLogin, "tls connection required", upstream.ClassRefused, "Vault saw no client certificate: TLS must end at Vault itself"},
	{0, atLogin, "client certificate must be supplied", upstream.ClassRefused, "Vault saw no client certificate: TLS must end at Vault itself, and tls.certificate be set"},
	{0, atLogin, "no client certificate supplied", upstream.ClassRefused, "Vault does not take the client certificate, or saw none: TLS must end at Vault itself, and {mount} trust its issuer and know the role"},
	{0, atLogin, "login certificate", upstream.ClassRefused, "the client certificate does not meet what the role at {mount} wants of it"},
	{0, atLogin, "x-vault-aws-iam-server-id", upstream.ClassRefused, "{mount} wants its own value of X-Vault-AWS-IAM-Server-ID; correct auth.header"},
	{0, atLogin, "error making upstream request", upstream.ClassRefused, "AWS does not take the signature that the login was made with; is the base credential still valid?"},
	{0, atLogin, "does not belong to the role", upstream.ClassRefused, "the role at {mount} is not for the principal of the base credential"},
	{401, atLogin, "", upstream.ClassRefused, "Vault does not take the Negotiate value; look at the keytab, and at the service that {mount} is set up for"},
	{400, atLogin, "", upstream.ClassRefused, "Vault does not let this host log in at {mount}, for a reason not known here; its audit log tells"},
	{403, atLogin, "", upstream.ClassRefused, "Vault does not let this host log in: nothing may be mounted at {mount}, the role may be bound to other addresses (CIDR), or the user be locked"},
	{404, atLogin, "", upstream.ClassRequest, "Vault has no login at {path}; correct auth.method and auth.mount"},
}

// awsRest is how long AWS is left alone once it throttles Vault.
const awsRest = 15 * time.Second

// maxRest is the longest that Vault is left alone because it says so.
const maxRest = 5 * time.Minute

// explain turns an answer that is no success into an error in words of ours. One for
// which no cause is known goes by its status.
func explain(a *upstream.Answer, r request) error {
	err := a.Check()
	fault, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		return err
	}
	fault.Wait = min(fault.Wait, maxRest)
	c, known := causeOf(a.Status, strings.Join(faults(a.Body), "\n"), r)
	if !known || a.WantsHTTPS() {
		return fault
	}
	namespace := ""
	if r.namespace != "" {
		namespace = fmt.Sprintf(" (namespace %q)", r.namespace)
	}
	says := strings.NewReplacer("{path}", r.path, "{mount}", mountOf(r.path), "{namespace}", namespace, "{method}", r.method,
		"{capability}", capability(r.method), "{code}", c.text).Replace(c.says)
	said := &refusal{says: fmt.Sprintf("answered %d: %s", a.Status, says), cause: c.says}
	if a.Status == http.StatusNotFound && len(a.Body) <= maxKept {
		said.body = credential.NewSecret(string(a.Body))
	}
	fault.Kind, fault.Err = c.class, said
	if c.says == awsThrottles {
		fault.Wait = max(fault.Wait, awsRest)
	}
	return fault
}

// A refusal is why Vault gave nothing, in words of ours.
type refusal struct {
	says  string
	cause string            // the same with its placeholders
	body  credential.Secret // the answer, where it tells why there is nothing; see kvKeys.tell
}

// maxKept bounds, in bytes, what is kept of an answer beside its error, which is kept
// until the next one. The metadata of a secret have less.
const maxKept = 64 << 10

// Error implements error.
func (r *refusal) Error() string { return r.says }

// isCause reports whether Vault gave nothing for a cause, given with its placeholders.
func isCause(err error, says string) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && r.cause == says
}

// instead says in better words why Vault gave nothing.
func instead(err error, format string, args ...any) error {
	fault := faultOf(err)
	fault.Err = fmt.Errorf("answered %d: "+format, append([]any{fault.Status}, args...)...)
	return fault
}

func causeOf(status int, text string, r request) (cause, bool) {
	at := atSecret
	if strings.HasPrefix(r.path, "auth/") && !strings.HasPrefix(r.path, "auth/token/") {
		at = atLogin
	}
	if c, ok := first(causes, status, at, text); ok || at == atLogin {
		return c, ok
	}
	return secretCause(status, text)
}

// first finds the first of some causes that fits an answer.
func first(causes []cause, status int, at place, text string) (cause, bool) {
	for _, c := range causes {
		if (c.status == 0 || c.status == status) && (c.at == anywhere || c.at == at) && strings.Contains(text, c.text) {
			return c, status >= http.StatusBadRequest
		}
	}
	return cause{}, false
}

// mountOf guesses where the mount of a path ends, for a message: a mount may have
// slashes in its name.
func mountOf(path string) string {
	parts := strings.Split(path, "/")
	if parts[0] == "auth" {
		for i, part := range parts {
			if part == "login" {
				return strings.Join(parts[:i], "/")
			}
		}
	}
	return parts[0]
}
