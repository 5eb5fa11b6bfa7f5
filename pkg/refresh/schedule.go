package refresh

import (
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// Enough is the life below which some SDKs ask again at every call.
const Enough = 15 * time.Minute

// comfortable is the life with which none of them asks again.
const comfortable = 25 * time.Minute

// A Schedule says when to ask again. It has no state and draws no random numbers.
type Schedule struct {
	// Longest is the most time between two fetches of a credential, 0 for no limit.
	Longest time.Duration
}

// A Draw is the luck of one credential, drawn once. Both numbers are in [0,1).
type Draw struct {
	Phase  float64 // which part of the first interval passes before the second fetch
	Spread float64 // how much earlier than necessary it is always fetched
}

// NewDraw derives a draw from the host and the credential, plus a little
// randomness: the same host keeps its place in the fleet over a restart, and hosts
// with the same identity (a cloned image) still part.
func NewDraw(host, upstream, name string) Draw {
	return Draw{
		Phase:  wrap(unit(host, upstream, name, "phase") + rand.Float64()/50),
		Spread: unit(host, upstream, name, "spread"),
	}
}

// unit hashes words to a number in [0,1).
func unit(words ...string) float64 {
	h := fnv.New64a()
	for _, word := range words {
		_, _ = h.Write([]byte(word))
		_, _ = h.Write([]byte{0})
	}
	return float64(mix(h.Sum64())>>11) / (1 << 53)
}

// mix is the finaliser of SplitMix64: FNV alone leaves the upper bits of words
// that differ in their last character almost equal.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func wrap(x float64) float64 {
	if x >= 1 {
		return x - 1
	}
	return x
}

// Margin is the life that remains of a credential of lifetime l when it becomes
// due: half of it, at least 25 minutes, at most two thirds; then up to 10 % more
// by spread, and the clock skew against the upstream.
func Margin(l time.Duration, spread float64, skew time.Duration) time.Duration {
	margin := min(max(l/2, comfortable), 2*l/3)
	margin += time.Duration(0.1 * spread * float64(margin))
	return min(margin+skew.Abs(), l*9/10)
}

// Due is the moment from which a credential should be replaced. It may lie before
// fetched, if the upstream gave away most of the lifetime already.
func (s Schedule) Due(issued, expires, fetched time.Time, d Draw, skew time.Duration) time.Time {
	due := expires.Add(-Margin(expires.Sub(issued), d.Spread, skew))
	if s.Longest > 0 {
		if latest := fetched.Add(s.Longest - time.Duration(0.1*d.Spread*float64(s.Longest))); latest.Before(due) {
			return latest
		}
	}
	return due
}

// Second is when to fetch for the second time what was first fetched at fetched
// and is due at due: anywhere in between, so that hosts that started together part.
func Second(fetched, due time.Time, d Draw) time.Time {
	return fetched.Add(time.Duration(d.Phase * float64(max(0, due.Sub(fetched)))))
}

// A curve is a way to wait longer from failure to failure.
type curve struct{ first, most time.Duration }

// Two curves: what may heal by itself, and what someone must fix.
var (
	fast = curve{time.Second, time.Minute}
	slow = curve{time.Second, 5 * time.Minute}
)

// ceiling is the longest wait after the nth failure in a row, n counting from 1.
func (c curve) ceiling(n int) time.Duration {
	wait := c.first
	for range min(n, 64) - 1 {
		if wait >= c.most {
			break
		}
		wait *= 2
	}
	return min(wait, c.most)
}

// soonest keeps full jitter from asking again at once.
const soonest = 250 * time.Millisecond

// after is the wait after the nth failure in a row: full jitter below the curve.
// A Retry-After wins, with a little on top so that those who were told the same
// do not come back together.
func (c curve) after(n int, luck float64, retryAfter time.Duration) time.Duration {
	if retryAfter > 0 {
		return retryAfter + time.Duration(luck*float64(retryAfter)/10)
	}
	return max(soonest, time.Duration(luck*float64(c.ceiling(n))))
}

// atLeast is how often a credential is asked for that is about to end.
const atLeast = 5 * time.Second

// before bounds a wait by what is left of a credential: half of it, so that the closer its
// end the more often it is asked for, and an upstream that comes back late is noticed. It
// costs an attempt for each halving. After the end there is no hurry any more.
func before(wait, left time.Duration) time.Duration {
	if left <= 0 {
		return wait
	}
	return min(wait, max(left/2, atLeast))
}

// Reread is when to ask again for a credential without an end that may go for so long
// without: as for others, up to a tenth earlier.
func (s Schedule) Reread(fetched time.Time, every time.Duration, d Draw) time.Time {
	if s.Longest > 0 {
		every = min(every, s.Longest)
	}
	return fetched.Add(every - time.Duration(0.1*d.Spread*float64(every)))
}

// never is the end, in this package, of a credential that has none.
var never = time.Unix(1<<40, 0)

// lifetime is a credential's, with never for no end.
func lifetime(c credential.Credential) (issued, expires time.Time) {
	issued, expires = c.Lifetime()
	if expires.IsZero() {
		expires = never
	}
	return issued, expires
}

// A verdict is what to do with an answer.
type verdict int

const (
	take       verdict = iota // better than what is in stock
	nothingNew                // ends no later than what is in stock
	useless                   // has expired already
)

// judge compares the end of an answer with the end of what is in stock, the zero
// time if nothing is. A credential that ends earlier never replaces a valid one, but
// for one without an end: there is no other way to learn that it was replaced.
func judge(stock, answer, now time.Time) verdict {
	switch {
	case !now.Before(answer):
		return useless
	case now.Before(stock) && !answer.After(stock) && stock != never:
		return nothingNew
	default:
		return take
	}
}

// A State is what an operator wants to know of a credential.
type State string

// The states, as the design's table has them.
const (
	None      State = "none"      // never fetched
	Fresh     State = "fresh"     // not yet due
	Due       State = "due"       // being refreshed, or waiting to retry with 15 minutes left or more
	Expiring  State = "expiring"  // refresh failing and less than 15 minutes left
	Expired   State = "expired"   // past its end
	Withdrawn State = "withdrawn" // no longer granted
)

// stateAt is the state of a credential that is in stock until expires (zero: never
// was) and due at due.
func stateAt(now, expires, due time.Time, failing bool) State {
	switch {
	case expires.IsZero():
		return None
	case !now.Before(expires):
		return Expired
	case now.Before(due):
		return Fresh
	case failing && expires.Sub(now) < Enough:
		return Expiring
	default:
		return Due
	}
}
