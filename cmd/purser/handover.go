package main

import (
	"context"
	"time"

	"github.com/purser-agent/purser/pkg/handover"
	"github.com/purser-agent/purser/pkg/refresh"
)

// A keeper is a source that says whether anything of its upstream may outlive the
// process. That of any other source may.
type keeper interface{ Keeps() bool }

// keeps reports whether an upstream is carried over a restart.
func keeps(s source) bool {
	k, ok := s.(keeper)
	return !ok || k.Keeps()
}

// A resumer is a source whose session with its upstream can go on in the next process.
type resumer interface {
	// HandOver says whether there will be a next process that the session is left to.
	HandOver(will bool)
	// Session is what Resume needs, nil if there is no session. It may be secret.
	Session() []byte
	// Resume goes on with a session. One that is of no use any more is no error.
	Resume(session []byte)
}

// takeBack gives the lines what the process before had in stock, as far as their
// sections still say the same about it.
func (a *agent) takeBack(left *handover.State) {
	if left == nil {
		return
	}
	restored := 0
	for name, l := range a.lines {
		if !keeps(l.source) {
			continue
		}
		from := left.Upstreams[name]
		var kept []refresh.Kept
		for _, c := range from.Credentials {
			if c.Identity == l.config.Identity(c.Name) {
				kept = append(kept, refresh.Kept{Key: c.Key(), Credential: c.Value(), Fetched: c.Fetched, OnDemand: c.OnDemand})
			}
		}
		l.loop.Restore(kept)
		restored += len(kept)
		if k, ok := l.source.(resumer); ok && from.Session != nil && from.SessionIdentity == l.config.Identity("") {
			k.Resume(from.Session)
		}
	}
	a.log.Info().Int("credentials", restored).Time("saved", left.Saved).Msg("took over what the process before had in stock")
}

// handOver tells a line, before it runs, that what it has is left to the next process.
func (a *agent) handOver(l *line) {
	if r, ok := l.source.(resumer); ok {
		r.HandOver(a.depot != nil)
	}
}

// leave is what there is to carry over a restart now.
func (a *agent) leave() *handover.State {
	s := &handover.State{Saved: time.Now(), SessionTokens: a.keys.sessionTokens, Upstreams: map[string]handover.Upstream{}}
	for _, l := range a.running() {
		if !keeps(l.source) {
			continue
		}
		u := handover.Upstream{Credentials: l.leave(l.loop.Stock(a.store.Peek))}
		if k, ok := l.source.(resumer); ok {
			if u.Session = k.Session(); u.Session != nil {
				u.SessionIdentity = l.config.Identity("")
			}
		}
		s.Upstreams[l.loop.Upstream] = u
	}
	return s
}

// leave is what there is to carry of the stock of one upstream.
func (l *line) leave(stock []refresh.Kept) []handover.Credential {
	l.leaving.Lock()
	defer l.leaving.Unlock()
	known := l.identities
	l.identities = make(map[string]string, len(stock))
	all := make([]handover.Credential, 0, len(stock))
	for _, k := range stock {
		identity, ok := known[k.Key.Name]
		if !ok {
			identity = l.config.Identity(k.Key.Name)
		}
		l.identities[k.Key.Name] = identity
		c := handover.Credential{Name: k.Key.Name, Variant: k.Key.Variant, Identity: identity, Fetched: k.Fetched, OnDemand: k.OnDemand}
		c.Set(k.Credential)
		all = append(all, c)
	}
	return all
}

// Storing takes at most this part of the time, and happens at most so often; after a
// failure it is tried again. A session changes by itself, as when its token is renewed:
// so it is stored now and then although nothing came.
const (
	storeShare  = 20
	storeEvery  = 50 * time.Millisecond
	storeRetry  = time.Second
	storeAnyway = time.Minute
)

// storeSoon says that there is something new to carry over a restart.
func (a *agent) storeSoon() {
	select {
	case a.moved <- struct{}{}:
	default: // it is to be stored already
	}
}

// keepStock stores what there is to carry at every change in stock, until ctx ends.
func (a *agent) keepStock(ctx context.Context) {
	if a.depot == nil {
		return
	}
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.moved:
		case <-time.After(storeAnyway):
		}
		began := time.Now()
		err := a.depot.Store(a.leave())
		wait := max(storeEvery, storeShare*time.Since(began))
		if err != nil {
			wait = storeRetry
			a.storeSoon()
		}
		if err != nil && !failing {
			a.log.Warn().Err(err).Msg("what is in stock cannot be left to the next process, trying again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// barrierTime is how long systemd may take to see the last message.
const barrierTime = 2 * time.Second

// leaveLast stores the final state, when nothing changes any more.
func (a *agent) leaveLast() {
	if a.depot == nil {
		return
	}
	err := a.depot.Store(a.leave())
	if err == nil {
		err = a.depot.Barrier(barrierTime)
	}
	if err != nil {
		a.log.Warn().Err(err).Msg("what is in stock cannot be left to the next process")
	}
}
