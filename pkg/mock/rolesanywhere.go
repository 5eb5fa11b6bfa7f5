package mock

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// RolesAnywhereOptions say what a Roles Anywhere knows.
type RolesAnywhereOptions struct {
	Keys *Keys // where the keys that it makes go
	// Region is the one that a signature must be for; empty for any.
	Region string
	// Authorities are the trust anchor's certificates.
	Authorities []*x509.Certificate
	// TrustAnchor is its ARN; empty for any.
	TrustAnchor string
	// Profiles are those that exist; without any, every profile with every role.
	Profiles []RolesAnywhereProfile
	// Distrusting are roles whose trust policy does not let the service assume them.
	Distrusting []string
	Log         zerolog.Logger // one line per request; the zero value writes none
}

// A RolesAnywhereProfile says which sessions there are.
type RolesAnywhereProfile struct {
	ARN         string
	Roles       []string // their ARNs
	Disabled    bool
	SessionName bool          // whether it accepts one
	Longest     time.Duration // of a session; an hour if zero
}

// A CreatedSession is a CreateSession call with a good signature, granted or not.
type CreatedSession struct {
	Serial      string    `json:"serial"`  // of the certificate, in decimal
	Subject     string    `json:"subject"` // of the certificate
	Role        string    `json:"role"`    // its ARN
	SessionName string    `json:"session_name"`
	Code        string    `json:"code"` // of the error; empty if it was granted
	Made        string    `json:"made"` // the access key ID
	At          time.Time `json:"at"`
}

// A RolesAnywhere answers CreateSession calls like IAM Roles Anywhere. It verifies
// signatures (Signature Version 4 with X.509), certificates and the chain to its trust
// anchor. Beside what every stand-in has, GET /_mock/sessions tells of the calls.
type RolesAnywhere struct {
	Control

	options     RolesAnywhereOptions
	authorities *x509.CertPool

	asked    sync.Mutex // guards sessions
	sessions []CreatedSession
}

// NewRolesAnywhere returns one, an http.Handler.
func NewRolesAnywhere(o RolesAnywhereOptions) *RolesAnywhere {
	a := &RolesAnywhere{Control: Control{log: o.Log}, options: o, authorities: x509.NewCertPool()}
	for _, certificate := range o.Authorities {
		a.authorities.AddCert(certificate)
	}
	return a
}

// Sessions returns the latest calls, at most a thousand, the oldest first.
func (a *RolesAnywhere) Sessions() []CreatedSession {
	a.asked.Lock()
	defer a.asked.Unlock()
	return slices.Clone(a.sessions)
}

// ServeHTTP implements http.Handler.
func (a *RolesAnywhere) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == ControlPath+"sessions" && r.Method == http.MethodGet:
		writeJSON(w, append([]CreatedSession{}, a.Sessions()...))
		return
	case strings.HasPrefix(r.URL.Path, ControlPath):
		a.serveControl(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		body = nil
	}
	role := path.Base(r.URL.Query().Get("roleArn"))
	a.serve(w, r, Credentials, role, func(hits faults) reply { return a.answer(r, body, hits) })
}

func (a *RolesAnywhere) answer(r *http.Request, body []byte, hits faults) reply {
	now := time.Now().Add(hits.skew())
	if r.Method != http.MethodPost || r.URL.Path != "/sessions" {
		return failure(http.StatusNotFound)
	}
	leaf, refusal := verifyX509(r, body, a.authorities, a.options.Region, now)
	if refusal != nil {
		return refusal.json()
	}
	ask, refusal := parseSessionCall(r, body)
	if refusal != nil {
		return refusal.json()
	}
	call := CreatedSession{Serial: leaf.SerialNumber.String(), Subject: leaf.Subject.String(), Role: ask.role, SessionName: ask.name, At: now}
	lifetime, refusal := a.judge(ask)
	if fault, ok := hits.find(Code); ok {
		refusal = &awsError{statusOf(fault.Code), fault.Code, "scripted " + secret(40)}
	}
	if hits.has(Vanished) {
		refusal = &awsError{http.StatusNotFound, "ResourceNotFoundException", "Not found"}
	}
	if refusal != nil {
		call.Code = refusal.code
		a.note(call)
		return refusal.json()
	}
	if short, ok := hits.find(Short); ok {
		lifetime = short.Time
	}
	ends := now.Add(lifetime)
	if hits.has(Expired) {
		ends = now.Add(-time.Minute)
	}
	made := a.options.Keys.session(path.Base(ask.role), ends)
	call.Made = made.id
	a.note(call)
	if hits.has(Incomplete) {
		made.secret = ""
	}
	return createdSession(made, ask, leaf)
}

