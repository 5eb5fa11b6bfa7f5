package frontend

import (
	"context"
	"errors"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// AWS returns the AWS keys of that name from a view, or one of the errors of
// pkg/credential. A name that stands for another cloud's token is ErrNotFound.
func AWS(ctx context.Context, view View, name string) (*credential.AWS, error) {
	found, err := view.Get(ctx, credential.Key{Name: name})
	if err != nil {
		return nil, err
	}
	keys, ok := found.(*credential.AWS)
	if !ok {
		return nil, credential.ErrNotFound
	}
	return keys, nil
}

// endlessFor is how long a client may use keys without an end before it asks again.
const endlessFor = time.Hour

// Expiration is what a client is told of the end of keys. For keys without one, which
// the forms of AWS do not have, it is when to ask again: whoever replaced the keys
// meanwhile then reaches the client.
func Expiration(keys *credential.AWS) time.Time {
	if keys.Expires.IsZero() {
		return time.Now().Add(endlessFor)
	}
	return keys.Expires
}

// Explain turns an error of a View into a decision and the reason for the log.
func Explain(err error) (Decision, string) {
	switch {
	case errors.Is(err, credential.ErrNotFound):
		return NotFound, "no such credential, or not for this caller"
	case errors.Is(err, credential.ErrExpired):
		return Unavailable, "the credential has expired"
	case errors.Is(err, credential.ErrRefused):
		return Unavailable, "the upstream refuses it"
	case errors.Is(err, credential.ErrUnavailable):
		return Unavailable, "never fetched"
	default:
		return Unavailable, "could not be had in time"
	}
}

// AccountID returns the account that the keys belong to, as the upstream said it or
// as their role's ARN shows it; it is empty where neither is known.
func AccountID(keys *credential.AWS) string {
	if keys.AccountID != "" {
		return keys.AccountID
	}
	if arn, ok := credential.ParseARN(keys.RoleARN); ok {
		return arn.Account
	}
	return ""
}
