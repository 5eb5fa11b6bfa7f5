package vault

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A directory locks an account after some wrong passwords. So one that was refused is
// tried maxTries times in triesFor at most.
const (
	maxTries = 3
	triesFor = time.Hour
)

// A passwordMethod logs in with a name and a password, at LDAP or userpass.
type passwordMethod struct {
	auth *Auth
	log  zerolog.Logger

	wrong   credential.Secret // the password that was refused
	refused []time.Time       // when
}

func (m *passwordMethod) login(ctx context.Context, s sender) (*token, error) {
	password, err := m.auth.Password.Read()
	if err != nil {
		return nil, material("password", err)
	}
	if password.Reveal() != m.wrong.Reveal() {
		m.refused = nil
	}
	now := time.Now()
	m.refused = slices.DeleteFunc(m.refused, func(at time.Time) bool { return now.Sub(at) >= triesFor })
	if len(m.refused) >= maxTries {
		next := m.refused[0].Add(triesFor)
		return nil, &upstream.Error{
			Kind: upstream.ClassRefused, Tried: "login to Vault", Wait: next.Sub(now),
			Err: fmt.Errorf("the password of %q was refused %d times and is not tried before %s, as the account could be locked; correct auth.password", m.auth.Username, maxTries, clock(next, now)),
		}
	}
	r := request{method: http.MethodPost, path: m.auth.loginPath(), body: map[string]any{"password": password.Reveal()}}
	t, err := logIn(ctx, s, m.auth, r, m.log)
	if err != nil && faultOf(err).Kind == upstream.ClassRefused {
		m.wrong, m.refused = password, append(m.refused, now)
	}
	return t, err
}
