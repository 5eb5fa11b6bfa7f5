package sts

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/purser-agent/purser/pkg/awsapi"
)

// The limits of AssumeRole, from the STS API reference.
const (
	minExternalID = 2
	maxExternalID = 1224
	maxTags       = 50
	maxTagKey     = 128
	maxTagValue   = 256
)

var (
	externalForm = regexp.MustCompile(`^[\w+=,.@:/-]*$`)
	tagForm      = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

// check reports what STS would not accept, each error beginning with its key.
func (r Role) check(partition string) []error {
	return append(r.Check(partition), r.checkMarks()...)
}

// checkMarks looks at what the role or its session is known by.
func (r Role) checkMarks() (all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if n := len(r.ExternalID); n > 0 && (n < minExternalID || n > maxExternalID || !externalForm.MatchString(r.ExternalID)) {
		fault("external_id: must have %d to %d letters, digits or characters of _+=,.@:/-", minExternalID, maxExternalID)
	}
	if !awsapi.FitsSession(r.SourceIdentity) {
		fault("source_identity: must have 2 to 64 letters, digits or characters of _+=,.@-")
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

// form holds the parameters of the call.
func (r Role) form(session string) url.Values {
	form := r.Form(action, session)
	for name, value := range map[string]string{"ExternalId": r.ExternalID, "SourceIdentity": r.SourceIdentity} {
		if value != "" {
			form.Set(name, value)
		}
	}
	for i, tag := range slices.Sorted(maps.Keys(r.Tags)) {
		form.Set(fmt.Sprintf("Tags.member.%d.Key", i+1), tag)
		form.Set(fmt.Sprintf("Tags.member.%d.Value", i+1), r.Tags[tag])
	}
	for i, tag := range r.TransitiveTags {
		form.Set(fmt.Sprintf("TransitiveTagKeys.member.%d", i+1), tag)
	}
	return form
}
