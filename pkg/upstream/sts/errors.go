package sts

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A meaning is what an error of STS says about us, and what to do.
type meaning struct {
	class upstream.Class
	text  string // {role}, {base}, {region} and {duration} are filled in
}

const (
	wrongSignature = "the signature of {base} is not what STS computes: its secret key does not belong to its key ID, or something on the way changes requests"
	wrongClock     = "STS takes the request for an old one or one from the future"
	throttled      = "STS gets more requests from this account than it takes"
	broken         = "STS has an error of its own"
)

// wrongFrom is the least difference of clocks for which AWS rejects a signature.
const wrongFrom = 4 * time.Minute

// meanings are the codes of the STS API reference, its common errors among them. AWS
// promises codes, not HTTP statuses.
var meanings = map[string]meaning{
	"AccessDenied":                     {upstream.ClassRefused, "{base} may not assume {role}: the role's trust policy (which may want an external ID) and the permissions of {base} must both allow it"},
	"ExpiredToken":                     {upstream.ClassExpired, "the session of {base} has ended by the clock of STS; a new one is being asked for"},
	"ExpiredTokenException":            {upstream.ClassExpired, "the session of {base} has ended by the clock of STS; a new one is being asked for"},
	"InvalidClientTokenId":             {upstream.ClassRefused, "STS does not know the keys of {base}: they were revoked, or belong to another partition than {region}"},
	"UnrecognizedClientException":      {upstream.ClassRefused, "STS does not know the keys of {base}: they were revoked, or belong to another partition than {region}"},
	"SignatureDoesNotMatch":            {upstream.ClassRequest, wrongSignature},
	"IncompleteSignature":              {upstream.ClassRequest, wrongSignature},
	"InvalidSignatureException":        {upstream.ClassRequest, wrongSignature},
	"MissingAuthenticationToken":       {upstream.ClassRequest, "STS found no signature in the request; something on the way removes it"},
	"RequestExpired":                   {upstream.ClassRequest, wrongClock},
	"RequestTimeTooSkewed":             {upstream.ClassRequest, wrongClock},
	"MalformedPolicyDocument":          {upstream.ClassRequest, "STS cannot read the policy of {role}; correct policy"},
	"MalformedPolicyDocumentException": {upstream.ClassRequest, "STS cannot read the policy of {role}; correct policy"},
	"PackedPolicyTooLarge":             {upstream.ClassRequest, "policy, policy_arns and tags of {role} are too large together; shorten them"},
	"PackedPolicyTooLargeException":    {upstream.ClassRequest, "policy, policy_arns and tags of {role} are too large together; shorten them"},
	"RegionDisabledException":          {upstream.ClassRequest, "STS is turned off in {region} for this account; turn it on or choose another region"},
	"ValidationError":                  {upstream.ClassRequest, "STS takes a parameter for {role} to be wrong: most often duration ({duration}) is longer than the role's maximum session duration, or than the hour that a role has which was assumed with the session of another"},
	"InvalidParameterValue":            {upstream.ClassRequest, "STS takes a parameter for {role} to be wrong; compare what is configured with the role"},
	"InvalidParameterCombination":      {upstream.ClassRequest, "STS takes a parameter for {role} to be wrong; compare what is configured with the role"},
	"InvalidAction":                    {upstream.ClassRequest, "the endpoint does not know AssumeRole; is it one of STS?"},
	"OptInRequired":                    {upstream.ClassRefused, "the account of {base} is not signed up for {region}"},
	"Throttling":                       {upstream.ClassThrottled, throttled},
	"ThrottlingException":              {upstream.ClassThrottled, throttled},
	"ThrottledException":               {upstream.ClassThrottled, throttled},
	"RequestThrottled":                 {upstream.ClassThrottled, throttled},
	"RequestThrottledException":        {upstream.ClassThrottled, throttled},
	"RequestLimitExceeded":             {upstream.ClassThrottled, throttled},
	"TooManyRequestsException":         {upstream.ClassThrottled, throttled},
	"BandwidthLimitExceeded":           {upstream.ClassThrottled, throttled},
	"LimitExceededException":           {upstream.ClassThrottled, throttled},
	"SlowDown":                         {upstream.ClassThrottled, throttled},
	"PriorRequestNotComplete":          {upstream.ClassThrottled, throttled},
	"InternalFailure":                  {upstream.ClassServer, broken},
	"InternalError":                    {upstream.ClassServer, broken},
	"ServiceUnavailable":               {upstream.ClassServer, broken},
	"ServiceUnavailableException":      {upstream.ClassServer, broken},
}

// explain turns an answer that is no success into an error in words of ours. One
// with a code that we do not know goes by its status.
func (s *Source) explain(a *upstream.Answer, role Role, base base) error {
	err := a.Check()
	fault, ok := errors.AsType[*upstream.Error](err)
	code := parseCode(a.Body)
	m, known := meanings[code]
	if !ok || !known {
		return err
	}
	text := strings.NewReplacer("{role}", role.RoleARN, "{base}", base.String(), "{region}", s.options.Region,
		"{duration}", role.duration().String()).Replace(m.text)
	if skewed := s.client.Skew().Abs() >= wrongFrom; m.text == wrongClock || m.text == wrongSignature && skewed {
		text = wrongClock + s.clocks()
	}
	fault.Kind, fault.Err = m.class, fmt.Errorf("%s: %s", code, text)
	return fault
}

// clocks says how far ours is from that of STS, where the answer has shown that.
func (s *Source) clocks() string {
	side, skew := "behind", s.client.Skew()
	switch {
	case skew == 0:
		return ""
	case skew < 0:
		side, skew = "ahead", -skew
	}
	return fmt.Sprintf("; the clock of this host is %v %s, set it right (the next attempt allows for it)", skew.Round(time.Second), side)
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
