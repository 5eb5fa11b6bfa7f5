// Package credential holds the values that travel through Purser: what an
// upstream answered, what the store keeps and what a front end renders. It knows
// nothing of upstreams, callers or HTTP and imports nothing else of ours.
package credential

import (
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"
)

// What the store says of a credential that it cannot hand out. Front ends turn
// these few errors, and nothing else, into their cloud's words.
var (
	// ErrNotFound covers both what nobody has and what this caller may not have:
	// the two must not be told apart from outside.
	ErrNotFound = errors.New("no such credential")
	// ErrExpired is a credential whose last second has passed.
	ErrExpired = errors.New("credential has expired")
	// ErrUnavailable is a credential that is known but was never fetched.
	ErrUnavailable = errors.New("credential is not available yet")
	// ErrRefused is an unavailable credential which the upstream refuses to give
	// this host.
	ErrRefused = fmt.Errorf("%w: the upstream refuses it", ErrUnavailable)
)

// A Key names one credential in the store.
type Key struct {
	// Name is what a listing shows and a grant names; for AWS a role's name.
	Name string
	// Variant tells apart what one name yields for different audiences, scopes or
	// resources. It is empty for AWS keys.
	Variant string
}

// Keys are those of some names, without a variant; never nil.
func Keys(names []string) []Key {
	keys := make([]Key, 0, len(names))
	for _, name := range names {
		keys = append(keys, Key{Name: name})
	}
	return keys
}

// String is the form for logs and messages.
func (k Key) String() string {
	if k.Variant == "" {
		return k.Name
	}
	return k.Name + "#" + k.Variant
}

// A Credential is an immutable value with a life. Implementations are pointers
// and are shared between goroutines; nobody changes one after it was stored.
type Credential interface {
	// Lifetime reports when the upstream issued the credential and the first
	// moment at which it is no longer valid: the zero time if it has no end.
	Lifetime() (issued, expires time.Time)
}

// AWS is a set of AWS keys: temporary ones, or those of an IAM user, which have
// neither a session token nor an end.
type AWS struct {
	AccessKeyID     string
	SecretAccessKey Secret
	SessionToken    Secret
	AccountID       string // twelve digits, or empty where the upstream does not say
	RoleARN         string // empty where the upstream does not say
	Issued          time.Time
	Expires         time.Time
}

// Lifetime implements Credential.
func (c *AWS) Lifetime() (issued, expires time.Time) { return c.Issued, c.Expires }

// A Token is one text that proves something, such as a JWT.
type Token struct {
	Value   Secret
	Type    string // what to call it, such as Bearer or JWT
	Issued  time.Time
	Expires time.Time
}

// Lifetime implements Credential.
func (t *Token) Lifetime() (issued, expires time.Time) { return t.Issued, t.Expires }

// maxName bounds a name that comes from outside. IAM allows a role 64 characters;
// the rest is room for other clouds' account names.
const maxName = 256

// CheckName reports why a name from a configuration or an upstream cannot be used:
// it must survive as one line of a listing and as one segment of a path.
func CheckName(name string) error {
	if name == "" {
		return errors.New("the name is empty")
	}
	if len(name) > maxName {
		return fmt.Errorf("the name is %d bytes long, at most %d are allowed", len(name), maxName)
	}
	if name == "." || name == ".." {
		return fmt.Errorf("%q cannot be a segment of a path", name)
	}
	for _, r := range name {
		switch {
		case r == '/':
			return fmt.Errorf("the name %q contains a slash", name)
		case r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r):
			return fmt.Errorf("the name %q contains a character that is not printable", name)
		}
	}
	return nil
}
