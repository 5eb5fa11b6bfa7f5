package upstream

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// The longest values that are believed, in bytes. They are sent on in headers and
// environment variables; AWS's are a tenth of that.
const (
	MaxKey   = 1 << 10
	MaxToken = 32 << 10
)

// A Part is one of several values that belong together, with what it is called where
// it comes from.
type Part struct{ Name, Value string }

// Keys are AWS keys as a program, a file or the configuration has them. Token, Account
// and Expires may be missing: the keys of an IAM user have neither token nor end.
type Keys struct {
	ID, Secret, Token, Account Part
	Issued, Expires            time.Time
}

// AWS returns the credential, or an *Error that says what is wrong with it and quotes
// none of it.
func (k Keys) AWS(tried string) (*credential.AWS, error) {
	fault := func(class Class, format string, args ...any) (*credential.AWS, error) {
		return nil, &Error{Kind: class, Tried: tried, Err: fmt.Errorf(format, args...)}
	}
	for _, part := range []Part{k.ID, k.Secret} {
		if part.Value == "" {
			return fault(ClassIncomplete, "%s is missing", part.Name)
		}
	}
	err := cmp.Or(CheckValue(k.ID, MaxKey), CheckValue(k.Secret, MaxKey), CheckValue(k.Token, MaxToken))
	if err != nil {
		return fault(ClassMalformed, "%w", err)
	}
	if k.Token.Value == "" && strings.HasPrefix(k.ID.Value, "ASIA") {
		return fault(ClassIncomplete, "%s is missing, without which keys of a session (ASIA...) are of no use", k.Token.Name)
	}
	if k.Account.Value != "" && !credential.IsAccountID(k.Account.Value) {
		return fault(ClassMalformed, "%s is not an account's twelve digits", k.Account.Name)
	}
	now := time.Now().UTC().Truncate(time.Second)
	if !k.Expires.IsZero() && !k.Expires.After(now) {
		return fault(ClassExpired, "the keys ended at %s, %v ago", k.Expires.Format(time.RFC3339), now.Sub(k.Expires))
	}
	issued := k.Issued.UTC().Truncate(time.Second)
	if k.Issued.IsZero() || issued.After(now) {
		issued = now
	}
	return &credential.AWS{
		AccessKeyID:     k.ID.Value,
		SecretAccessKey: credential.NewSecret(k.Secret.Value),
		SessionToken:    credential.NewSecret(k.Token.Value),
		AccountID:       k.Account.Value,
		Issued:          issued,
		Expires:         k.Expires,
	}, nil
}

// CheckValue keeps out what could not be sent on in a header or a line.
func CheckValue(part Part, limit int) error {
	if len(part.Value) > limit {
		return fmt.Errorf("%s is longer than %d bytes", part.Name, limit)
	}
	if strings.ContainsFunc(part.Value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%s has characters that do not belong in it", part.Name)
	}
	return nil
}
