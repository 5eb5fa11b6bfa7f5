package frontend

import (
	"context"
	"errors"
	"strings"

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

// An ARN is what the front ends use of an Amazon resource name.
type ARN struct{ Partition, Service, Account, Resource string }

// ParseARN splits an ARN. It reports false unless the account has twelve digits, so
// neither AWS's own resources nor those of S3 pass.
func ParseARN(text string) (ARN, bool) {
	rest, found := strings.CutPrefix(text, "arn:")
	var arn ARN
	arn.Partition, rest, _ = strings.Cut(rest, ":")
	arn.Service, rest, _ = strings.Cut(rest, ":")
	_, rest, _ = strings.Cut(rest, ":") // the region
	arn.Account, arn.Resource, _ = strings.Cut(rest, ":")
	ok := found && arn.Partition != "" && arn.Service != "" && arn.Resource != "" && IsAccountID(arn.Account)
	return arn, ok
}

// IsAccountID reports whether text has the form of an AWS account ID.
func IsAccountID(text string) bool {
	return len(text) == 12 && strings.Trim(text, "0123456789") == ""
}

// AccountID returns the account that the keys belong to, as the upstream said it or
// as their role's ARN shows it; it is empty where neither is known.
func AccountID(keys *credential.AWS) string {
	if keys.AccountID != "" {
		return keys.AccountID
	}
	if arn, ok := ParseARN(keys.RoleARN); ok {
		return arn.Account
	}
	return ""
}
