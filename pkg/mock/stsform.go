package mock

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The limits of the parameters of AssumeRole and AssumeRoleWithWebIdentity, from the
// service's API reference.
var stsLimits = []struct {
	name        string
	least, most int // characters
	form        *regexp.Regexp
	needed      bool
	only        string // the action that has it; empty for both
}{
	{"RoleArn", 20, 2048, regexp.MustCompile(`^arn:[a-z-]+:iam::\d{12}:role/[\x21-\x7e]+$`), true, ""},
	{"RoleSessionName", 2, 64, regexp.MustCompile(`^[\w+=,.@-]*$`), true, ""},
	{"ExternalId", 2, 1224, regexp.MustCompile(`^[\w+=,.@:/-]*$`), false, "AssumeRole"},
	{"SourceIdentity", 2, 64, regexp.MustCompile(`^[\w+=,.@-]*$`), false, "AssumeRole"},
	{"Policy", 1, 2048, regexp.MustCompile(`^[\x09\x0A\x0D\x20-\xFF]+$`), false, ""},
	{"WebIdentityToken", 4, 20000, regexp.MustCompile(`^[\x21-\x7e]+$`), true, withIdentity},
}

var tagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

// checkForm holds the parameters against the limits.
func checkForm(form url.Values) *awsError {
	known := map[string]bool{"Action": true, "Version": true, "DurationSeconds": true}
	for _, limit := range stsLimits {
		if limit.only != "" && limit.only != form.Get("Action") {
			continue
		}
		known[limit.name] = true
		values, given := form[limit.name]
		if !given && !limit.needed {
			continue
		}
		text := strings.Join(values, "")
		if n := utf8.RuneCountInString(text); len(values) != 1 || n < limit.least || n > limit.most || !limit.form.MatchString(text) {
			return invalid("1 validation error detected: Value at '" + limit.name + "' failed to satisfy constraint")
		}
	}
	if seconds := int(duration(form) / time.Second); seconds < 900 || seconds > 43200 {
		return invalid("1 validation error detected: Value at 'durationSeconds' failed to satisfy constraint")
	}
	tags, transitive := true, true
	if form.Get("Action") != withIdentity {
		tags = checkMembers(form, known, "Tags", 50, ".Key", ".Value")
		transitive = checkMembers(form, known, "TransitiveTagKeys", 50, "")
	}
	policies := checkMembers(form, known, "PolicyArns", 10, ".arn")
	if !tags || !transitive || !policies {
		return invalid("1 validation error detected: a list failed to satisfy constraint")
	}
	for name := range form {
		if !known[name] {
			return invalid("unknown parameter")
		}
	}
	return nil
}

// checkMembers checks a list: LIST.member.1 and so on, with each of the fields.
func checkMembers(form url.Values, known map[string]bool, list string, most int, fields ...string) bool {
	for n := 1; ; n++ {
		prefix := fmt.Sprintf("%s.member.%d", list, n)
		if !form.Has(prefix + fields[0]) {
			return true
		}
		for _, field := range fields {
			known[prefix+field] = true
			text := form.Get(prefix + field)
			longest := 128
			switch {
			case field == ".Value":
				longest = 256
			case field == ".arn":
				longest = 2048
			}
			if n > most || utf8.RuneCountInString(text) > longest || !tagText.MatchString(text) || text == "" && field != ".Value" {
				return false
			}
		}
	}
}

// duration is the life that a call asks for; zero for one that is no number.
func duration(form url.Values) time.Duration {
	text := form.Get("DurationSeconds")
	if text == "" {
		return time.Hour
	}
	seconds, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
