package refresh

import (
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

// Want fetches a key on demand: the first caller starts the fetch, all who come
// meanwhile join it, and from then on the key is kept in stock like the others
// until nobody asked for it for Options.Idle. Want returns when the fetch has
// ended or ctx has; the store then says what came of it. A key whose last fetch
// failed is not asked for again before its retry is due.
func (l *Loop) Want(ctx context.Context, key credential.Key) error {
	attempted, err := l.want(key)
	if err != nil || attempted == nil {
		return err
	}
	select {
	case <-attempted:
		return nil
	case <-ctx.Done():
		return credential.ErrUnavailable
	}
}

func (l *Loop) want(key credential.Key) (<-chan struct{}, error) {
	if !l.Allows(key) {
		return nil, credential.ErrNotFound
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now().Round(0)
	j, ok := l.jobs[key]
	switch {
	case l.stopped:
		return nil, credential.ErrUnavailable
	case ok && (j.valid(now) || j.holder != ""):
		return nil, nil
	case ok && j.failures > 0 && !j.asking && now.Before(j.next):
		return nil, credential.ErrUnavailable
	case ok:
		return j.attempted(), nil
	case l.demanded >= maxDemanded:
		l.refuse(key, maxDemanded, "too many credentials on demand, refusing another")
		return nil, credential.ErrUnavailable
	case l.vain() >= maxRefused:
		l.refuse(key, maxRefused, "too many credentials on demand that the upstream does not give, asking for no other")
		return nil, credential.ErrUnavailable
	}
	if j = l.demand(key, now); j == nil {
		return nil, credential.ErrUnavailable
	}
	l.nudge()
	return j.attempted(), nil
}

// demand makes key one on demand that is to be asked for now; nil if another upstream
// has it. The caller holds mu.
func (l *Loop) demand(key credential.Key, now time.Time) *job {
	if holder := l.Claims.Claim(l.Upstream, key, false); holder != l.Upstream {
		return nil
	}
	j := &job{key: key, demanded: true, draw: NewDraw(l.Host, l.Upstream, key.String()), place: -1}
	l.jobs[key] = j
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

// vain counts the keys on demand that were asked for and never given: whoever makes up
// names cannot have the upstream asked for each.
func (l *Loop) vain() (n int) {
	for j := range l.failing {
		if j.demanded && j.fetched.IsZero() {
			n++
		}
	}
	return n
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
