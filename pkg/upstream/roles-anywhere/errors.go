package rolesanywhere

import (
	"errors"
	"fmt"
	"strings"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A meaning is what an error says about us, and what to do.
type meaning struct {
	code   string
	phrase string // in the service's own text, in small letters; empty for any
	class  upstream.Class
	text   string // {role}, {certificate}, {subject}, {anchor}, {profile} and {duration} are filled in
}

const (
	wrongSignature = "the service does not accept the signature of the key in {key}; something on the way changes requests, or the clock of this host is wrong"
	wrongClock     = "the service takes the request for an old one or one from the future"
	distrust       = "the trust anchor {anchor} does not trust the certificate in {certificate} ({subject}): its authority must be the trust anchor's, each certificate between them must be in certificate or chain, and none revoked"
	refusedRole    = "Roles Anywhere may not assume {role} for {subject}: the role's trust policy must allow rolesanywhere.amazonaws.com sts:AssumeRole, sts:TagSession and sts:SetSourceIdentity, and its conditions must fit the certificate"
	refusedProfile = "the profile {profile} is disabled or does not have {role} among its roles; correct the profile"
)

// meanings are looked through in this order. AWS documents the codes; the phrases, which
// tell apart what it calls AccessDeniedException, are known from what people report.
var meanings = []meaning{
	{"AccessDeniedException", "untrusted", upstream.ClassRefused, distrust},
	{"AccessDeniedException", "unable to assume role", upstream.ClassRefused, refusedRole},
	{"AccessDeniedException", "rolesessionname", upstream.ClassRefused, "the profile {profile} accepts no session name; leave out session_name, or let the profile accept custom ones"},
	{"AccessDeniedException", "signature", upstream.ClassRequest, wrongSignature},
	{"AccessDeniedException", "expired", upstream.ClassRefused, "the service takes the certificate in {certificate} ({subject}) for expired; put a new one and its key there"},
	{"AccessDeniedException", "profile", upstream.ClassRefused, refusedProfile},
	{"AccessDeniedException", "", upstream.ClassRefused, "Roles Anywhere refuses {role} for {subject}: look whether trust anchor and profile are enabled, the profile has the role, and the role's trust policy lets rolesanywhere.amazonaws.com assume it"},
	{"ResourceNotFoundException", "profile", upstream.ClassRequest, "there is no profile {profile}; correct profile_arn"},
	{"ResourceNotFoundException", "anchor", upstream.ClassRequest, "there is no trust anchor {anchor}; correct trust_anchor_arn"},
	{"ResourceNotFoundException", "", upstream.ClassRequest, "there is no trust anchor {anchor} or no profile {profile}; correct trust_anchor_arn or profile_arn"},
	{"ValidationException", "", upstream.ClassRequest, "the service takes a parameter for {role} to be wrong: compare role_arn, profile_arn, trust_anchor_arn and duration ({duration}) with what is configured there"},
	{"ThrottlingException", "", upstream.ClassThrottled, "the service gets more requests from this account than it takes"},
}

// explain turns an answer that is no success into an error in words of ours. One that we
// do not know goes by its status.
func (s *Source) explain(a *upstream.Answer, role Role, id *identity) error {
	err := a.Check()
	code, message := parseError(a.Header.Get("X-Amzn-ErrorType"), a.Body)
	fault, ok := errors.AsType[*upstream.Error](err)
	message = strings.ToLower(message)
	for _, m := range meanings {
		if !ok || m.code != code || !strings.Contains(message, m.phrase) {
			continue
		}
		text := strings.NewReplacer("{role}", role.RoleARN, "{certificate}", s.options.Certificate, "{key}", s.options.Key,
			"{subject}", fmt.Sprintf("%q", id.leaf.Subject), "{anchor}", s.options.TrustAnchorARN, "{profile}", s.options.ProfileARN,
			"{duration}", role.session().Length().String()).Replace(m.text)
		if skew := s.client.Skew(); m.text == wrongSignature && awsapi.WrongClock(skew) {
			text = wrongClock + awsapi.Clocks(skew)
		}
		fault.Kind, fault.Err = m.class, fmt.Errorf("%s: %s", code, text)
		return fault
	}
	return err
}

// An identityError says that there is nothing to sign with.
type identityError struct{ cause error }

// Error implements error.
func (e *identityError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *identityError) Unwrap() error { return e.cause }

// Class is how metrics count it.
func (*identityError) Class() string { return string(upstream.ClassTLS) }
