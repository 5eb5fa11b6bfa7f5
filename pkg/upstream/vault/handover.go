package vault

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// A carriedSession is what the next process needs to go on where this one stopped: a
// login may not be possible again, as with a secret ID for one use, and the keys of a
// user are to be renewed and not made again. It is secret.
type carriedSession struct {
	Token *carriedToken          `json:"token,omitempty"`
	Users map[string]carriedUser `json:"users,omitempty"` // by the name of the role
}

// A carriedToken is a token of a login of ours, or what is known of one that was given.
type carriedToken struct {
	Value string `json:"value,omitempty"`
	// Digest is in the place of a given value: the configuration gives that again.
	Digest    string        `json:"digest,omitempty"`
	From      time.Time     `json:"from"`
	Until     time.Time     `json:"until,omitzero"`
	First     time.Duration `json:"first"`
	Namespace string        `json:"namespace,omitempty"`
	Renewable bool          `json:"renewable"`
	Renewed   bool          `json:"renewed"`
	Revocable bool          `json:"revocable"`
	Blind     bool          `json:"blind,omitempty"`
}

// A carriedUser are the keys of a user, with the lease and the token that they end with.
type carriedUser struct {
	Lease           string        `json:"lease"`
	Token           string        `json:"token"`
	AccessKeyID     string        `json:"access_key_id"`
	SecretAccessKey string        `json:"secret_access_key"`
	Issued          time.Time     `json:"issued"`
	Expires         time.Time     `json:"expires"`
	Life            time.Duration `json:"life"`
	Ends            time.Time     `json:"ends"`
}

// Keeps reports whether anything may outlive the process: not what is to be revoked at
// its end.
func (s *Source) Keeps() bool { return !s.options.RevokeOnStop }

// HandOver says whether the session will be left to a next process: then the token is not
// given back when Run ends. At first it is not.
func (s *Source) HandOver(will bool) { s.handed.Store(will) }

// Session is what Resume needs in the next process, nil if there is nothing.
func (s *Source) Session() []byte {
	if !s.Keeps() {
		return nil
	}
	t := s.server.present()
	if t == nil || t.ended(time.Now()) {
		return nil
	}
	carried := carriedSession{Token: t.carried(), Users: map[string]carriedUser{}}
	for key, e := range s.engines {
		r, ok := e.(*awsRole)
		if !ok {
			continue
		}
		if user := r.given(); user.lease != "" && user.token.is(t) {
			carried.Users[key.Name] = carriedUser{
				Lease: user.lease, Token: t.value.Reveal(), Life: user.life, Ends: user.ends,
				AccessKeyID: user.keys.AccessKeyID, SecretAccessKey: user.keys.SecretAccessKey.Reveal(),
				Issued: user.keys.Issued, Expires: user.keys.Expires,
			}
		}
	}
	session, err := json.Marshal(carried)
	if err != nil {
		return nil // a year of five digits, which no token ends in
	}
	return session
}

// Resume goes on with what Session gave in the process before. What has ended meanwhile,
// or cannot be read, is left. It is called before Run and Fetch.
func (s *Source) Resume(session []byte) {
	var carried carriedSession
	if json.Unmarshal(session, &carried) != nil {
		return
	}
	now := time.Now()
	if t := carried.Token.token(s.options.Auth.Token); t != nil && !t.ended(now) {
		s.server.resume(t)
	}
	for name, user := range carried.Users {
		r, ok := s.engines[credential.Key{Name: name}].(*awsRole)
		if ok && user.Lease != "" && now.Before(user.Expires) {
			r.give(user.given(r.options.RoleARN))
			s.leases.keep(user.Lease, lease{ends: user.Expires, user: true})
		}
	}
}

// carried is the token for the next process.
func (t *token) carried() *carriedToken {
	c := &carriedToken{
		From: t.from, Until: t.until, First: t.first, Namespace: t.namespace,
		Renewable: t.renewable, Renewed: t.renewed, Revocable: t.revocable, Blind: t.blind,
	}
	if t.given {
		c.Digest = digest(t.value)
	} else {
		c.Value = t.value.Reveal()
	}
	return c
}

// token is the session's, nil if there is none that could be sent. One that was given must
// be the one that the configuration gives now.
func (c *carriedToken) token(configured credential.SecretRef) *token {
	if c == nil {
		return nil
	}
	value := credential.NewSecret(c.Value)
	if c.Digest != "" {
		var err error
		if value, err = configured.Read(); err != nil || digest(value) != c.Digest {
			return nil
		}
	}
	if checkToken(value) != nil {
		return nil
	}
	return &token{
		value: value, from: c.From, until: c.Until, first: c.First, spread: 2*rand.Float64() - 1, namespace: c.Namespace,
		renewable: c.Renewable, renewed: c.Renewed, revocable: c.Revocable, given: c.Digest != "", blind: c.Blind,
	}
}

func digest(value credential.Secret) string {
	sum := sha256.Sum256([]byte(value.Reveal()))
	return hex.EncodeToString(sum[:])
}

// given is what the role gave.
func (c carriedUser) given(roleARN string) given {
	return given{
		keys: &credential.AWS{
			AccessKeyID: c.AccessKeyID, SecretAccessKey: credential.NewSecret(c.SecretAccessKey),
			RoleARN: roleARN, Issued: c.Issued, Expires: c.Expires,
		},
		lease: c.Lease, life: c.Life, ends: c.Ends, token: &token{value: credential.NewSecret(c.Token)},
	}
}

// resume goes on with a token of the process before.
func (s *session) resume(t *token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = t
	s.poke()
	s.log.Info().Str("until", t.end()).Msg("the login of the process before goes on")
}
