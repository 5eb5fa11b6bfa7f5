package awsapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Session is what every way to assume a role has in its configuration.
type Session struct {
	RoleARN string `koanf:"role_arn"`
	// SessionName is a template with {{ .Hostname }} and {{ .Credential }}; what a
	// session cannot be called is replaced or cut off.
	SessionName string `koanf:"session_name"`
	// Policy is a JSON document, PolicyARNs names managed ones: the session may do no
	// more than they allow.
	Policy     string        `koanf:"policy"`
	PolicyARNs []string      `koanf:"policy_arns"`
	Duration   time.Duration `koanf:"duration"` // an hour if zero
}

// The limits of STS, from its API reference.
const (
	maxARN        = 2048
	minDuration   = 15 * time.Minute
	maxDuration   = 12 * time.Hour
	maxPolicy     = 2048
	maxPolicyARNs = 10
	minSession    = 2
	maxSession    = 64
)

var (
	roleForm    = regexp.MustCompile(`^arn:(aws[a-z-]*):iam::([0-9]{12}):role/(?:[!-~]{1,510}/)?([\w+=,.@-]{1,64})$`)
	policyForm  = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[!-~]{1,640}$`)
	sessionForm = regexp.MustCompile(`^[\w+=,.@-]*$`)
)

// A Role is the parts of a role's ARN that matter here.
type Role struct{ Partition, Account, Name string }

// ParseRole reads the ARN of a role.
func ParseRole(arn string) (Role, bool) {
	parts := roleForm.FindStringSubmatch(arn)
	if parts == nil || len(arn) > maxARN {
		return Role{}, false
	}
	return Role{parts[1], parts[2], parts[3]}, true
}

// Check reports what STS would not accept, each error beginning with its key.
func (s Session) Check(partition string) (all []error) {
	role, ok := ParseRole(s.RoleARN)
	switch {
	case s.RoleARN == "":
		all = append(all, errors.New("role_arn: missing, such as arn:aws:iam::123456789012:role/demo"))
	case !ok:
		all = append(all, fmt.Errorf("role_arn: %q is not the ARN of a role, such as arn:aws:iam::123456789012:role/demo", s.RoleARN))
	case partition != "" && role.Partition != partition:
		all = append(all, fmt.Errorf("role_arn: the role is in the partition %s, the region in %s", role.Partition, partition))
	}
	return append(all, s.CheckRest()...)
}

// CheckRest is Check for all but the role.
func (s Session) CheckRest() (all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if err := checkTemplate(s.SessionName); err != nil {
		fault("session_name: %w", err)
	}
	if d := s.Length(); d < minDuration || d > maxDuration || d%time.Second != 0 {
		fault("duration: %v is not between %v and %v in whole seconds", d, minDuration, maxDuration)
	}
	if s.Policy != "" {
		if err := checkPolicy(s.Policy); err != nil {
			fault("policy: %w", err)
		}
	}
	if len(s.PolicyARNs) > maxPolicyARNs {
		fault("policy_arns: there are %d, STS takes %d at most", len(s.PolicyARNs), maxPolicyARNs)
	}
	for _, arn := range s.PolicyARNs {
		if !policyForm.MatchString(arn) {
			fault("policy_arns: %q is not the ARN of a policy, such as arn:aws:iam::aws:policy/ReadOnlyAccess", arn)
		}
	}
	return all
}

// Length is for how long a session is asked for.
func (s Session) Length() time.Duration { return cmp.Or(s.Duration, time.Hour) }

// FitsSession reports whether an optional text is one that can name a session, or be a
// source identity.
func FitsSession(text string) bool {
	return text == "" || len(text) >= minSession && len(text) <= maxSession && sessionForm.MatchString(text)
}

func checkPolicy(text string) error {
	switch {
	case utf8.RuneCountInString(text) > maxPolicy:
		return fmt.Errorf("has more than the %d characters that STS takes", maxPolicy)
	case !json.Valid([]byte(text)) || !strings.HasPrefix(strings.TrimSpace(text), "{"):
		return errors.New("is not a JSON document")
	case strings.ContainsFunc(text, func(c rune) bool { return c > 0xff }):
		return errors.New("has characters beyond Latin-1, which STS does not take")
	}
	return nil
}

// defaultSession is the name of sessions where the configuration has none.
const defaultSession = "{{ .Hostname }}"

var placeholder = regexp.MustCompile(`\{\{ *(\.?\w*) *\}\}`)

func checkTemplate(template string) error {
	for _, found := range placeholder.FindAllStringSubmatch(template, -1) {
		if found[1] != ".Hostname" && found[1] != ".Credential" {
			return fmt.Errorf("unknown %s; there is {{ .Hostname }} and {{ .Credential }}", found[0])
		}
	}
	if rest := placeholder.ReplaceAllString(template, ""); strings.Contains(rest, "{{") || strings.Contains(rest, "}}") {
		return errors.New("braces that are no {{ .Hostname }} or {{ .Credential }}")
	}
	return nil
}

// SessionName fills a template for a credential on this host. The result is always a
// legal name: other characters become hyphens, and its length is brought within the
// limits.
func SessionName(template, hostname, name string) string {
	text := placeholder.ReplaceAllStringFunc(cmp.Or(template, defaultSession), func(found string) string {
		if strings.Contains(found, ".Hostname") {
			return hostname
		}
		return name
	})
	legal := strings.Map(func(c rune) rune {
		if c < 0x80 && sessionForm.MatchString(string(c)) {
			return c
		}
		return '-'
	}, text)
	for len(legal) < minSession {
		legal += "-"
	}
	return legal[:min(len(legal), maxSession)]
}

// Form holds the parameters of a call that asks for the session by this name.
func (s Session) Form(action, name string) url.Values {
	form := url.Values{
		"Action":          {action},
		"DurationSeconds": {strconv.Itoa(int(s.Length() / time.Second))},
		"RoleArn":         {s.RoleARN},
		"RoleSessionName": {name},
		"Version":         {"2011-06-15"},
	}
	if s.Policy != "" {
		form.Set("Policy", s.Policy)
	}
	for i, arn := range s.PolicyARNs {
		form.Set(fmt.Sprintf("PolicyArns.member.%d.arn", i+1), arn)
	}
	return form
}
