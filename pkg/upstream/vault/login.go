package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A method is one way to a token. It reads what it needs at each login, so that what
// was replaced meanwhile is used. It is called by one goroutine at a time.
type method interface {
	login(ctx context.Context, s sender) (*token, error)
}

// maxToken bounds a token or a JWT, in bytes. Batch tokens with metadata have some
// kilobytes.
const maxToken = 64 << 10

// checkToken looks whether a text can be sent in a header. Its error does not quote.
func checkToken(value credential.Secret) error {
	text := value.Reveal()
	if text == "" || len(text) > maxToken || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("is no token: it is empty, too long, or has a blank, a line end or another character that no token has")
	}
	return nil
}

// material is an error in what a login is made with. Nothing was asked.
func material(key string, err error) error {
	return &upstream.Error{Kind: upstream.ClassRefused, Tried: "login to Vault", Err: fmt.Errorf("auth.%s: %w", key, err)}
}

// logIn sends a login and makes a token of the answer.
func logIn(ctx context.Context, s sender, a *Auth, r request, log zerolog.Logger) (*token, error) {
	r.namespace = a.Namespace
	got, err := s.send(ctx, credential.Secret{}, r)
	if err != nil {
		return nil, err
	}
	return tokenOf(got, a.Namespace, log)
}

// tokenOf makes a token of the answer to a login.
func tokenOf(got *answer, namespace string, log zerolog.Logger) (*token, error) {
	in := got.secret.Auth
	switch {
	case in == nil && got.secret.WrapInfo != nil:
		return nil, got.raw.Errorf(upstream.ClassIncomplete, "Vault wrapped the answer to the login, which nobody asked for; something on the way asks for it")
	case in == nil:
		return nil, got.raw.Errorf(upstream.ClassIncomplete, "the answer to the login has no auth; is auth.mount an auth method?")
	case len(in.MFARequirement) > 0 && string(in.MFARequirement) != "null":
		return nil, got.raw.Errorf(upstream.ClassRefused, "Vault wants a second factor for this login, which no service can give; take this entity out of the MFA enforcement, or choose another method")
	case in.ClientToken == "":
		return nil, got.raw.Errorf(upstream.ClassIncomplete, "the answer to the login has no client_token")
	}
	value := credential.NewSecret(in.ClientToken)
	if err := checkToken(value); err != nil {
		return nil, got.raw.Errorf(upstream.ClassMalformed, "the client_token %w", err)
	}
	ttl, ok := seconds(in.LeaseDuration)
	if !ok {
		return nil, got.raw.Errorf(upstream.ClassMalformed, "the lease_duration of the token is no number of seconds")
	}
	if uses, ok := seconds(in.NumUses); ok && uses > 0 {
		log.Warn().Msg("the token of this login is good for a number of uses only, after which another login is needed; set token_num_uses to 0")
	}
	t := &token{
		value: value, from: got.sent, first: ttl, revocable: in.TokenType != "batch", namespace: namespace,
		renewable: in.Renewable && in.TokenType != "batch", spread: 2*rand.Float64() - 1,
	}
	if ttl > 0 {
		t.until = got.sent.Add(ttl)
	} else {
		log.Warn().Msg("the token of this login has no end; a token that leaks should")
	}
	return t, nil
}

// A tokenMethod takes a token that somebody else got.
type tokenMethod struct {
	auth *Auth
	log  zerolog.Logger
}

func (m *tokenMethod) login(ctx context.Context, s sender) (*token, error) {
	value, err := m.auth.Token.Read()
	if err == nil {
		err = checkToken(value)
	}
	if err != nil {
		return nil, material("token", err)
	}
	t := &token{value: value, from: time.Now(), given: true, namespace: m.auth.Namespace, spread: 2*rand.Float64() - 1}
	got, err := s.send(ctx, value, lookupSelf(m.auth.Namespace))
	if refused(err) {
		m.log.Warn().Msg("the token may not look itself up, so its end is not known; if it is valid, its policy lacks auth/token/lookup-self")
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	number := func(key string) time.Duration {
		n, _ := got.secret.Data[key].(json.Number)
		d, _ := seconds(n)
		return d
	}
	t.from, t.first = got.sent, number("creation_ttl")
	t.renewable, _ = got.secret.Data["renewable"].(bool)
	if ttl := number("ttl"); ttl > 0 {
		t.until = got.sent.Add(ttl)
	} else {
		m.log.Warn().Msg("the token has no end, as a root token: who reads it may do everything for ever; give this host a token of its own, or another auth.method")
	}
	return t, nil
}

func lookupSelf(namespace string) request {
	return request{path: "auth/token/lookup-self", namespace: namespace}
}

// refused reports whether Vault answered 403.
func refused(err error) bool {
	fault, ok := errors.AsType[*upstream.Error](err)
	return ok && fault.Status == http.StatusForbidden
}

// methodOf returns the method that a validated Auth names.
func methodOf(a *Auth, log zerolog.Logger) method {
	switch a.Method {
	case "approle":
		return &appRole{auth: a, log: log}
	}
	return &tokenMethod{auth: a, log: log}
}

// An appRole logs in with a role ID and, mostly, a secret ID.
type appRole struct {
	auth *Auth
	log  zerolog.Logger
}

func (m *appRole) login(ctx context.Context, s sender) (*token, error) {
	roleID, err := m.auth.RoleID.Read()
	if err != nil {
		return nil, material("role_id", err)
	}
	body := map[string]any{"role_id": roleID.Reveal()}
	if !m.auth.SecretID.IsZero() {
		secretID, err := m.auth.SecretID.Read()
		if err != nil {
			return nil, material("secret_id", err)
		}
		body["secret_id"] = secretID.Reveal()
	}
	return logIn(ctx, s, m.auth, request{method: http.MethodPost, path: "auth/" + m.auth.mount() + "/login", body: body}, m.log)
}
