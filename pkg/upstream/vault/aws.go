package vault

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
)

// An awsRole makes keys below sts/ or creds/ of an AWS engine. What it gave last is at
// hand, since the keys of a user are renewed rather than made again.
type awsRole struct {
	options     Role
	mount       string
	path        string // below the mount
	sessionName string
	session     keeper
	leases      *leases
	unknown     *atomic.Int64
	log         zerolog.Logger

	mu   sync.Mutex // guards last
	last given
}

// A keeper is an asker that shows its token.
type keeper interface {
	asker
	// present is the token of now, nil if there is none.
	present() *token
}

// given is what an awsRole gave.
type given struct {
	keys    *credential.AWS
	asked   time.Time     // when Vault was
	lease   string        // of a user's keys only
	life    time.Duration // the longest of that lease
	ends    time.Time     // when the lease does, unless it is renewed
	token   *token        // with which it was made
	instead bool          // of a user's keys that could be renewed no more
	refused error         // what was wrong with what Vault made instead
}

func (r *awsRole) reread() time.Duration { return 0 }

// Bounds of asking.
const (
	// soonest is the least time between two questions for keys that live so short that
	// the schedule would ask more often.
	soonest = 15 * time.Second
)

func (r *awsRole) fetch(ctx context.Context) (credential.Credential, error) {
	before := r.given()
	now := time.Now()
	if before.refused != nil && now.Sub(before.asked) < afterUser {
		return nil, before.refused
	}
	if keys := before.keys; keys != nil && now.Before(keys.Expires) {
		if keys.Expires.Sub(keys.Issued) < 3*soonest && now.Sub(before.asked) < soonest {
			return keys, nil
		}
		if before.lease != "" {
			if keys, err := r.renew(ctx, before); keys != nil || err != nil {
				return keys, err
			}
		}
	}
	return r.create(ctx)
}

func (r *awsRole) given() given {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func (r *awsRole) give(now given) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = now
}

// hurry has Vault asked the next time, whatever was known without it.
func (r *awsRole) hurry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last.asked = time.Time{}
}

// create has Vault make keys.
func (r *awsRole) create(ctx context.Context) (credential.Credential, error) {
	a, err := r.session.ask(ctx, r.request(r.options.RoleARN))
	if isCause(err, needsRoleARN) && r.options.RoleARN == "" {
		var arn string
		if arn, err = r.findARN(ctx, err); err == nil {
			a, err = r.session.ask(ctx, r.request(arn))
		}
	}
	if err != nil {
		return nil, err
	}
	now, err := r.read(ctx, a)
	if err != nil {
		return nil, err
	}
	now.instead = r.given().lease != ""
	r.give(now)
	if now.refused != nil {
		return nil, now.refused
	}
	r.leases.keep(a.secret.LeaseID, lease{ends: now.keys.Expires, user: now.lease != ""})
	return now.keys, nil
}

func (r *awsRole) request(arn string) request {
	asked := map[string]string{"role_session_name": r.sessionName}
	if arn != "" {
		asked["role_arn"] = arn
	}
	if r.options.TTL > 0 {
		asked["ttl"] = strconv.Itoa(int(r.options.TTL/time.Second)) + "s"
	}
	out := request{method: r.options.Method, path: r.mount + "/" + r.path}
	if r.options.Method == "POST" {
		out.body = map[string]any{}
		for name, value := range asked {
			out.body[name] = value
		}
		return out
	}
	out.query = url.Values{}
	for name, value := range asked {
		out.query.Set(name, value)
	}
	return out
}

// findARN looks up which role of AWS the role in Vault may assume, as Attaché did.
func (r *awsRole) findARN(ctx context.Context, needed error) (string, error) {
	_, name, _ := strings.Cut(r.path, "/")
	a, err := r.session.ask(ctx, request{path: r.mount + "/roles/" + name})
	if err != nil {
		return "", instead(needed, "the role %q in Vault may assume several roles; say which by role_arn", name)
	}
	var arns []string
	list, _ := a.secret.Data["role_arns"].([]any)
	for _, one := range list {
		if text, ok := one.(string); ok {
			if _, ok := awsapi.ParseRole(text); ok {
				arns = append(arns, text)
			}
		}
	}
	switch {
	case len(arns) == 1:
		return arns[0], nil
	case len(arns) == 0:
		return "", instead(needed, "the role %q in Vault may assume no role; say which by role_arn", name)
	}
	slices.Sort(arns)
	more := ""
	if n := len(arns) - mostNamed; n > 0 {
		arns, more = arns[:mostNamed], fmt.Sprintf(" and %d more", n)
	}
	return "", instead(needed, "the role %q in Vault may assume several roles; set role_arn to one of %s%s", name, strings.Join(arns, ", "), more)
}

// mostNamed bounds how many ARNs one message has.
const mostNamed = 5

// read takes keys from an answer.
func (r *awsRole) read(ctx context.Context, a *answer) (given, error) {
	data := a.secret.Data
	field := "session_token"
	if data[field] == nil && data["security_token"] != nil { // its name in older servers
		field = "security_token"
	}
	out := given{asked: time.Now(), token: a.by}
	if isUser(data) {
		if !r.options.AllowIAMUser {
			out.refused = r.refuse(ctx, a)
			return out, nil
		}
		field, out.lease = "", a.secret.LeaseID
	}
	keys, err := keysIn(a, data, "access_key", "secret_key", field)
	if err != nil {
		return given{}, err
	}
	if arn, ok := data["arn"].(string); ok {
		parsed, _ := credential.ParseARN(arn)
		keys.AccountID = parsed.Account
	}
	keys.RoleARN = r.options.RoleARN
	var left time.Duration
	if out.lease != "" {
		life := userLife(a)
		left, out.ends = boundByToken(a, life), wall(a.sent.Add(life))
	} else {
		left = r.left(a)
	}
	expires := a.sent.Add(left)
	if err := a.checkEnd(expires); err != nil {
		return given{}, err
	}
	keys.Issued, keys.Expires = wall(a.sent.Add(-a.age)), wall(expires)
	out.keys, out.life = keys, expires.Sub(a.sent)
	return out, nil
}

// left is how long keys live from the moment in which they were asked for.
func (r *awsRole) left(a *answer) time.Duration {
	left, known := lifespan{ttl: numeral(a.secret.Data["ttl"]), lease: a.secret.LeaseDuration, asked: r.options.TTL, age: a.age}.left()
	if !known {
		r.log.Warn().Int("so_far", int(r.unknown.Add(1))).Stringer("taken_for", left).Str("path", r.mount+"/"+r.path).
			Msg("Vault does not say how long these keys live, or says what cannot be; taking the least")
	}
	return left
}
