package vault

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Leases are those of the keys that were given out, as long as they last. They are
// safe for concurrent use.
type leases struct {
	session asker
	log     zerolog.Logger

	mu   sync.Mutex
	held map[string]lease // by ID
}

// A lease is what Vault remembers of keys that it made.
type lease struct {
	ends time.Time
	user bool // whose keys go with it, and with the token
}

// Bounds of leases.
const (
	maxLeases = 10_000
	revoking  = 8 // at once
)

func newLeases(session asker, log zerolog.Logger) *leases {
	return &leases{session: session, log: log, held: map[string]lease{}}
}

// keep remembers a lease until it ends.
func (l *leases) keep(id string, kept lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.held) >= maxLeases {
		l.prune()
	}
	if id != "" && len(l.held) < maxLeases {
		l.held[id] = kept
	}
}

// prune forgets what has ended. The lock is held.
func (l *leases) prune() {
	now := time.Now()
	maps.DeleteFunc(l.held, func(_ string, held lease) bool { return !now.Before(held.ends) })
}

// users reports whether keys of users are among what was given out.
func (l *leases) users() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune()
	for _, held := range l.held {
		if held.user {
			return true
		}
	}
	return false
}

// take forgets all leases and returns them.
func (l *leases) take() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.held {
		ids = append(ids, id)
	}
	clear(l.held)
	return ids
}

// revoke gives all leases back. What cannot be given back before ctx ends, ends by
// itself.
func (l *leases) revoke(ctx context.Context) {
	ids := l.take()
	var (
		group  sync.WaitGroup
		slots  = make(chan struct{}, revoking)
		mu     sync.Mutex // guards failed and last
		failed int
		last   error
	)
	for _, id := range ids {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if err := l.revokeOne(ctx, id); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed, last = failed+1, err
			}
		})
	}
	group.Wait()
	switch {
	case failed > 0:
		l.log.Warn().Err(last).Int("failed", failed).Int("leases", len(ids)).Msg("leases could not be revoked and end by themselves")
	case len(ids) > 0:
		l.log.Info().Int("leases", len(ids)).Msg("leases revoked")
	}
}

func (l *leases) revokeOne(ctx context.Context, id string) error {
	_, err := l.session.ask(ctx, request{method: "POST", path: "sys/leases/revoke", body: map[string]any{"lease_id": id}})
	return err
}

// renew makes a lease last longer and returns the answer, and for how long from when it
// was asked. It may be no longer than before.
func (l *leases) renew(ctx context.Context, id string) (a *answer, left time.Duration, err error) {
	a, err = l.session.ask(ctx, request{method: "POST", path: "sys/leases/renew", body: map[string]any{"lease_id": id}})
	if err != nil {
		return nil, 0, err
	}
	left, _ = inSeconds(a.secret.LeaseDuration)
	return a, left - a.age, nil
}
