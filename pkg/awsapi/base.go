package awsapi

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/purser-agent/purser/pkg/credential"
)

// A Base is the stored credential that roles are assumed with. Its methods do not
// wait, and are safe for concurrent use.
type Base interface {
	// Get returns it as it is in stock. The key may be known without it. An error is
	// one of package credential's, or says itself what is wrong with the base.
	Get() (credential.Key, credential.Credential, error)
	// Renew asks for a new one: AWS says that this one has ended.
	Renew()
}

// A Follower reads a base of the type C, and notices that there is another one than an
// attempt failed with. It is safe for concurrent use.
type Follower[C credential.Credential] struct {
	Base Base
	// Unnamed is what the base is called while its name is not known, Wanted what it
	// has to be.
	Unnamed, Wanted string

	// failed is what the latest failure was with, a nil credential if there was none.
	failed atomic.Pointer[credential.Credential]
}

// Read takes the base from the stock, with what to call it in a message.
func (f *Follower[C]) Read() (what string, c C, err error) {
	key, found, err := f.Base.Get()
	what = f.Unnamed
	if key.Name != "" {
		what = fmt.Sprintf("the base %q", key)
	}
	if err != nil {
		return what, c, missing(what, err)
	}
	c, ok := found.(C)
	if !ok {
		return what, c, &BaseError{Text: what + " is not " + f.Wanted}
	}
	return what, c, nil
}

// Failed notes what an attempt failed with; nil for no base at all.
func (f *Follower[C]) Failed(with credential.Credential) { f.failed.Store(&with) }

// Changed reports, once, that the base in stock is another than the one with which
// the latest attempt failed.
func (f *Follower[C]) Changed() bool {
	var now credential.Credential
	if _, c, err := f.Read(); err == nil {
		now = c
	}
	before := f.failed.Swap(&now)
	return now != nil && (before == nil || now != *before)
}

// A BaseError says that there is nothing to assume a role with.
type BaseError struct {
	Text  string
	Cause error // one of package credential's, or what the base itself says
}

// Error implements error.
func (e *BaseError) Error() string { return e.Text }

// Unwrap returns the cause.
func (e *BaseError) Unwrap() error { return e.Cause }

// Class is how metrics count it.
func (*BaseError) Class() string { return "base" }

// Waiting reports whether the base is still to come, so that its own upstream is what
// there is to look at.
func (e *BaseError) Waiting() bool {
	return errors.Is(e.Cause, credential.ErrUnavailable) && !errors.Is(e.Cause, credential.ErrRefused)
}

// missing says why a base cannot be had.
func missing(which string, cause error) *BaseError {
	switch {
	case errors.Is(cause, credential.ErrRefused):
		return &BaseError{which + " is refused by its upstream", cause}
	case errors.Is(cause, credential.ErrUnavailable):
		return &BaseError{which + " is not in stock yet", cause}
	case errors.Is(cause, credential.ErrExpired):
		return &BaseError{which + " has ended, and its upstream gives no new one", cause}
	case errors.Is(cause, credential.ErrNotFound):
		return &BaseError{which + " is not among what the upstreams give", cause}
	}
	return &BaseError{cause.Error(), cause}
}
