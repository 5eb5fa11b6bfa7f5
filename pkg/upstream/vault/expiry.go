package vault

import (
	"encoding/json"
	"time"
)

// Bounds of what is believed of a lifetime.
const (
	// longestSession is the most that AWS gives: 36 hours.
	longestSession = 36 * time.Hour
	// overRequest is what rounding may add to what was asked for.
	overRequest = time.Minute
	// unknownLife is what keys are given that come without a lifetime that could be
	// believed: the least that STS makes.
	unknownLife = 15 * time.Minute
)

// A lifespan is what an answer says of how long its keys live.
type lifespan struct {
	ttl   json.Number   // of the data; empty if it is not there
	lease json.Number   // of the envelope
	asked time.Duration // that was asked for; 0 if nothing was
	age   time.Duration // of the answer when it came
}

// left is how long keys live from the moment in which they were asked for. Neither of
// the two numbers can be trusted alone. Vault 1.13 says 0 for the lease; the lease of
// a batch token's keys ends with the token, which they outlive; a clock of Vault that
// is ahead makes the ttl a number of 20 digits and the lease 32 days; and neither has
// aged in a cache, or in a wrap. So the smaller of those that make sense counts, less
// the age. Known is false if none does: the result is then the least that it can be.
func (l lifespan) left() (left time.Duration, known bool) {
	most := longestSession
	if l.asked > 0 {
		most = min(most, l.asked+overRequest)
	}
	for _, n := range []json.Number{l.ttl, l.lease} {
		if d, ok := inSeconds(n); ok && d <= most && (!known || d < left) {
			left, known = d, true
		}
	}
	if !known {
		left = unknownLife
		if l.asked > 0 {
			left = min(left, l.asked)
		}
	}
	return left - l.age, known
}

// inSeconds reads a number of whole seconds of which there is one at least.
func inSeconds(n json.Number) (time.Duration, bool) {
	d, ok := seconds(n)
	d = d.Truncate(time.Second)
	return d, ok && d > 0
}

// numeral is a number of the data, also where it was written as a text.
func numeral(value any) json.Number {
	switch value := value.(type) {
	case json.Number:
		return value
	case string:
		return json.Number(value)
	}
	return ""
}
