package sts

import (
	"errors"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
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

// A baseError says that there is no base to assume a role with.
type baseError struct {
	text  string
	cause error // one of package credential's, or what the base itself says
}

// Error implements error.
func (e *baseError) Error() string { return e.text }

// Unwrap returns the cause.
func (e *baseError) Unwrap() error { return e.cause }

// Class is how metrics count it.
func (*baseError) Class() string { return "base" }

// Waiting reports whether the base is still to come, so that its own upstream is what
// there is to look at.
func (e *baseError) Waiting() bool {
	return errors.Is(e.cause, credential.ErrUnavailable) && !errors.Is(e.cause, credential.ErrRefused)
}

// missing says why a base cannot be had.
func missing(which string, cause error) *baseError {
	switch {
	case errors.Is(cause, credential.ErrRefused):
		return &baseError{which + " is refused by its upstream", cause}
	case errors.Is(cause, credential.ErrUnavailable):
		return &baseError{which + " is not in stock yet", cause}
	case errors.Is(cause, credential.ErrExpired):
		return &baseError{which + " has ended, and its upstream gives no new one", cause}
	case errors.Is(cause, credential.ErrNotFound):
		return &baseError{which + " is not among what the upstreams give", cause}
	}
	return &baseError{cause.Error(), cause}
}
