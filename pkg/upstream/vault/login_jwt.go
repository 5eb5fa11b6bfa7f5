package vault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
)

// A jwtMethod logs in with a JWT from a file: of an issuer that Vault trusts, or of
// Kubernetes.
type jwtMethod struct {
	auth *Auth
	log  zerolog.Logger
}

func (m *jwtMethod) login(ctx context.Context, s sender) (*token, error) {
	ref := m.auth.JWT
	if ref.IsZero() {
		ref.File = serviceAccount
	}
	jwt, err := ref.Read()
	if err != nil {
		return nil, material("jwt", err)
	}
	t, err := present(ctx, s, m.auth, jwt, m.log)
	if end, ok := endOf(jwt); err != nil && ok && time.Now().After(end) {
		fault := faultOf(err)
		fault.Err = fmt.Errorf("%w; by its own words the JWT ended at %s", fault.Err, clock(end, time.Now()))
		return nil, fault
	}
	return t, err
}

// serviceAccount is where Kubernetes puts the token of a pod.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// present logs in with a JWT.
func present(ctx context.Context, s sender, a *Auth, jwt credential.Secret, log zerolog.Logger) (*token, error) {
	text := strings.TrimSpace(jwt.Reveal())
	if len(text) > maxToken || strings.Count(text, ".") != 2 {
		return nil, material("jwt", errors.New("is no JWT: three parts with a dot between them"))
	}
	body := map[string]any{"jwt": text}
	if a.Role != "" { // the mount may have a default
		body["role"] = a.Role
	}
	return logIn(ctx, s, a, request{method: http.MethodPost, path: a.loginPath(), body: body}, log)
}

// endOf reads when a JWT ends, which only Vault can judge; for messages.
func endOf(jwt credential.Secret) (time.Time, bool) {
	parts := strings.Split(strings.TrimSpace(jwt.Reveal()), ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, false
	}
	var claims struct {
		Exp float64 `json:"exp"`
	}
	if json.Unmarshal(text, &claims) != nil || claims.Exp <= 0 || claims.Exp > 1e11 {
		return time.Time{}, false
	}
	return time.Unix(int64(claims.Exp), 0), true
}
