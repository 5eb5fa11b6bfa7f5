package vault

import (
	"context"
	"net/http"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
)

const (
	// glance is how long run sleeps at most: the host may have slept meanwhile.
	glance = time.Minute
	// breath is between two steps of run, so that no mistake makes it spin.
	breath = time.Second
)

// run keeps the token alive until ctx ends.
func (s *session) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := s.tend(ctx)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-time.After(wait):
		}
	}
}

// tend does what the token needs now, if anything, and returns when to look again.
func (s *session) tend(ctx context.Context) time.Duration {
	t, what, at := s.due()
	if t != nil {
		s.survey(ctx)
	}
	now := time.Now()
	switch wait := at.Sub(now); {
	case what == stay || t.ended(now): // the next request logs in
		return glance
	case wait > 0:
		return min(wait, glance)
	case what == renew:
		s.renew(ctx, t)
	default:
		s.replace(ctx, t)
	}
	return breath
}

// due is the next step and when it may be taken, as pauses allow.
func (s *session) due() (*token, step, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == nil {
		return nil, stay, time.Time{}
	}
	what, at := s.token.next()
	pauses := []time.Time{s.tending.until}
	if what == login {
		pauses = []time.Time{s.logins.until, s.refusal.until, s.asked.Add(loginFloor)}
	}
	for _, until := range pauses {
		if until.After(at) {
			at = until
		}
	}
	return s.token, what, at
}

// replace logs in ahead of the token's end. What fails is tried again; the token is
// used as long as it lives.
func (s *session) replace(ctx context.Context, t *token) {
	if s.take(ctx) != nil {
		return
	}
	defer s.release()
	if s.present() == t {
		_, _ = s.login(ctx)
	}
}

// renew lengthens the life of the token, or finds out that this cannot be.
func (s *session) renew(ctx context.Context, t *token) {
	asked := time.Now()
	r := request{method: http.MethodPost, path: "auth/token/renew-self", namespace: t.namespace, body: map[string]any{}}
	got, err := s.sender.send(ctx, t.value, r)
	var grown *token
	switch fault := faultOf(err); {
	case err == nil && got.secret.Auth == nil:
		err = got.raw.Errorf(upstream.ClassIncomplete, "the answer to the renewal has no auth")
	case err == nil:
		if ttl, ok := seconds(got.secret.Auth.LeaseDuration); ok {
			grown = t.after(got.sent, ttl, got.secret.Auth.Renewable)
		} else {
			err = got.raw.Errorf(upstream.ClassMalformed, "the lease_duration of the token is no number of seconds")
		}
	case fault.Status == http.StatusBadRequest, fault.Status == http.StatusForbidden:
		// A batch token, a policy without renew-self, or a dead one: a login helps.
		grown = t.settled(asked)
		if dead, e := s.dead(ctx, t); fault.Status == http.StatusForbidden && e == nil && dead {
			s.replace(ctx, t)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != t {
		return
	}
	if grown == nil {
		fault := faultOf(err)
		if fault.Kind != upstream.ClassCanceled && s.tending.fail(asked, time.Now(), askCurve, fault) {
			s.log.Warn().Err(fault).Msg("the token could not be renewed, trying again")
		}
		return
	}
	if s.tending.failures > 0 && err == nil {
		s.log.Info().Msg("the token is renewed again")
	}
	s.token, s.tending = grown, hold{}
	if t.renewable && !grown.renewable {
		s.log.Info().Str("until", clock(grown.until, time.Now())).Msg("the token can be renewed no more, the next login comes before its end")
	}
}

// revokeTime bounds how long the end of a session takes.
const revokeTime = 2 * time.Second

// close gives the token back if a login of ours made it: it could be used until its
// end otherwise.
func (s *session) close(ctx context.Context) {
	s.mu.Lock()
	t := s.token
	s.token = nil
	s.mu.Unlock()
	if t == nil || !t.revocable {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	r := request{method: http.MethodPost, path: "auth/token/revoke-self", namespace: t.namespace}
	if _, err := s.sender.send(ctx, t.value, r); err != nil && !refused(err) {
		s.log.Warn().Err(err).Msg("the token could not be revoked and stays valid until its end")
	}
}
