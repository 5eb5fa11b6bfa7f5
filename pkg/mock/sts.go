package mock

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// STSOptions say what an STS knows.
type STSOptions struct {
	Keys *Keys // those that may sign, and where the keys that it makes go; needed
	// Region is the one that a signature must be for; empty for any.
	Region string
	// Roles can be assumed; without any, every role by everyone.
	Roles []STSRole
	// Providers are those whose tokens AssumeRoleWithWebIdentity takes.
	Providers []Provider
	Log       zerolog.Logger // one line per request; the zero value writes none
}

// An STSRole is a role and its trust policy.
type STSRole struct {
	ARN        string
	By         []string // names of the roles, users or subjects that may assume it; empty for all
	ExternalID string
	Longest    time.Duration // the maximum session duration; an hour if zero, as in AWS
}

// An Assumption is a call of AssumeRole or GetFederationToken with a good signature, or
// one of AssumeRoleWithWebIdentity with a good token, granted or not.
type Assumption struct {
	By   string     `json:"by"`   // the role, the user or the token's subject
	Key  string     `json:"key"`  // the access key ID that signed; empty with a token
	Form url.Values `json:"form"` // all parameters
	Code string     `json:"code"` // of the error; empty if it was granted
	Made string     `json:"made"` // the access key ID of the session
	At   time.Time  `json:"at"`   // when
}

// An STS answers AssumeRole, AssumeRoleWithWebIdentity and GetFederationToken like the
// Security Token Service, the last for every user. It verifies signatures (Signature
// Version 4) and session tokens by the keys that it knows, tokens by the keys that their
// issuers publish, and the parameters by the service's limits. Beside what every stand-in
// has, GET /_mock/assumptions tells of the calls.
type STS struct {
	Control

	keys   *Keys
	region string
	roles  []STSRole

	providers []Provider

	asked       sync.Mutex // guards assumptions
	assumptions []Assumption
}

// NewSTS returns an STS, an http.Handler.
func NewSTS(o STSOptions) *STS {
	return &STS{Control: Control{log: o.Log}, keys: o.Keys, region: o.Region, roles: slices.Clone(o.Roles), providers: slices.Clone(o.Providers)}
}

// Assumptions returns the latest calls, at most a thousand, the oldest first.
func (s *STS) Assumptions() []Assumption {
	s.asked.Lock()
	defer s.asked.Unlock()
	return slices.Clone(s.assumptions)
}

// maxForm bounds the body of a call, in bytes.
const maxForm = 256 << 10

