package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A fakeVault is a server of the API's kind without sockets, for time under synctest.
type fakeVault struct {
	mu       sync.Mutex
	requests []string // method and path, in order, each with its time since the start
	start    time.Time
	tokens   map[string]time.Time // when they end
	made     int

	ttl       time.Duration // of a new token, an hour if zero
	maxAge    time.Duration // how old one may get
	born      map[string]time.Time
	batch     bool
	down      bool            // 503 sealed
	noLogin   string          // a text with which a login is refused, by 400
	forbidden map[string]bool // paths that no policy allows
	bound     bool            // the tokens are bound to other addresses
	renewing  int             // a status that renewals get
	lag       time.Duration   // how long a new token is not known
	endless   bool            // the tokens have no end
	sealed    string          // a namespace
	index     string          // of a write, which logins tell
	behind    time.Duration   // how long a server does not have it yet
	indexes   []string        // that reads asked for
	uses      int             // after which a token is dead
	used      map[string]int
}

func newFakeVault() *fakeVault {
	return &fakeVault{start: time.Now(), tokens: map[string]time.Time{}, born: map[string]time.Time{}, used: map[string]int{}, forbidden: map[string]bool{}}
}

func (f *fakeVault) send(ctx context.Context, token credential.Secret, r request) (*answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.method == "" {
		r.method = "GET"
	}
	f.requests = append(f.requests, fmt.Sprintf("%v %s %s", time.Since(f.start), r.method, r.path))
	if err := ctx.Err(); err != nil {
		return nil, &upstream.Error{Kind: upstream.ClassCanceled, Err: err}
	}
	if f.down || f.sealed != "" && r.namespace == f.sealed {
		return nil, f.fault(503, upstream.ClassServer, "Vault is sealed")
	}
	if strings.HasSuffix(r.path, "/login") {
		return f.login()
	}
	ends, alive := f.tokens[token.Reveal()]
	born := f.born[token.Reveal()]
	if !alive || f.bound || !time.Now().Before(ends) || time.Since(born) < f.lag {
		return nil, f.fault(403, upstream.ClassRefused, "permission denied")
	}
	if r.path == billing.path {
		f.indexes = append(f.indexes, r.header[indexHeader].Reveal())
		if time.Since(born) < f.behind {
			return nil, f.fault(412, upstream.ClassServer, "behind")
		}
	}
	if f.forbidden[r.path] {
		return nil, f.fault(403, upstream.ClassRefused, "permission denied")
	}
	f.used[token.Reveal()]++
	if f.uses > 0 && f.used[token.Reveal()] >= f.uses {
		delete(f.tokens, token.Reveal())
	}
	switch r.path {
	case "auth/token/renew-self":
		return f.renew(token.Reveal())
	case "auth/token/revoke-self":
		delete(f.tokens, token.Reveal())
	case "auth/token/lookup-self":
		return f.answer(&secret{Data: map[string]any{"ttl": number(time.Until(ends)), "creation_ttl": number(f.life()), "renewable": !f.batch}}), nil
	}
	return f.answer(&secret{}), nil
}

func (f *fakeVault) answer(s *secret) *answer {
	return &answer{secret: s, sent: time.Now(), raw: &upstream.Answer{Status: 200, Header: http.Header{indexHeader: {f.index}}}}
}

func (f *fakeVault) fault(status int, class upstream.Class, text string) error {
	return &upstream.Error{Kind: class, Tried: "GET https://vault.example.com", Status: status, Err: errors.New(text)}
}

func (f *fakeVault) life() time.Duration {
	if f.ttl > 0 {
		return f.ttl
	}
	return time.Hour
}

func (f *fakeVault) login() (*answer, error) {
	if f.noLogin != "" {
		return nil, f.fault(400, upstream.ClassRefused, f.noLogin)
	}
	f.made++
	value := fmt.Sprintf("hvs.CONFIDENTIAL%d", f.made)
	f.tokens[value], f.born[value] = time.Now().Add(f.life()), time.Now()
	kind, ttl := "service", number(f.life())
	if f.endless {
		ttl = "0"
	}
	if f.batch {
		kind = "batch"
	}
	return f.answer(&secret{Auth: &authInfo{ClientToken: value, LeaseDuration: ttl, Renewable: !f.batch, TokenType: kind}}), nil
}

func (f *fakeVault) renew(token string) (*answer, error) {
	if f.renewing != 0 {
		class := upstream.ClassServer
		if f.renewing < 500 {
			class = upstream.ClassRefused
		}
		return nil, f.fault(f.renewing, class, "no renewal")
	}
	ttl := f.life()
	if f.maxAge > 0 {
		ttl = min(ttl, time.Until(f.born[token].Add(f.maxAge)))
	}
	f.tokens[token] = time.Now().Add(ttl)
	return f.answer(&secret{Auth: &authInfo{LeaseDuration: number(ttl), Renewable: true}}), nil
}

func number(d time.Duration) json.Number { return json.Number(fmt.Sprint(int(d.Seconds()))) }

// count returns how many requests there were for a path, any for an empty one.
func (f *fakeVault) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if strings.HasSuffix(r, path) {
			n++
		}
	}
	return n
}

func (f *fakeVault) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// sessionOn returns a session that logs in with AppRole, and runs until the test ends.
func sessionOn(t *testing.T, f *fakeVault) *session {
	t.Helper()
	a := &Auth{Method: "approle", RoleID: credential.SecretRef{Value: credential.NewSecret("role")}, SecretID: secretFile(t, "secret")}
	return started(t, f, a, &appRole{auth: a, log: zerolog.New(t.Output())})
}

func started(t *testing.T, f *fakeVault, a *Auth, m method) *session {
	t.Helper()
	log := zerolog.New(t.Output())
	s := newSession(f, m, a, a.files(), log)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		s.run(ctx)
		s.close(context.WithoutCancel(ctx))
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		s.close(context.Background())
	})
	return s
}

func secretFile(t *testing.T, text string) credential.SecretRef {
	t.Helper()
	ref := credential.SecretRef{File: filepath.Join(t.TempDir(), "secret")}
	writeFile(t, ref.File, text)
	return ref
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// billing is what the tests ask for.
var billing = request{path: "aws/sts/billing"}

// asking asks for a while, eagerly: each second for some minutes, and then each
// minute, or when the error says.
func asking(t *testing.T, s *session, r request, long time.Duration) (failed int, last error) {
	t.Helper()
	for start := time.Now(); time.Since(start) < long; {
		_, err := s.ask(t.Context(), r)
		wait := time.Second
		if time.Since(start) > 10*time.Minute {
			wait = time.Minute
		}
		if err != nil {
			failed++
			if fault, ok := errors.AsType[*upstream.Error](err); ok {
				wait = max(wait, fault.Wait)
			}
		}
		last = err
		time.Sleep(wait)
	}
	return failed, last
}
