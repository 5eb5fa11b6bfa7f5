package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A method is one way to a token. It reads what it needs at each login, so that what
// was replaced meanwhile is used. It is called by one goroutine at a time.
type method interface {
	login(ctx context.Context, s sender) (*token, error)
}

// indexHeader is how a cluster whose standbys answer reads tells of a write, and how a
// client asks for no older state. Vault Enterprise and newer OpenBao have it.
const indexHeader = "X-Vault-Index"

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
	return &upstream.Error{Kind: upstream.ClassRequest, Tried: "login to Vault", Err: fmt.Errorf("auth.%s: %w", key, err)}
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
	if index := credential.NewSecret(got.raw.Header.Get(indexHeader)); checkToken(index) == nil {
		t.index = index
	}
	if ttl > 0 {
		t.until = got.sent.Add(ttl)
	} else {
		log.Warn().Msg("the token of this login has no end; a token that leaks should")
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
