package vault

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
)

// A tokenMethod takes a token that somebody else got, from the configuration or a
// file.
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
	t, err := taken(ctx, s, value, m.auth.Namespace, m.log)
	if err != nil {
		return nil, err
	}
	t.given = true
	if m.auth.Token.File == "" && !t.until.IsZero() && !t.renewable {
		m.log.Warn().Str("until", t.end()).Msg("the configured token has an end and cannot be renewed; put it into a file that is kept fresh, or choose another auth.method")
	}
	return t, nil
}

// taken makes a token of one that was not given by a login of ours. It asks Vault
// about it, which its policy may forbid although it is valid.
func taken(ctx context.Context, s sender, value credential.Secret, namespace string, log zerolog.Logger) (*token, error) {
	t := &token{value: value, from: time.Now(), namespace: namespace, spread: 2*rand.Float64() - 1}
	got, err := s.send(ctx, value, lookupSelf(namespace))
	if refused(err) {
		log.Warn().Msg("the token may not look itself up, so its end is not known: it has ended, or its policy lacks auth/token/lookup-self")
		t.blind = true
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
	if number("num_uses") > 0 {
		log.Warn().Msg("the token is good for a number of uses only; Purser needs one that is good for any number")
	}
	if ttl := number("ttl"); ttl > 0 {
		t.until = got.sent.Add(ttl)
	} else {
		log.Warn().Msg("the token has no end, as a root token: who reads it may use it for ever; give this host a token of its own, or choose another auth.method")
	}
	return t, nil
}
