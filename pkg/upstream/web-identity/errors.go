package webidentity

import (
	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/upstream"
)

const ended = "{by} has ended by the clock of STS; the call is made again as soon as there is a new one"

// meanings are the codes of the STS API reference that say something about the token.
var meanings = map[string]awsapi.Meaning{
	"AccessDenied":          {Class: upstream.ClassRefused, Text: "{by} may not assume {role}: the role's trust policy must allow sts:AssumeRoleWithWebIdentity to the provider of the token, with its audience and its subject"},
	"InvalidIdentityToken":  {Class: upstream.ClassRequest, Text: "STS does not take {by}: the account of {role} must have its issuer as an OpenID Connect provider with its audience, and it must be signed with a key that the issuer publishes"},
	"ExpiredToken":          {Class: upstream.ClassExpired, Text: ended},
	"ExpiredTokenException": {Class: upstream.ClassExpired, Text: ended},
	"IDPCommunicationError": {Class: upstream.ClassServer, Text: "STS cannot reach the issuer of {by} to verify it: /.well-known/openid-configuration below the issuer's URL and the keys that it names must answer to AWS"},
	"IDPRejectedClaim":      {Class: upstream.ClassRefused, Text: "the issuer does not stand by {by}: it was revoked or has ended, or a claim in it is wrong; get another one"},
	"ValidationError":       {Class: upstream.ClassRequest, Text: "STS takes a parameter for {role} to be wrong: most often duration ({duration}) is longer than the role's maximum session duration"},
}