// ServeHTTP implements http.Handler.
func (s *STS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == ControlPath+"assumptions" && r.Method == http.MethodGet:
		writeJSON(w, s.Assumptions())
		return
	case strings.HasPrefix(r.URL.Path, ControlPath):
		s.serveControl(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	form, formErr := url.ParseQuery(string(body))
	if err != nil || formErr != nil {
		form = url.Values{}
	}
	s.serve(w, r, Credentials, subject(form), func(hits faults) reply { return s.answer(r, body, form, hits) })
}

func (s *STS) answer(r *http.Request, body []byte, form url.Values, hits faults) reply {
	now := time.Now().Add(hits.skew())
	if r.Method != http.MethodPost || r.URL.Path != "/" && r.URL.Path != "" {
		return failure(http.StatusNotFound)
	}
	signer, who, refusal := s.bearer(r, body, form, now)
	if refusal != nil {
		return refusal.reply()
	}
	call := Assumption{By: signer.of, Key: signer.id, Form: form, At: now}
	refusal = s.judge(signer, form)
	if fault, ok := hits.find(Code); ok {
		refusal = &awsError{statusOf(fault.Code), fault.Code, "scripted " + secret(40)}
	}
	if hits.has(Vanished) {
		refusal = denied(signer, form)
	}
	if refusal != nil {
		call.Code = refusal.code
		s.note(call)
		return refusal.reply()
	}
	lifetime := duration(form)
	if short, ok := hits.find(Short); ok {
		lifetime = short.Time
	}
	ends := now.Add(lifetime)
	if hits.has(Expired) {
		ends = now.Add(-time.Minute)
	}
	made := s.keys.session(subject(form), ends)
	call.Made = made.id
	s.note(call)
	if hits.has(Incomplete) {
		made.secret = ""
	}
	if form.Get("Action") == federationToken {
		return federated(made, form)
	}
	return assumed(made, form, who)
}

// subject is the name of whom a session is for.
func subject(form url.Values) string {
	if form.Get("Action") == federationToken {
		return form.Get("Name")
	}
	return path.Base(form.Get("RoleArn"))
}

// withIdentity is the action that a token is for.
const withIdentity = "AssumeRoleWithWebIdentity"

// bearer verifies who asks: by a signature, or by a token. The form that is kept has
// no token.
func (s *STS) bearer(r *http.Request, body []byte, form url.Values, now time.Time) (signer key, who identity, refusal *awsError) {
	if form.Get("Action") != withIdentity {
		signer, refusal = verify(r, body, s.keys, "sts", s.region, now)
		return signer, who, refusal
	}
	if wrong := checkForm(form); wrong != nil {
		return signer, who, wrong
	}
	who, refusal = identify(r.Context(), s.providers, form.Get("WebIdentityToken"), now)
	return key{of: who.subject}, who, refusal
}

// note keeps a call for Assumptions.
func (s *STS) note(call Assumption) {
	s.asked.Lock()
	defer s.asked.Unlock()
	s.assumptions = withLatest(s.assumptions, call)
}

// judge checks the parameters, and then the role's trust.
func (s *STS) judge(signer key, form url.Values) *awsError {
	action := form.Get("Action")
	if !slices.Contains([]string{"AssumeRole", withIdentity, federationToken}, action) || form.Get("Version") != "2011-06-15" {
		return &awsError{http.StatusBadRequest, "InvalidAction", "Could not find operation"}
	}
	if action == federationToken {
		return judgeFederation(signer, form)
	}
	if wrong := checkForm(form); wrong != nil {
		return wrong
	}
	if signer.token != "" && duration(form) > time.Hour {
		return invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	if len(s.roles) == 0 {
		return nil
	}
	at := slices.IndexFunc(s.roles, func(role STSRole) bool { return role.ARN == form.Get("RoleArn") })
	if at < 0 {
		return denied(signer, form)
	}
	role := s.roles[at]
	switch {
	case len(role.By) > 0 && !slices.Contains(role.By, signer.of), role.ExternalID != "" && role.ExternalID != form.Get("ExternalId"):
		return denied(signer, form)
	case duration(form) > cmp.Or(role.Longest, time.Hour):
		return invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return nil
}

func denied(signer key, form url.Values) *awsError {
	return &awsError{http.StatusForbidden, "AccessDenied",
		fmt.Sprintf("User: %s is not authorized to perform: sts:%s on resource: %s", signer.of, form.Get("Action"), form.Get("RoleArn"))}
}

func invalid(message string) *awsError {
	return &awsError{http.StatusBadRequest, "ValidationError", message}
}

// statusOf is the HTTP status with which AWS answers an error, as far as it matters.
func statusOf(code string) int {
	switch code {
	case "AccessDenied", "AccessDeniedException", "ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch", "RegionDisabledException":
		return http.StatusForbidden
	case "ResourceNotFoundException":
		return http.StatusNotFound
	case "InternalFailure":
		return http.StatusInternalServerError
	case "ServiceUnavailable":
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

const stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

func (e *awsError) reply() reply {
	kind := "Sender"
	if e.status >= 500 {
		kind = "Receiver"
	}
	body := fmt.Appendf(nil, "<ErrorResponse xmlns=%q>\n  <Error>\n    <Type>%s</Type>\n    <Code>%s</Code>\n    <Message>%s</Message>\n  </Error>\n"+
		"  <RequestId>00000000-0000-0000-0000-000000000000</RequestId>\n</ErrorResponse>\n", stsNamespace, kind, escapeXML(e.code), escapeXML(e.message))
	return reply{status: e.status, contentType: "text/xml", body: body}
}

// assumed is the answer to a call that was granted.
func assumed(made key, form url.Values, who identity) reply {
	arn := strings.Split(form.Get("RoleArn"), ":")
	user := fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", arn[1], arn[4], path.Base(arn[5]), form.Get("RoleSessionName"))
	more := ""
	action := form.Get("Action")
	if action == withIdentity {
		more = fmt.Sprintf("    <SubjectFromWebIdentityToken>%s</SubjectFromWebIdentityToken><Provider>%s</Provider><Audience>%s</Audience>\n",
			escapeXML(who.subject), escapeXML(who.issuer), escapeXML(who.audience))
	}
	body := fmt.Appendf(nil, "<%[1]sResponse xmlns=%[2]q>\n  <%[1]sResult>\n    <AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:%[3]s</AssumedRoleId><Arn>%[4]s</Arn></AssumedRoleUser>\n"+
		"    %[5]s\n%[6]s  </%[1]sResult>\n"+
		"  <ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata>\n</%[1]sResponse>\n",
		action, stsNamespace, escapeXML(form.Get("RoleSessionName")), escapeXML(user), made.xml(), more)
	return reply{status: http.StatusOK, contentType: "text/xml", body: body}
}

// xml is what an answer says about the keys that it brings.
func (k key) xml() string {
	secretField := ""
	if k.secret != "" {
		secretField = "<SecretAccessKey>" + k.secret + "</SecretAccessKey>"
	}
	return fmt.Sprintf("<Credentials><AccessKeyId>%s</AccessKeyId>%s<SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials>",
		k.id, secretField, k.token, k.ends.UTC().Format(time.RFC3339))
}

func escapeXML(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes all
	return b.String()
}
