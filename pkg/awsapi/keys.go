package awsapi

import (
	"fmt"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// ParseKeys makes a credential of what a service answers for a role, each value with its
// name there. It must have all of them, with nothing that could not be sent on in a header
// or a line. No error quotes one.
func ParseKeys(id, secret, token, end upstream.Part) (*credential.AWS, error) {
	for _, value := range []struct {
		upstream.Part
		limit int
	}{{id, upstream.MaxKey}, {secret, upstream.MaxKey}, {token, upstream.MaxToken}, {end, upstream.MaxKey}} {
		if value.Value == "" {
			return nil, fmt.Errorf("the answer has no %s", value.Name)
		}
		if err := upstream.CheckValue(value.Part, value.limit); err != nil {
			return nil, fmt.Errorf("the %w", err)
		}
	}
	expires, err := upstream.ParseTime(end.Value)
	if err != nil {
		return nil, fmt.Errorf("the %s %w", end.Name, err)
	}
	return &credential.AWS{
		AccessKeyID:     id.Value,
		SecretAccessKey: credential.NewSecret(secret.Value),
		SessionToken:    credential.NewSecret(token.Value),
		Expires:         expires,
	}, nil
}

// SessionOf completes what ParseKeys has found in an answer, as the session of a role that
// begins now. One that has ended is an error, which tells of a service's clock that is
// ahead of ours by skew.
func SessionOf(a *upstream.Answer, keys *credential.AWS, roleARN string, skew time.Duration) (*credential.AWS, error) {
	keys.Issued = time.Now().UTC().Truncate(time.Second)
	if !keys.Expires.After(keys.Issued) {
		return nil, a.Errorf(upstream.ClassExpired, "the session ended at %s, %v ago%s",
			keys.Expires.Format(time.RFC3339), keys.Issued.Sub(keys.Expires), Clocks(skew))
	}
	role, _ := ParseRole(roleARN)
	keys.AccountID, keys.RoleARN = role.Account, roleARN
	return keys, nil
}
