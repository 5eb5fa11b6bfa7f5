package vault

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// An execMethod has a program print what to log in with.
type execMethod struct {
	auth     *Auth
	programs upstream.Programs
	log      zerolog.Logger
}

// execTime bounds how long the program may run.
const execTime = 20 * time.Second

// What a program can print.
const (
	asJWT      = "jwt"
	asToken    = "token"
	asKerberos = "kerberos"
)

func (m *execMethod) login(ctx context.Context, s sender) (*token, error) {
	printed, err := m.programs.Run(ctx, upstream.Program{Args: m.auth.Command, Timeout: execTime, Most: maxToken}, func(line string) {
		m.log.Warn().Str("line", line).Msg("the program of the login says")
	})
	if err != nil {
		return nil, material("command", err)
	}
	value := credential.NewSecret(strings.TrimSpace(string(printed)))
	if checkToken(value) != nil {
		return nil, material("command", errors.New("the program printed nothing, or more than one word"))
	}
	switch m.auth.As {
	case asJWT:
		return present(ctx, s, m.auth, value, m.log)
	case asToken:
		return taken(ctx, s, value, m.auth.Namespace, m.log)
	}
	r := request{method: http.MethodPost, path: m.auth.loginPath()}
	r.header = map[string]credential.Secret{"Authorization": credential.NewSecret("Negotiate " + value.Reveal())}
	return logIn(ctx, s, m.auth, r, m.log)
}