// note keeps a call for Sessions.
func (a *RolesAnywhere) note(call CreatedSession) {
	a.asked.Lock()
	defer a.asked.Unlock()
	a.sessions = withLatest(a.sessions, call)
}

// A sessionCall is what a CreateSession call asks for.
type sessionCall struct {
	anchor, profile, role, name string
	lifetime                    time.Duration
}

var roleARN = regexp.MustCompile(`^arn:[a-z-]+:iam::\d{12}:role/[\x21-\x7e]+$`)

func parseSessionCall(r *http.Request, body []byte) (c sessionCall, refusal *awsError) {
	var parameters struct {
		DurationSeconds int    `json:"durationSeconds"`
		RoleSessionName string `json:"roleSessionName"`
	}
	query := r.URL.Query()
	c = sessionCall{anchor: query.Get("trustAnchorArn"), profile: query.Get("profileArn"), role: query.Get("roleArn")}
	invalid := &awsError{http.StatusBadRequest, "ValidationException", "1 validation error detected"}
	if json.Unmarshal(body, &parameters) != nil || r.Header.Get("Content-Type") != "application/json" || !roleARN.MatchString(c.role) {
		return c, invalid
	}
	c.name = parameters.RoleSessionName
	seconds := cmp.Or(parameters.DurationSeconds, 3600)
	if seconds < 900 || seconds > 43200 || c.name != "" && (len(c.name) < 2 || len(c.name) > 64) {
		return c, invalid
	}
	c.lifetime = time.Duration(seconds) * time.Second
	return c, nil
}

// judge holds a call against the trust anchor, the profiles and the roles, and returns
// how long the session may last.
func (a *RolesAnywhere) judge(c sessionCall) (time.Duration, *awsError) {
	if a.options.TrustAnchor != "" && c.anchor != a.options.TrustAnchor {
		return 0, &awsError{http.StatusNotFound, "ResourceNotFoundException", "Trust anchor not found"}
	}
	if len(a.options.Profiles) > 0 {
		at := slices.IndexFunc(a.options.Profiles, func(p RolesAnywhereProfile) bool { return p.ARN == c.profile })
		if at < 0 {
			return 0, &awsError{http.StatusNotFound, "ResourceNotFoundException", "Profile not found"}
		}
		switch p := a.options.Profiles[at]; {
		case p.Disabled:
			return 0, refusedBy("Profile is disabled")
		case !slices.Contains(p.Roles, c.role):
			return 0, refusedBy("Role is not in profile")
		case c.name != "" && !p.SessionName:
			return 0, refusedBy("Not authorized to set roleSessionName.")
		default:
			c.lifetime = min(c.lifetime, cmp.Or(p.Longest, time.Hour))
		}
	}
	if slices.Contains(a.options.Distrusting, c.role) {
		return 0, refusedBy("Unable to assume role for " + c.role)
	}
	return c.lifetime, nil
}

// json is the error as services with JSON answer it.
func (e *awsError) json() reply {
	body, _ := json.Marshal(map[string]string{"message": e.message}) // texts always can be written
	return reply{status: e.status, contentType: "application/json", header: http.Header{"X-Amzn-Errortype": {e.code + ":"}}, body: body}
}

// createdSession is the answer to a call that was granted.
func createdSession(made key, c sessionCall, leaf *x509.Certificate) reply {
	arn := strings.Split(c.role, ":")
	credentials := map[string]string{"accessKeyId": made.id, "sessionToken": made.token, "expiration": made.ends.UTC().Format(time.RFC3339)}
	if made.secret != "" {
		credentials["secretAccessKey"] = made.secret
	}
	name := cmp.Or(c.name, fmt.Sprintf("%x", leaf.SerialNumber))
	body, _ := json.Marshal(map[string]any{ // texts always can be written
		"credentialSet": []any{map[string]any{
			"assumedRoleUser": map[string]string{
				"arn":           fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", arn[1], arn[4], path.Base(c.role), name),
				"assumedRoleId": "AROAEXAMPLE:" + name,
			},
			"credentials":      credentials,
			"packedPolicySize": 6,
			"roleArn":          c.role,
			"sourceIdentity":   leaf.Subject.CommonName,
		}},
		"subjectArn": fmt.Sprintf("arn:%s:rolesanywhere:eu-central-1:%s:subject/00000000-0000-0000-0000-000000000000", arn[1], arn[4]),
	})
	return reply{status: http.StatusCreated, contentType: "application/json", body: body}
}
