package vault

import (
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// The longest values that are believed, in bytes; AWS's are a tenth of that.
const (
	maxKey     = 1 << 10
	maxSession = 32 << 10
)

// textIn takes a field of an answer that must be there, with nothing in it that could
// not be sent on in a header or a line.
func textIn(a *answer, data map[string]any, field string, limit int) (string, error) {
	value, ok := data[field].(string)
	switch {
	case data[field] == nil || ok && value == "":
		return "", a.raw.Errorf(upstream.ClassIncomplete, "the answer has no field %q", field)
	case !ok:
		return "", a.raw.Errorf(upstream.ClassMalformed, "the field %q is not a text", field)
	case len(value) > limit:
		return "", a.raw.Errorf(upstream.ClassMalformed, "the field %q is longer than %d bytes", field, limit)
	case strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }):
		return "", a.raw.Errorf(upstream.ClassMalformed, "the field %q has characters that do not belong in it", field)
	}
	return value, nil
}

// keysIn makes keys without an end from the fields of an answer. Without a field for
// it, there is no session token.
func keysIn(a *answer, data map[string]any, id, secretKey, sessionToken string) (*credential.AWS, error) {
	keys := &credential.AWS{Issued: wall(a.sent)}
	var err error
	if keys.AccessKeyID, err = textIn(a, data, id, maxKey); err != nil {
		return nil, err
	}
	text, err := textIn(a, data, secretKey, maxKey)
	if err != nil {
		return nil, err
	}
	keys.SecretAccessKey = credential.NewSecret(text)
	if sessionToken != "" {
		if text, err = textIn(a, data, sessionToken, maxSession); err != nil {
			return nil, err
		}
		keys.SessionToken = credential.NewSecret(text)
	}
	return keys, nil
}

// checkEnd is an error for what has ended already.
func (a *answer) checkEnd(expires time.Time) error {
	if now := time.Now(); !expires.After(now) {
		return a.raw.Errorf(upstream.ClassExpired, "what Vault gave ended %v ago; compare the clocks, and what keeps answers on the way", now.Sub(expires).Round(time.Second))
	}
	return nil
}

// wall is a time as it is stored: by the wall clock, in whole seconds.
func wall(t time.Time) time.Time { return t.Round(0).UTC().Truncate(time.Second) }
