package refresh

import (
	"cmp"
	"context"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// Allows reports whether the upstream may be asked for a key that nobody
// configured ahead.
func (l *Loop) Allows(key credential.Key) bool {
	a, ok := l.Source.(Allower)
	return ok && a.Allows(key)
}

// An Asker is who first wanted a key on demand, as far as it is known.
type Asker struct{ User, Unit string }

// Want fetches a key on demand: the first caller starts the fetch, all who come
// meanwhile join it, and from then on the key is kept in stock like the others
// until nobody asked for it for Options.Idle. Want returns when the fetch has
// ended or ctx has; the store then says what came of it. A key whose last fetch
// failed is not asked for again before its retry is due.
func (l *Loop) Want(ctx context.Context, key credential.Key, by Asker) error {
	for {
		settled, first, err := l.want(key, by)
		if err != nil || settled == nil {
			return err
		}
		select {
		case <-settled:
			if !first {
				return nil
			}
		case <-ctx.Done():
			return credential.ErrUnavailable
		}
	}
}

// want returns when the fetch of a key has ended or, with first, that of another which
// may leave room for it; nil if there is nothing to wait for.
func (l *Loop) want(key credential.Key, by Asker) (settled <-chan struct{}, first bool, err error) {
	if !l.Allows(key) {
		return nil, false, credential.ErrNotFound
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now().Round(0)
	j, ok := l.jobs[key]
	switch {
	case l.stopped:
		return nil, false, credential.ErrUnavailable
	case ok && (j.valid(now) || j.holder != ""):
		return nil, false, nil
	case ok && j.failures > 0 && !j.asking && now.Before(j.next):
		return nil, false, credential.ErrUnavailable
	case ok:
		return j.attempted(), false, nil
	case l.demanded >= maxDemanded:
		l.refuse(key, maxDemanded, "too many credentials on demand, refusing another")
		return nil, false, credential.ErrUnavailable
	case !l.room(by):
		if j := l.untried(); j != nil {
			return j.attempted(), true, nil
		}
		l.refuse(key, maxVain, "too many credentials on demand that the upstream does not give, asking for no other")
		return nil, false, credential.ErrUnavailable
	}
	if j = l.demand(key, now); j == nil {
		return nil, false, credential.ErrUnavailable
	}
	j.asker = by
	l.nudge()
	return j.attempted(), false, nil
}

// demand makes key one on demand that is to be asked for now; nil if another upstream
// has it. The caller holds mu.
func (l *Loop) demand(key credential.Key, now time.Time) *job {
	if holder := l.Claims.Claim(l.Upstream, key, false); holder != l.Upstream {
		return nil
	}
	j := &job{key: key, demanded: true, draw: NewDraw(l.Host, l.Upstream, key.String()), place: -1}
	l.jobs[key] = j
	l.vain[j] = struct{}{}
	l.demanded++
	l.Store.AnnounceUnlisted(key)
	l.queue.plan(j, now)
	return j
}

// refuse logs that a key is one too many. Clients could fill the log with it, so it
// says so once a minute.
func (l *Loop) refuse(key credential.Key, most int, why string) {
	if now := time.Now(); now.Sub(l.refused) >= time.Minute {
		l.refused = now
		l.Log.Warn().Stringer("credential", key).Int("most", most).Msg(why)
	}
}

// room reports whether one may want another key that the upstream has not given so far:
// whoever makes up names cannot have the upstream asked for each. When all room is taken,
// whoever has clearly more of it gives way, so that no single user shuts out others. The
// caller holds mu.
func (l *Loop) room(by Asker) bool {
	users, askers := map[string]int{}, map[Asker]int{}
	for j := range l.vain {
		if l.jobs[j.key] != j || !j.demanded || !j.fetched.IsZero() {
			delete(l.vain, j)
			continue
		}
		users[j.asker.User]++
		askers[j.asker]++
	}
	if len(l.vain) < maxVain {
		return true
	}
	var most *job // of the user, and of that one's units the one, with most
	for j := range l.vain {
		if !j.asking && (most == nil || cmp.Or(cmp.Compare(users[j.asker.User], users[most.asker.User]), cmp.Compare(askers[j.asker], askers[most.asker])) > 0) {
			most = j
		}
	}
	// By two at least: otherwise both could go on in turn.
	if most == nil || users[most.asker.User] < users[by.User]+2 && (most.asker.User != by.User || askers[most.asker] < askers[by]+2) {
		return false
	}
	l.forget(most)
	return true
}

// untried is one of the keys that take the room and may still be given; nil if the
// upstream was asked for all of them in vain. The caller holds mu.
func (l *Loop) untried() *job {
	for j := range l.vain {
		if j.failures == 0 {
			return j
		}
	}
	return nil
}

// idle reports whether nobody has asked for a key on demand for a long time; one
// that the upstream never gave is not worth asking for any longer than its callers do.
func (l *Loop) idle(j *job, now time.Time) bool {
	unread := now.Sub(l.Store.LastAsked(j.key))
	if j.fetched.IsZero() {
		return j.failures > 0 && unread > time.Minute
	}
	return unread > l.Idle
}
