package vault

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

const (
	// loginFloor is the least time between two logins, whatever happens.
	loginFloor = 10 * time.Second
	// young is how long a token may not be known yet to each server of a cluster.
	young = 5 * time.Second
	lag   = time.Second
	// known is how long it is believed that a token is alive which looked itself up.
	known = 30 * time.Second
	// policyRest is the least time until what a policy forbids is asked for again.
	policyRest = 30 * time.Second
)

// A session is what this host has with one Vault: a token, and the way to the next
// one. Its methods may be called by many goroutines at once; one of them logs in for
// all. run keeps the token alive, close gives it back.
type session struct {
	sender   sender
	method   method
	auth     *Auth
	watch    *upstream.Watch // of the files with which a login or a request may succeed
	log      zerolog.Logger
	turn     chan struct{} // held by who logs in, or finds out whether it must be
	wake     chan struct{} // tells run that the token is another one
	surveyed atomic.Bool   // the server was asked whether it has namespaces
	exposed  sync.Once     // it was looked who may read the files

	mu      sync.Mutex       // guards all below
	token   *token           // nil before the first login
	asked   time.Time        // the latest login
	stale   bool             // the file of the token changed
	worked  bool             // Vault took the token for something
	alive   time.Time        // when the token last looked itself up
	logins  hold             // after logins that failed
	refusal breaker          // after fresh tokens that were refused
	tending hold             // after renewals that failed
	rests   map[string]*hold // of each namespace, after requests without an answer
}

// A breaker stops logins that help nothing: the token that they gave was refused for
// the same request.
type breaker struct {
	hold
	path string // what was refused
}

// newSession returns a session that has asked for nothing yet. It is given the files
// with which a login or a request may succeed once they change.
func newSession(s sender, m method, a *Auth, files []string, log zerolog.Logger) *session {
	return &session{
		sender: s, method: m, auth: a, watch: upstream.NewWatch(files), log: log,
		turn: make(chan struct{}, 1), wake: make(chan struct{}, 1), rests: map[string]*hold{},
	}
}

// present implements keeper.
func (s *session) present() *token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// ask implements asker. A 403 may mean that the token is dead, or not known yet at
// another server, or that its policy does not give what was asked for. So the request
// is sent again if the token was just made, or is found to be dead and could be
// replaced, and once only.
func (s *session) ask(ctx context.Context, r request) (*answer, error) {
	t, err := s.valid(ctx)
	if err != nil {
		return nil, err
	}
	got, err := s.try(ctx, t, r)
	if !refused(err) {
		return got, err
	}
	other, err := s.afterRefusal(ctx, t, r, err)
	if err != nil {
		return nil, err
	}
	got, err = s.try(ctx, other, r)
	if refused(err) {
		return nil, s.useless(other, r, err)
	}
	return got, err
}

// try sends a request, again after a moment if the server may not know the token yet.
func (s *session) try(ctx context.Context, t *token, r request) (*answer, error) {
	unknown := s.unknown(t)
	if unknown && !t.index.Empty() {
		r.header = map[string]credential.Secret{indexHeader: t.index}
	}
	got, err := s.through(ctx, t, r)
	behind := err != nil && faultOf(err).Status == http.StatusPreconditionFailed
	if !behind && (!refused(err) || !unknown) {
		return got, err
	}
	select {
	case <-ctx.Done():
		return nil, err
	case <-time.After(lag):
	}
	return s.through(ctx, t, r)
}

// unknown reports whether a token is so new that not every server may know it.
func (s *session) unknown(t *token) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.is(s.token) && !t.given && !s.worked && s.refusal.failures == 0 && time.Since(t.from) < young
}

// through sends a request if Vault need not be left alone, and remembers how it went.
func (s *session) through(ctx context.Context, t *token, r request) (*answer, error) {
	if err := s.enter(r.namespace); err != nil {
		return nil, err
	}
	asked := time.Now()
	got, err := s.sender.send(ctx, t.value, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left(r.namespace, asked, err)
	if err == nil {
		got.by = t
		s.took(t)
		if s.refusal.path == r.path {
			s.refusal = breaker{}
		}
	}
	return got, err
}

// took remembers that Vault took a token. The lock is held.
func (s *session) took(t *token) {
	if t.is(s.token) {
		s.worked = true
	}
}

// probe is how long one request alone is under way after a rest.
const probe = 5 * time.Second

// enter lets a request pass unless Vault, or the namespace, gave no answer lately.
// After the rest one request goes ahead of the others.
func (s *session) enter(namespace string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, h := time.Now(), s.rests[namespace]
	if h == nil || h.failures == 0 {
		return nil
	}
	if h.active(now) {
		return h.fault(now, "request")
	}
	h.until = now.Add(probe)
	return nil
}

// left remembers whether Vault answered at all. The lock is held.
func (s *session) left(namespace string, asked time.Time, err error) {
	fault, _ := errors.AsType[*upstream.Error](err)
	if fault != nil && fault.Kind == upstream.ClassCanceled {
		return
	}
	h := s.rests[namespace]
	if h == nil {
		h = &hold{}
		s.rests[namespace] = h
	}
	if fault == nil || !troubled(fault) {
		*h = hold{}
		return
	}
	h.fail(asked, time.Now(), askCurve, fault)
}

// troubled reports whether an error is about the server and not about what was asked.
func troubled(e *upstream.Error) bool {
	switch e.Kind {
	case upstream.ClassTransport, upstream.ClassTimeout, upstream.ClassTLS, upstream.ClassProxy:
		return true
	case upstream.ClassServer:
		return e.Status >= 500
	case upstream.ClassThrottled:
		return e.Status != 400 && e.Status != 502 // there AWS throttles Vault
	}
	return false
}
