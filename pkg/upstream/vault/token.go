package vault

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// A token is what a login gave. It is immutable; a renewal makes another one.
type token struct {
	value credential.Secret
	from  time.Time // when its present life was asked for
	until time.Time // zero if it has no end, or none that is known
	// first is how long it was to live after the login.
	first     time.Duration
	renewable bool
	renewed   bool
	revocable bool // by a login of ours, and not of a kind that nobody can revoke
	given     bool // by somebody who has to replace it, too
	blind     bool // may not look itself up
	namespace string
	// index is how far a server must have got to know the token; where it has one.
	index  credential.Secret
	spread float64 // from -1 to 1, drawn once per login
}

// is reports whether two are the same token for Vault, of which one may be renewed.
func (t *token) is(other *token) bool {
	return other != nil && t.value.Reveal() == other.value.Reveal()
}

// A step is what a token needs next.
type step int

const (
	stay step = iota
	renew
	login
)

// The shares of a token's life, and what is left to it if it did not grow.
const (
	renewShare  = 2.0 / 3
	renewSpread = 0.1
	loginShare  = 0.8
	// little is the least by which a renewal must lengthen the life, and dwindled the
	// share of its first life that a renewed token must have.
	little   = 5 * time.Second
	dwindled = 0.2
)

// next says what the token needs, and when.
func (t *token) next() (step, time.Time) {
	life := float64(t.until.Sub(t.from))
	switch {
	case t.until.IsZero(), t.given && !t.renewable:
		return stay, time.Time{}
	case t.renewable:
		return renew, t.from.Add(time.Duration(life * renewShare * (1 + renewSpread*t.spread)))
	}
	return login, t.from.Add(time.Duration(life * loginShare))
}

// ended reports whether the token is past its end, by the clock on the wall as well:
// the other one stands still while the host sleeps.
func (t *token) ended(now time.Time) bool {
	return !t.until.IsZero() && (!now.Before(t.until) || !now.Round(0).Before(t.until.Round(0)))
}

// end is its end for a message.
func (t *token) end() string {
	if t.until.IsZero() {
		return "no end is known"
	}
	return clock(t.until, time.Now())
}

// after is the token after a renewal that was asked for at a time and gave it so long
// to live. One that grows no more, as its greatest age is near, is renewed no more.
func (t *token) after(asked time.Time, ttl time.Duration, renewable bool) *token {
	grown := *t
	grown.from, grown.until, grown.renewed = asked, asked.Add(ttl), true
	grown.renewable = renewable && grows(t.until.Sub(asked), ttl, t.first)
	if ttl == 0 {
		grown.until = time.Time{}
	}
	return &grown
}

// grows reports whether a renewal was worth it.
func grows(left, granted, first time.Duration) bool {
	return granted > left+little && granted >= time.Duration(dwindled*float64(first))
}

// settled is the token as one that was found at a time not to be renewable.
func (t *token) settled(at time.Time) *token {
	same := *t
	same.from, same.renewable = at, false
	return &same
}

// maxLife bounds the life of a token that is believed.
const maxLife = 100 * 365 * 24 * time.Hour

// seconds reads a number of seconds, whichever way it is written. It reports false for
// what is none.
func seconds(n json.Number) (time.Duration, bool) {
	value, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || !(value >= 0) {
		return 0, false
	}
	return time.Duration(min(value, maxLife.Seconds()) * float64(time.Second)), true
}
