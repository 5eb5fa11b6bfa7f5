package sts

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The limits of AssumeRole, from the STS API reference.
const (
	maxARN        = 2048
	minDuration   = 15 * time.Minute
	maxDuration   = 12 * time.Hour
	maxExternalID = 1224
	maxPolicy     = 2048
	maxPolicyARNs = 10
	maxTags       = 50
	maxTagKey     = 128
	maxTagValue   = 256
	minSession    = 2
	maxSession    = 64
)

var (
	roleForm     = regexp.MustCompile(`^arn:(aws[a-z-]*):iam::([0-9]{12}):role/(?:[!-~]{1,510}/)?([\w+=,.@-]{1,64})$`)
	policyForm   = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[!-~]{1,640}$`)
	externalForm = regexp.MustCompile(`^[\w+=,.@:/-]*$`)
	sessionForm  = regexp.MustCompile(`^[\w+=,.@-]*$`)
	tagForm      = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

// check reports what STS would not accept, each error beginning with its key.
func (r Role) check(partition string) (all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	parts := roleForm.FindStringSubmatch(r.RoleARN)
	switch {
	case r.RoleARN == "":
		fault("role_arn: missing, such as arn:aws:iam::123456789012:role/demo")
	case parts == nil || len(r.RoleARN) > maxARN:
		fault("role_arn: %q is not the ARN of a role, such as arn:aws:iam::123456789012:role/demo", r.RoleARN)
	case partition != "" && parts[1] != partition:
		fault("role_arn: the role is in the partition %s, the region in %s", parts[1], partition)
	}
	if err := checkTemplate(r.SessionName); err != nil {
		fault("session_name: %w", err)
	}
	if !fits(r.ExternalID, 2, maxExternalID, externalForm) {
		fault("external_id: must have 2 to %d letters, digits or characters of _+=,.@:/-", maxExternalID)
	}
	if !fits(r.SourceIdentity, minSession, maxSession, sessionForm) {
		fault("source_identity: must have %d to %d letters, digits or characters of _+=,.@-", minSession, maxSession)
	}
	if d := r.duration(); d < minDuration || d > maxDuration || d%time.Second != 0 {
		fault("duration: %v is not between %v and %v in whole seconds", d, minDuration, maxDuration)
	}
	return append(all, r.checkSession()...)
}

// checkSession looks at what narrows or marks the session.
func (r Role) checkSession() (all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if r.Policy != "" {
		if err := checkPolicy(r.Policy); err != nil {
			fault("policy: %w", err)
		}
	}
	if len(r.PolicyARNs) > maxPolicyARNs {
		fault("policy_arns: there are %d, STS takes %d at most", len(r.PolicyARNs), maxPolicyARNs)
	}
	for _, arn := range r.PolicyARNs {
		if !policyForm.MatchString(arn) {
			fault("policy_arns: %q is not the ARN of a policy, such as arn:aws:iam::aws:policy/ReadOnlyAccess", arn)
		}
	}
	if len(r.Tags) > maxTags {
		fault("tags: there are %d, STS takes %d at most", len(r.Tags), maxTags)
	}
	folded := map[string]string{} // tags differ in more than the case of letters
	for _, tag := range slices.Sorted(maps.Keys(r.Tags)) {
		switch other, twice := folded[strings.ToLower(tag)]; {
		case tag == "" || utf8.RuneCountInString(tag) > maxTagKey || !tagForm.MatchString(tag) || strings.HasPrefix(strings.ToLower(tag), "aws:"):
			fault("tags: %q cannot be the key of a tag: 1 to %d letters, digits, blanks or characters of _.:/=+-@, and no aws: in front", tag, maxTagKey)
		case utf8.RuneCountInString(r.Tags[tag]) > maxTagValue || !tagForm.MatchString(r.Tags[tag]):
			fault("tags.%s: the value must have at most %d letters, digits, blanks or characters of _.:/=+-@", tag, maxTagValue)
		case twice:
			fault("tags: %q and %q are the same to STS", other, tag)
		}
		folded[strings.ToLower(tag)] = tag
	}
	for _, tag := range r.TransitiveTags {
		if _, ok := r.Tags[tag]; !ok {
			fault("transitive_tags: %q is not one of tags", tag)
		}
	}
	return all
}

// fits reports whether an optional text has the right length and characters.
func fits(text string, least, most int, form *regexp.Regexp) bool {
	return text == "" || len(text) >= least && len(text) <= most && form.MatchString(text)
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

// sessionName fills a template. The result is always a legal name: other characters
// become hyphens, and its length is brought within the limits.
func sessionName(template, hostname, name string) string {
	if template == "" {
		template = defaultSession
	}
	text := placeholder.ReplaceAllStringFunc(template, func(found string) string {
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

// form is the body of the call, in the alphabetical order in which the SDKs send it.
func (r Role) form(session string) string {
	form := url.Values{
		"Action":          {"AssumeRole"},
		"DurationSeconds": {strconv.Itoa(int(r.duration() / time.Second))},
		"RoleArn":         {r.RoleARN},
		"RoleSessionName": {session},
		"Version":         {"2011-06-15"},
	}
	for name, value := range map[string]string{"ExternalId": r.ExternalID, "Policy": r.Policy, "SourceIdentity": r.SourceIdentity} {
		if value != "" {
			form.Set(name, value)
		}
	}
	for i, arn := range r.PolicyARNs {
		form.Set(fmt.Sprintf("PolicyArns.member.%d.arn", i+1), arn)
	}
	for i, tag := range slices.Sorted(maps.Keys(r.Tags)) {
		form.Set(fmt.Sprintf("Tags.member.%d.Key", i+1), tag)
		form.Set(fmt.Sprintf("Tags.member.%d.Value", i+1), r.Tags[tag])
	}
	for i, tag := range r.TransitiveTags {
		form.Set(fmt.Sprintf("TransitiveTagKeys.member.%d", i+1), tag)
	}
	return form.Encode()
}

// account is the one that the role is in.
func (r Role) account() string {
	if parts := roleForm.FindStringSubmatch(r.RoleARN); parts != nil {
		return parts[2]
	}
	return ""
}
