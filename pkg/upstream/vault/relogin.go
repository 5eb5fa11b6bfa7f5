package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// valid returns the token to ask with, after a login if there is none that could be.
func (s *session) valid(ctx context.Context) (*token, error) {
	if t := s.usable(); t != nil {
		return t, nil
	}
	if err := s.take(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	if t := s.usable(); t != nil {
		return t, nil
	}
	before := s.present()
	t, err := s.login(ctx)
	if err != nil && before != nil && !before.ended(time.Now()) {
		return before, nil // it is as good as it was
	}
	return t, err
}

// usable is the token if no login must come first. A changed file ends every pause.
func (s *session) usable() *token {
	if s.watch.Changed() {
		s.reset()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	spoilt := !s.worked && s.refusal.failures > 0 && !s.refusal.active(now)
	if s.token == nil || s.token.ended(now) || s.stale || spoilt {
		return nil
	}
	return s.token
}

// reset ends every pause: something changed that may have been the reason.
func (s *session) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins, s.refusal, s.stale = hold{}, breaker{}, s.auth.Token.File != ""
	s.alive = time.Time{}
	clear(s.rests)
}

// take waits for the turn to log in.
func (s *session) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &upstream.Error{Kind: upstream.ClassTimeout, Tried: "login to Vault", Err: errors.New("another login is under way and took too long")}
	}
}

func (s *session) release() { <-s.turn }

// holding is the pause that logins are in, nil for none. The lock is held.
func (s *session) holding(now time.Time) *hold {
	switch {
	case s.logins.active(now):
		return &s.logins
	case s.refusal.active(now):
		return &s.refusal.hold
	}
	return nil
}

