package refresh

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
)

// expiredError is an answer that was of no use when it came.
type expiredError struct{ expired time.Time }

func (e expiredError) Error() string {
	return fmt.Sprintf("the upstream gave a credential that expired at %s; compare the clocks", e.expired.UTC().Format(time.RFC3339))
}

// Class counts it like the same finding by an upstream.
func (expiredError) Class() string { return "expired" }

// settle takes the outcome of a fetch.
func (l *Loop) settle(j *job, c credential.Credential, err error, now time.Time) {
	if holder := l.Claims.Claim(l.Upstream, j.key, j.declared); holder != l.Upstream {
		l.park(j, holder)
		return
	}
	if err != nil {
		l.failed(j, err, now)
		return
	}
	issued, expires := lifetime(c)
	verdict := judge(j.expires, expires, now)
	if verdict == nothingNew && l.supersedes(j.key) {
		verdict = take
	}
	switch verdict {
	case useless:
		l.failed(j, expiredError{expires}, now)
	case nothingNew:
		l.recovered(j)
		l.again(j, now)
	case take:
		first := j.fetched.IsZero()
		j.issued, j.expires, j.fetched = issued, expires, now
		j.due = l.due(j, now)
		if !l.Store.Put(j.key, c) { // announced when it was claimed
			l.Log.Error().Stringer("credential", j.key).Msg("bug: a credential of ours is not known to the store")
			l.Store.Announce(j.key)
			l.Store.Put(j.key, c)
		}
		l.recovered(j)
		l.warnShort(expires.Sub(issued))
		l.Log.Debug().Stringer("credential", j.key).Time("expires", shown(expires)).Msg("fetched")
		if first && !j.demanded && now.Before(j.due) {
			l.queue.plan(j, Second(now, j.due, j.draw))
			return
		}
		l.again(j, now)
	}
}

// supersedes reports whether what was fetched takes the place of what is in stock,
// also if it ends earlier.
func (l *Loop) supersedes(key credential.Key) bool {
	if _, replaces := l.Source.(Replacer); replaces {
		return true
	}
	s, ok := l.Source.(Superseder)
	return ok && s.Supersedes(key)
}

// due is when to replace what was fetched now.
func (l *Loop) due(j *job, now time.Time) time.Time {
	if j.expires != never {
		return l.Schedule.Due(j.issued, j.expires, now, j.draw, l.skew())
	}
	every := time.Hour
	if r, ok := l.Source.(Rereader); ok {
		every = cmp.Or(r.Reread(j.key), every)
	}
	return l.Schedule.Reread(now, every, j.draw)
}

// shown is an end as it is told: the zero time for none.
func shown(expires time.Time) time.Time {
	if expires == never {
		return time.Time{}
	}
	return expires
}

// again plans the next question after an answer that was no error: when the stock
// is due, or on the fast curve if it is due already.
func (l *Loop) again(j *job, now time.Time) {
	if now.Before(j.due) {
		j.barren = 0
		l.queue.plan(j, j.due)
		return
	}
	j.barren++
	j.waiting = true
	l.queue.plan(j, now.Add(fast.after(j.barren, rand.Float64(), 0)))
}

// failed keeps what is in stock and plans a retry.
func (l *Loop) failed(j *job, err error, now time.Time) {
	c := fast
	switch {
	case isPermanent(err):
		c = slow
		l.misses = 0
	case !isWaiting(err): // the upstream was not even asked
		l.misses++
	}
	if isRefused(err) && !j.list {
		l.Store.Refuse(j.key)
	}
	if isWaiting(err) != isWaiting(j.err) { // failures are counted apart from waits
		j.failures = 0
	}
	j.failures++
	j.err = err
	j.waiting = true
	l.failing[j] = struct{}{}
	wait := c.after(j.failures, rand.Float64(), retryAfter(err))
	if retryAfter(err) == 0 && !j.expires.IsZero() {
		wait = before(wait, j.expires.Sub(now))
	}
	l.pause(err, wait, now)
	next := now.Add(wait)
	if j.hurried {
		next = now
	}
	j.hurried = false
	l.queue.plan(j, next)
	if isWaiting(err) {
		l.about(l.Log.Debug(), j).Err(err).Msg("waiting for what this credential depends on")
		return
	}
	if j.failures == 1 || c.ceiling(j.failures) != c.ceiling(j.failures-1) {
		l.about(l.Log.Warn(), j).Err(err).Str("class", class(err)).Int("failures", j.failures).
			Stringer("retry_in", wait.Round(time.Millisecond)).Msg("refresh failed, keeping what we have")
	}
}

// pause keeps the whole upstream from being asked for a while: as long as it says
// itself, or after a row of failures on the fast curve.
func (l *Loop) pause(err error, wait time.Duration, now time.Time) {
	switch {
	case retryAfter(err) > 0:
		l.misses = max(l.misses, probing)
	case l.misses >= probing:
		wait = fast.after(l.misses-probing+1, rand.Float64(), 0)
	default:
		return
	}
	if until := now.Add(wait); until.After(l.paused) {
		l.paused = until
	}
}

// recovered ends a row of failures.
func (l *Loop) recovered(j *job) {
	l.misses = 0
	l.paused = time.Time{}
	j.hurried = false
	if j.failures > 0 && !isWaiting(j.err) {
		l.about(l.Log.Info(), j).Int("failures", j.failures).Msg("refresh works again")
	}
	j.failures, j.err, j.waiting, j.noted = 0, nil, false, ""
	delete(l.failing, j)
}

// about says in a log line what a job is about.
func (l *Loop) about(line *zerolog.Event, j *job) *zerolog.Event {
	if j.list {
		return line.Bool("list", true)
	}
	return line.Stringer("credential", j.key)
}

