package vault

import (
	"context"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// An identityToken is a JWT that Vault signs.
type identityToken struct {
	session asker
	role    string
}

func (t *identityToken) fetch(ctx context.Context) (credential.Credential, error) {
	a, err := t.session.ask(ctx, request{path: "identity/oidc/token/" + t.role})
	if err != nil {
		return nil, err
	}
	value, err := textIn(a, a.secret.Data, "token", maxToken)
	if err != nil {
		return nil, err
	}
	life, ok := inSeconds(numeral(a.secret.Data["ttl"]))
	if !ok {
		return nil, a.raw.Errorf(upstream.ClassIncomplete, "the answer does not say how long the token lives")
	}
	issued, expires := a.sent.Add(-a.age), a.sent.Add(life-a.age)
	if err := a.checkEnd(expires); err != nil {
		return nil, err
	}
	return &credential.Token{
		Value: credential.NewSecret(value), Type: "JWT",
		Issued: wall(issued), Expires: wall(expires),
	}, nil
}

func (t *identityToken) reread() time.Duration { return 0 }