// login logs in unless that must wait, and keeps what it gives. The turn is held.
func (s *session) login(ctx context.Context) (*token, error) {
	asked := time.Now()
	if err := s.mayLogin(asked); err != nil {
		return nil, err
	}
	d := &door{sender: s.sender}
	s.exposed.Do(s.warnExposed)
	t, err := s.method.login(ctx, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.knocked {
		s.asked = asked
	}
	if err != nil {
		fault := faultOf(err)
		if fault.Kind != upstream.ClassCanceled {
			s.loginFailed(asked, fault)
		}
		return nil, fault
	}
	s.logins, s.tending, s.stale = hold{}, hold{}, false
	if !t.is(s.token) {
		s.worked, s.alive = false, time.Time{}
	}
	s.token = t
	s.poke()
	s.log.Info().Str("until", t.end()).Msg("logged in")
	return t, nil
}

// warnExposed says which files of the login everybody may read.
func (s *session) warnExposed() {
	if files := s.auth.exposed(); len(files) > 0 {
		s.log.Warn().Strs("files", files).Msg("every account of this host may read what the login is made with; take that right away (chmod o-r)")
	}
}

// A door notes whether a login got as far as to ask Vault.
type door struct {
	sender
	knocked bool
}

func (d *door) send(ctx context.Context, t credential.Secret, r request) (*answer, error) {
	d.knocked = true
	return d.sender.send(ctx, t, r)
}

// loginFailed remembers why, and lets logins rest. The lock is held.
func (s *session) loginFailed(asked time.Time, fault *upstream.Error) {
	c, now := loginCurve, time.Now()
	if troubled(fault) {
		c = askCurve
	}
	grew := s.logins.fail(asked, now, c, fault)
	if floor := s.asked.Add(loginFloor); s.logins.until.Before(floor) {
		s.logins.until = floor
	}
	fault.Wait = s.logins.until.Sub(now)
	if grew && s.token != nil && !s.token.ended(now) {
		s.log.Warn().Err(fault).Stringer("retry_in", fault.Wait.Round(time.Second)).Msg("no new login, keeping the token as long as it lives")
	}
}

// mayLogin keeps to the pauses and to the floor between two logins.
func (s *session) mayLogin(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.holding(now); h != nil {
		return h.fault(now, "login")
	}
	if next := s.asked.Add(loginFloor); !s.asked.IsZero() && now.Before(next) {
		why := &upstream.Error{Kind: upstream.ClassThrottled, Tried: "login to Vault", Err: fmt.Errorf("the last one was %v ago", now.Sub(s.asked).Round(time.Second))}
		floor := hold{until: next, why: why}
		return floor.fault(now, "login")
	}
	return nil
}

// poke tells run to look at the token again.
func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// faultOf makes an *upstream.Error, a copy, of the error of a login.
func faultOf(err error) *upstream.Error {
	if fault, ok := errors.AsType[*upstream.Error](err); ok {
		same := *fault
		return &same
	}
	return &upstream.Error{Kind: upstream.ClassRequest, Tried: "login to Vault", Err: err}
}

// afterRefusal finds out what a 403 means. It returns another token to ask with, or
// the error to give up with.
func (s *session) afterRefusal(ctx context.Context, t *token, r request, refusal error) (*token, error) {
	if err := s.take(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	if now := s.present(); now != nil && !now.is(t) {
		return now, nil // somebody logged in meanwhile
	}
	dead, err := s.dead(ctx, t)
	if err != nil {
		return nil, err
	}
	if !dead {
		return nil, s.forbidden(refusal)
	}
	if s.justMade(t) {
		return nil, s.useless(t, r, refusal)
	}
	fresh, err := s.login(ctx)
	if err != nil {
		fault := faultOf(err)
		fault.Err = fmt.Errorf("the token is refused, as if it was revoked or has ended: %w", fault.Err)
		return nil, fault
	}
	if fresh.is(t) {
		return nil, s.useless(fresh, r, refusal)
	}
	return fresh, nil
}

// forbidden is the error for what the policy of a living token does not allow, which
// somebody must change. That it lives may have been found out a while ago.
func (s *session) forbidden(refusal error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := faultOf(refusal)
	fault.Wait = max(fault.Wait, policyRest)
	if ago := time.Since(s.alive).Round(time.Second); ago > 0 {
		fault.Err = fmt.Errorf("%w, unless the token was revoked in the last %v", fault.Err, ago)
	}
	fault.Err = denied{fault.Err}
	return fault
}

// A denied is why a token that lives gets nothing: its policy.
type denied struct{ error }

// Unwrap returns what Vault said.
func (d denied) Unwrap() error { return d.error }

// dead asks whether Vault still knows a token. One that may not look itself up counts
// as dead: only a login can tell.
func (s *session) dead(ctx context.Context, t *token) (bool, error) {
	s.mu.Lock()
	lately, broken := time.Since(s.alive) < known, s.refusal.failures > 0 && !s.worked
	s.mu.Unlock()
	if lately || broken {
		return !lately, nil
	}
	_, err := s.sender.send(ctx, t.value, lookupSelf(t.namespace))
	if refused(err) {
		return true, nil
	}
	if err == nil {
		s.mu.Lock()
		s.took(t)
		s.alive = time.Now()
		s.mu.Unlock()
	}
	return false, err
}

// justMade reports whether a login made the token a moment ago, and nothing came of it.
func (s *session) justMade(t *token) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.is(s.token) && !s.worked && time.Since(s.asked) < loginFloor
}

// useless opens the breaker: the latest login gave a token that is refused as well.
func (s *session) useless(t *token, r request, refusal error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := faultOf(refusal)
	switch {
	case fault.Status != http.StatusForbidden:
	case t.blind:
		fault.Err = fmt.Errorf("%w; the token may not look itself up either: it was revoked or has ended, or its policy allows neither", fault.Err)
	default:
		fault.Err = fmt.Errorf("%w; the token is fresh from a login, so its policy, a binding to other addresses (token_bound_cidrs) or the namespace is the reason", fault.Err)
	}
	if t.is(s.token) {
		now := time.Now()
		s.refusal.path = r.path
		if s.refusal.fail(s.asked, now, breakCurve, fault) {
			s.log.Warn().Err(fault).Stringer("login_in", s.refusal.until.Sub(now).Round(time.Second)).Msg("a fresh token was refused, no more logins for a while")
		}
		fault.Wait = s.refusal.until.Sub(now)
	}
	return fault
}
