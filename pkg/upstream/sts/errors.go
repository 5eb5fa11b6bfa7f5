package sts

import (
	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/upstream"
)

// meanings are the codes of the STS API reference that say something about the base.
var meanings = map[string]awsapi.Meaning{
	"AccessDenied":                {Class: upstream.ClassRefused, Text: "{by} may not assume {role}: the role's trust policy (which may want an external ID) and the permissions of {by} must both allow it"},
	"ExpiredToken":                {Class: upstream.ClassExpired, Text: "the session of {by} has ended by the clock of STS; a new one is being asked for"},
	"ExpiredTokenException":       {Class: upstream.ClassExpired, Text: "the session of {by} has ended by the clock of STS; a new one is being asked for"},
	"InvalidClientTokenId":        {Class: upstream.ClassRefused, Text: "STS does not know the keys of {by}: they were revoked, or belong to another partition than {region}"},
	"UnrecognizedClientException": {Class: upstream.ClassRefused, Text: "STS does not know the keys of {by}: they were revoked, or belong to another partition than {region}"},
	"ValidationError":             {Class: upstream.ClassRequest, Text: "STS takes a parameter for {role} to be wrong: most often duration ({duration}) is longer than the role's maximum session duration, or than the hour that a role has which was assumed with the session of another"},
}
