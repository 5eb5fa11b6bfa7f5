package ecs

import (
	"net/http"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
)

// Values that many answers share; net/http copies them. The Go SDK reads an error
// only if its content type is exactly this.
var (
	applicationJSON = []string{"application/json"}
	allowRead       = []string{"GET, HEAD"}
)

// A failure is what a caller learns of a request that yields no keys.
type failure struct {
	status int
	body   []byte
}

// The failures. SDKs take a 4xx as final and come back after a 503.
var (
	unauthorized     = newFailure(http.StatusUnauthorized, "Unauthorized", "the authorization token is missing or wrong: see AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
	forbidden        = newFailure(http.StatusForbidden, "Forbidden", "the request is refused")
	notFound         = newFailure(http.StatusNotFound, "NotFound", "no such credentials")
	methodNotAllowed = newFailure(http.StatusMethodNotAllowed, "MethodNotAllowed", "only GET and HEAD are allowed")
	unavailable      = newFailure(http.StatusServiceUnavailable, "CredentialsUnavailable", "no valid credentials")
)

// newFailure spells the keys in both ways that SDKs look for.
func newFailure(status int, code, message string) failure {
	b := append([]byte(nil), '{')
	b = append(member(b, "code", code), ',')
	b = append(member(b, "message", message), ',')
	b = append(member(b, "Code", code), ',')
	b = append(member(b, "Message", message), '}')
	return failure{status, b}
}

// An exchange is one request and what becomes of it.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	outcome frontend.Outcome
}

func (e *exchange) send(status int, body []byte) {
	e.w.Header()["Content-Type"] = applicationJSON
	e.outcome.Status = status
	frontend.Write(e.w, e.r, status, body)
}

func (e *exchange) fail(f failure, decision frontend.Decision, reason string) {
	e.outcome.Decision, e.outcome.Reason = decision, reason
	e.send(f.status, f.body)
}

// appendKeys renders the keys as one line in the order of ECS, with the account ID
// where EKS has it. What is not known is left out.
func appendKeys(b []byte, keys *credential.AWS) []byte {
	b = append(b, '{')
	if keys.RoleARN != "" {
		b = append(member(b, "RoleArn", keys.RoleARN), ',')
	}
	b = append(member(b, "AccessKeyId", keys.AccessKeyID), ',')
	b = append(member(b, "SecretAccessKey", keys.SecretAccessKey.Reveal()), ',')
	b = append(member(b, "Token", keys.SessionToken.Reveal()), ',')
	if account := frontend.AccountID(keys); account != "" {
		b = append(member(b, "AccountId", account), ',')
	}
	b = append(b, `"Expiration":`...)
	return append(frontend.AppendTime(b, frontend.Expiration(keys)), '}')
}

func member(b []byte, key, value string) []byte {
	b = append(b, '"')
	b = append(b, key...)
	b = append(b, `":`...)
	return frontend.AppendString(b, value)
}
