package vault

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"github.com/rs/zerolog"
)

// A certMethod logs in with the client certificate of the connection.
type certMethod struct {
	auth        *Auth
	certificate func() *x509.Certificate // the one that is presented now
	log         zerolog.Logger
}

func (m *certMethod) login(ctx context.Context, s sender) (*token, error) {
	body := map[string]any{}
	if m.auth.Role != "" {
		body["name"] = m.auth.Role
	}
	t, err := logIn(ctx, s, m.auth, request{method: http.MethodPost, path: m.auth.loginPath(), body: body}, m.log)
	if err == nil {
		return t, nil
	}
	fault, leaf, now := faultOf(err), m.certificate(), time.Now()
	switch {
	case leaf == nil:
	case now.After(leaf.NotAfter):
		fault.Err = fmt.Errorf("%w; the certificate in tls.certificate expired at %s", fault.Err, clock(leaf.NotAfter, now))
	case now.Before(leaf.NotBefore):
		fault.Err = fmt.Errorf("%w; the certificate in tls.certificate is not valid before %s", fault.Err, clock(leaf.NotBefore, now))
	}
	return nil, fault
}