// noteStates logs once when a failing credential runs low and when it has run out.
func (l *Loop) noteStates(now time.Time) {
	for j := range l.failing {
		if j.list || isWaiting(j.err) && j.expires.IsZero() {
			continue
		}
		state := stateAt(now, j.expires, j.due, true)
		if state == j.noted {
			continue
		}
		switch state {
		case None:
			l.about(l.Log.Warn(), j).Err(j.err).Msg("credential was never fetched, callers get an error")
		case Expiring:
			l.about(l.Log.Warn(), j).Err(j.err).Time("expires", j.expires).Msg("credential runs low and cannot be refreshed")
		case Expired:
			l.about(l.Log.Error(), j).Err(j.err).Time("expires", j.expires).Msg("credential has expired, callers get an error")
		default:
			continue
		}
		j.noted = state
	}
}

// warnShort says once that lifetimes are too short for the 15 minutes that SDKs
// want to be left alone.
func (l *Loop) warnShort(lifetime time.Duration) {
	if l.short || lifetime > 2*Enough || Margin(lifetime, 0, 0) >= Enough {
		return
	}
	l.short = true
	l.Log.Warn().Stringer("lifetime", lifetime.Round(time.Second)).Stringer("least_left", Margin(lifetime, 0, 0).Round(time.Second)).
		Msg("the upstream's lifetimes are too short to keep 15 minutes in stock; some SDKs will ask at every call")
}

func (l *Loop) skew() time.Duration {
	if s, ok := l.Source.(Skewer); ok {
		return s.Skew()
	}
	return 0
}

// settleList takes the outcome of a list. An empty one changes nothing but is
// reported: an upstream may list nothing because it cannot at the moment.
func (l *Loop) settleList(j *job, keys []credential.Key, err error, now time.Time) {
	if err != nil {
		l.failed(j, err, now)
		return
	}
	l.recovered(j)
	first := j.fetched.IsZero()
	j.fetched = now
	if len(keys) == 0 {
		if j.barren == 0 {
			l.Log.Warn().Int("credentials", len(l.jobs)).Msg("the upstream lists nothing for this host, keeping what we have")
		}
		j.barren++
		j.waiting = true
		l.queue.plan(j, now.Add(slow.after(j.barren, rand.Float64(), 0)))
		return
	}
	j.barren = 0
	l.adopt(keys, false, now)
	next := now.Add(l.ListEvery - time.Duration(0.1*j.draw.Spread*float64(l.ListEvery)))
	if first {
		next = Second(now, next, j.draw)
	}
	l.queue.plan(j, next)
}

// adopt makes keys the ones that the upstream grants: new ones are claimed and
// planned for now, those that are missing are withdrawn.
func (l *Loop) adopt(keys []credential.Key, declared bool, now time.Time) {
	first := !l.known
	l.known = true
	granted := make(map[credential.Key]struct{}, len(keys))
	var fresh []credential.Key
	for _, key := range keys {
		granted[key] = struct{}{}
		delete(l.withdrawn, key)
		j, known := l.jobs[key]
		ours := known && l.Claims.Holder(key) == l.Upstream
		if !known {
			j = &job{key: key, declared: declared, draw: NewDraw(l.Host, l.Upstream, key.String()), place: -1}
			l.jobs[key] = j
		}
		if j.demanded { // from now on it is one like the others
			j.demanded = false
			l.demanded--
			fresh = append(fresh, key)
		}
		if ours {
			continue
		}
		j.clear() // whoever took the name from us took the stock with it
		j.required = j.required || (first && l.Required)
		if holder := l.Claims.Claim(l.Upstream, key, declared); holder != l.Upstream {
			l.park(j, holder)
			continue
		}
		j.holder = ""
		fresh = append(fresh, key)
		l.queue.plan(j, now)
	}
	l.Store.Announce(fresh...)
	l.withdraw(granted, now)
}

// park stops asking for a key that belongs to another upstream. The next list
// tries to claim it again.
func (l *Loop) park(j *job, holder string) {
	if j.holder != holder {
		l.Log.Error().Stringer("credential", j.key).Str("holder", holder).
			Msg("another upstream already gives a credential of this name; rename one of them")
	}
	if j.demanded {
		l.forget(j)
		return
	}
	l.recovered(j)
	j.holder = holder
	j.clear()
	l.queue.drop(j)
}

// What is remembered of withdrawn keys, for the status: so many, for so long.
const (
	maxWithdrawn  = 1000
	withdrawnTime = 24 * time.Hour
)

// withdraw forgets the keys that the upstream no longer grants; their callers see
// them go with their next request.
func (l *Loop) withdraw(granted map[credential.Key]struct{}, now time.Time) {
	maps.DeleteFunc(l.withdrawn, func(_ credential.Key, since time.Time) bool { return now.Sub(since) > withdrawnTime })
	var gone []*job
	for key, j := range l.jobs {
		if _, ok := granted[key]; ok || j.demanded {
			continue
		}
		l.Log.Info().Stringer("credential", key).Msg("the upstream no longer grants this credential")
		gone = append(gone, j)
		if len(l.withdrawn) < maxWithdrawn {
			l.withdrawn[key] = now
		}
	}
	l.forget(gone...)
}

// forget removes keys as if they had never been there, all at once: the store makes
// a new index each time.
func (l *Loop) forget(jobs ...*job) {
	keys := make([]credential.Key, 0, len(jobs))
	for _, j := range jobs {
		l.queue.drop(j)
		delete(l.jobs, j.key)
		delete(l.failing, j)
		delete(l.urged, j)
		j.finish()
		if j.demanded {
			l.demanded--
		}
		keys = append(keys, j.key)
	}
	if len(keys) > 0 {
		l.Claims.Release(l.Upstream, keys, l.Store.Remove)
	}
}
