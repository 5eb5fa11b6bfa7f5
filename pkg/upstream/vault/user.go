package vault

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// Keys of an IAM user that Vault creates. They end with their lease, and with the token;
// they are renewed as long as that can be, since each making leaves a user in AWS.

const (
	// afterUser is how long Vault is not asked again for keys of a role that creates
	// users, which are not wanted.
	afterUser = 15 * time.Minute
	// worthwhile is how much longer keys must live to be better than those there are.
	worthwhile = 5 * time.Second
	// stillThere is how often Vault is asked whether a user is still there that cannot
	// live longer at present.
	stillThere = 5 * time.Minute
)

// isUser reports whether keys are those of a new IAM user: they have neither a session
// token, by whatever name, nor a life of their own.
func isUser(data map[string]any) bool {
	return data["access_key"] != nil && data["security_token"] == nil && data["session_token"] == nil && data["ttl"] == nil
}

// boundByToken bounds the life of a user's keys, which go with the token.
func boundByToken(a *answer, life time.Duration) time.Duration {
	if !a.by.until.IsZero() {
		life = min(life, a.by.until.Sub(a.sent))
	}
	return life
}

// userLife is how long the lease of a user's keys lasts from when they were asked for.
func userLife(a *answer) time.Duration {
	life, ok := inSeconds(a.secret.LeaseDuration)
	if !ok {
		life = unknownLife
	}
	return life - a.age
}

// refuse gives back a user that nobody asked for.
func (r *awsRole) refuse(ctx context.Context, a *answer) error {
	_, name, _ := strings.Cut(r.path, "/")
	returned := "and was given back"
	if err := r.leases.revokeOne(ctx, a.secret.LeaseID); err != nil {
		returned = "and cannot be given back (a policy must allow update on sys/leases/revoke)"
	}
	return a.raw.Errorf(upstream.ClassRequest, "the role %q in Vault has the credential type iam_user: each question creates an IAM user, which is deleted when the token ends; this one was created %s. Choose a role of type assumed_role, or set allow_iam_user", name, returned)
}

// renew has the keys of a user live longer, if that can be. Without keys and an error
// they are to be made anew.
func (r *awsRole) renew(ctx context.Context, before given) (credential.Credential, error) {
	token := r.session.present()
	if token != nil && !before.token.is(token) {
		return nil, nil // they end with another token
	}
	pointless := token != nil && !token.until.IsZero() && token.until.Before(before.keys.Expires.Add(worthwhile)) // new ones would end with the token as well
	if pointless && time.Since(before.asked) < stillThere {
		return before.keys, nil
	}
	a, life, err := r.leases.renew(ctx, before.lease)
	if _, ok := errors.AsType[denied](err); ok { // so the lease ends when it was to end at first
		a, life, err = &answer{sent: time.Now(), by: r.session.present()}, time.Until(before.ends), nil
	}
	if fault, ok := errors.AsType[*upstream.Error](err); ok && fault.Status >= 400 && fault.Status < 500 && fault.Kind != upstream.ClassThrottled {
		return nil, nil // the lease is gone, or may not be renewed
	}
	if err != nil {
		return nil, err
	}
	if !before.token.is(a.by) {
		return nil, nil // as above, since a login came first
	}
	before.asked, before.instead = time.Now(), false
	ends := wall(a.sent.Add(boundByToken(a, life)))
	switch longer := ends.After(before.keys.Expires.Add(worthwhile)); {
	case longer:
		keys := *before.keys
		keys.Issued, keys.Expires = wall(a.sent), ends
		before.keys, before.life = &keys, max(before.life, ends.Sub(a.sent))
	case !pointless && life < before.life/2:
		return nil, nil // the lease has reached its limit
	}
	r.give(before)
	r.leases.keep(before.lease, lease{ends: before.keys.Expires, user: true})
	return before.keys, nil
}
