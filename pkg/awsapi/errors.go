package awsapi

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
)

// A Meaning is what the code of an error says about us, and what to do.
type Meaning struct {
	Class upstream.Class
	Text  string // {role}, {by}, {region}, {duration} and {action} are filled in
}

const (
	wrongSignature = "the signature of {by} is not what STS computes: its secret key does not belong to its key ID, or something on the way changes requests"
	wrongClock     = "STS takes the request for an old one or one from the future"
	throttled      = "STS gets more requests from this account than it takes"
	broken         = "STS has an error of its own"
)

// meanings are the codes of the STS API reference that mean the same for every call.
// AWS promises codes, not HTTP statuses.
var meanings = map[string]Meaning{
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
	"InvalidParameterValue":            {upstream.ClassRequest, "STS takes a parameter for {role} to be wrong; compare what is configured with the role"},
	"InvalidParameterCombination":      {upstream.ClassRequest, "STS takes a parameter for {role} to be wrong; compare what is configured with the role"},
	"InvalidAction":                    {upstream.ClassRequest, "the endpoint does not know {action}; is it one of STS?"},
	"OptInRequired":                    {upstream.ClassRefused, "the account of {by} is not signed up for {region}"},
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
func (s *STS) explain(a *upstream.Answer, c Call) error {
	err := a.Check()
	fault, ok := errors.AsType[*upstream.Error](err)
	code := parseCode(a.Body)
	m, known := c.Meanings[code]
	if !known {
		m, known = meanings[code]
	}
	if !ok || !known {
		return err
	}
	text := strings.NewReplacer("{role}", c.Session.RoleARN, "{by}", c.By, "{region}", s.Place.Region,
		"{duration}", c.Session.Length().String(), "{action}", c.Action).Replace(m.Text)
	if skew := s.Client.Skew(); m.Text == wrongClock || m.Text == wrongSignature && WrongClock(skew) {
		text = wrongClock + Clocks(skew)
	}
	fault.Kind, fault.Err = m.Class, fmt.Errorf("%s: %s", code, text)
	return fault
}

// Ended reports whether STS says that what a call was made with has ended. An answer with
// keys that have ended is none of that.
func Ended(err error) bool {
	fault, ok := errors.AsType[*upstream.Error](err)
	return ok && fault.Kind == upstream.ClassExpired && fault.Status >= 400
}

// WrongClock reports whether clocks differ by so much that AWS may reject a signature.
func WrongClock(skew time.Duration) bool { return skew.Abs() >= 4*time.Minute }

// Clocks says how far our clock is from that of a service that is ahead of it by skew,
// where its answer has shown that.
func Clocks(skew time.Duration) string {
	side := "behind"
	switch {
	case skew == 0:
		return ""
	case skew < 0:
		side, skew = "ahead", -skew
	}
	return fmt.Sprintf("; the clock of this host is %v %s, set it right (the next attempt allows for it)", skew.Round(time.Second), side)
}
