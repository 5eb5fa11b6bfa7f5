package vault

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/purser-agent/purser/pkg/upstream"
)

const (
	awsKeys      = "AWS does not take the keys that Vault itself asks with ({code}); whoever runs Vault must replace those of the engine behind {path}"
	awsBroken    = "AWS has an error of its own ({code})"
	awsThrottles = "AWS gets more requests from Vault's account than it takes ({code})"
	awsParameter = "AWS takes a parameter to be wrong ({code}): most often the life that is asked for is longer than the role of AWS allows"

	needsRoleARN = "the role behind {path} may assume several roles of AWS; say which by role_arn"
	noEngine     = "nothing that the token may see is mounted where {path} leads"
	nothingThere = "there is nothing at {path}"
)

// secretCauses are those of requests for secrets. The first that fits counts.
var secretCauses = []cause{
	{403, atSecret, "preflight capability check", upstream.ClassRefused, noEngine},
	{403, atSecret, "", upstream.ClassRefused, "permission denied on {path}: a policy of the token must allow {capability} there"},
	{404, atSecret, "no handler for route", upstream.ClassRequest, "no engine is mounted at {mount}; correct mount, or namespace"},
	{404, atSecret, "", upstream.ClassRequest, nothingThere},
	{400, atSecret, "no entity", upstream.ClassRequest, "Vault makes no identity token at {path}, as the token of this login belongs to no entity; a batch or root token has none, choose another auth.method"},
	{400, atSecret, "did not supply a role_arn", upstream.ClassRequest, needsRoleARN},
	{400, atSecret, "not in allowed role arns", upstream.ClassRequest, "the role behind {path} may not assume the role of AWS that role_arn names"},
	{400, atSecret, "through the sts path", upstream.ClassRequest, "the role behind {path} makes keys of an IAM user, which sts/ does not give; choose a role of type assumed_role, or creds/ and allow_iam_user"},
	{400, atSecret, "token had one use left", upstream.ClassRequest, "the token was good for one use more, with which Vault gives no keys that it could not take back; set token_num_uses to 0"},
	{400, atSecret, "lease not found", upstream.ClassRequest, "the lease has ended"},
	{400, atSecret, "lease is not renewable", upstream.ClassRequest, "the lease cannot be renewed"},
	{400, atSecret, "not found", upstream.ClassRequest, "Vault has no role behind {path}; correct the path, or have the role made"},
	{400, atSecret, "send request failed", upstream.ClassServer, "Vault cannot reach AWS; look at its network and the endpoints of its AWS engine"},
	{400, atSecret, "", upstream.ClassServer, "Vault could not do {method} {path}, most often because what it asks itself gives no answer; its log tells"},
}

// awsCodes are what codes of AWS mean in an answer of Vault, which passes them on in
// its text.
var awsCodes = []cause{
	{0, atSecret, "AccessDenied", upstream.ClassRefused, "the role behind {path} is not assumable by Vault ({code}): the role's trust policy and the permissions of the identity that Vault has in AWS must both allow it"},
	{0, atSecret, "InvalidClientTokenId", upstream.ClassRequest, awsKeys},
	{0, atSecret, "UnrecognizedClientException", upstream.ClassRequest, awsKeys},
	{0, atSecret, "SignatureDoesNotMatch", upstream.ClassRequest, awsKeys},
	{0, atSecret, "ExpiredToken", upstream.ClassRequest, awsKeys},
	{0, atSecret, "ValidationError", upstream.ClassRequest, awsParameter},
	{0, atSecret, "MalformedPolicyDocument", upstream.ClassRequest, "AWS cannot read the policy of the role behind {path} ({code})"},
	{0, atSecret, "PackedPolicyTooLarge", upstream.ClassRequest, "the policies of the role behind {path} are too large together ({code})"},
	{0, atSecret, "RegionDisabledException", upstream.ClassRequest, "AWS has STS turned off in the region that Vault asks ({code})"},
	{0, atSecret, "LimitExceeded", upstream.ClassRequest, "the AWS account has as many users or keys as it may ({code})"},
	{0, atSecret, "Throttling", upstream.ClassThrottled, awsThrottles},
	{0, atSecret, "ThrottlingException", upstream.ClassThrottled, awsThrottles},
	{0, atSecret, "RequestLimitExceeded", upstream.ClassThrottled, awsThrottles},
	{0, atSecret, "InternalFailure", upstream.ClassServer, awsBroken},
	{0, atSecret, "InternalError", upstream.ClassServer, awsBroken},
	{0, atSecret, "ServiceUnavailable", upstream.ClassServer, awsBroken},
}

// codeForm finds what could be a code: SDKs write it in front of a message.
var codeForm = regexp.MustCompile(`([a-z]{5,40}): `)

// secretCause finds the cause for an answer to a request for a secret by what Vault
// says, in lower case. Codes of AWS come first: its messages may name anything.
func secretCause(status int, text string) (cause, bool) {
	if status == http.StatusBadRequest || status == http.StatusBadGateway {
		for _, found := range codeForm.FindAllStringSubmatch(text, 20) {
			for _, c := range awsCodes {
				if strings.EqualFold(c.text, found[1]) {
					return c, true
				}
			}
		}
	}
	return first(secretCauses, status, atSecret, text)
}

// capability is what a policy must allow for a request.
func capability(method string) string {
	switch method {
	case "LIST":
		return `"list"`
	case http.MethodPost, http.MethodPut:
		return `"update"`
	case http.MethodDelete:
		return `"delete"`
	}
	return `"read"`
}
