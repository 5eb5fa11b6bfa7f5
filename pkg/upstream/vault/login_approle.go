package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// An appRole logs in with a role ID and, mostly, a secret ID.
type appRole struct {
	auth *Auth
	log  zerolog.Logger

	// The latest secret ID is kept where the file may not give it again: it was behind
	// a wrapping token, or the file was removed.
	latest credential.Secret
	// wrap is the wrapping token that it came from, or that was reported to be bad.
	wrap credential.Secret
	// removed is that the file was removed by us.
	removed bool
}

func (m *appRole) login(ctx context.Context, s sender) (*token, error) {
	roleID, err := m.auth.RoleID.Read()
	if err != nil {
		return nil, material("role_id", err)
	}
	body := map[string]any{"role_id": roleID.Reveal()}
	if !m.auth.SecretID.IsZero() {
		secretID, err := m.secretID(ctx, s)
		if err != nil {
			return nil, err
		}
		body["secret_id"] = secretID.Reveal()
	}
	t, err := logIn(ctx, s, m.auth, request{method: http.MethodPost, path: m.auth.loginPath(), body: body}, m.log)
	if err == nil {
		m.remove()
	}
	return t, err
}

// secretID reads it, from behind its wrapping token if that is configured.
func (m *appRole) secretID(ctx context.Context, s sender) (credential.Secret, error) {
	read, err := m.auth.SecretID.Read()
	if errors.Is(err, fs.ErrNotExist) && m.removed {
		return m.latest, nil
	}
	if errors.Is(err, fs.ErrNotExist) && m.auth.RemoveSecretID {
		err = fmt.Errorf("%w; remove_secret_id has it removed after a login, so each start needs a new one", err)
	}
	if err != nil {
		return credential.Secret{}, material("secret_id", err)
	}
	m.removed = false
	if !m.auth.SecretIDWrapped {
		m.latest = read
		return read, nil
	}
	if read.Reveal() == m.wrap.Reveal() && !m.latest.Empty() {
		return m.latest, nil
	}
	m.latest = credential.Secret{}
	secretID, err := m.unwrap(ctx, s, read)
	if err != nil {
		return credential.Secret{}, err
	}
	m.latest, m.wrap = secretID, read
	return secretID, nil
}

// unwrap opens a wrapping token, after a look at what made it: somebody could have put
// a secret ID of theirs behind another one.
func (m *appRole) unwrap(ctx context.Context, s sender, wrap credential.Secret) (credential.Secret, error) {
	if err := checkToken(wrap); err != nil {
		return credential.Secret{}, material("secret_id", fmt.Errorf("%s: %w", m.auth.SecretID.File, err))
	}
	body := map[string]any{"token": wrap.Reveal()}
	seen, err := s.send(ctx, credential.Secret{}, request{method: http.MethodPost, path: "sys/wrapping/lookup", namespace: m.auth.Namespace, body: body})
	if isCause(err, badWrap) {
		return credential.Secret{}, m.alarm(wrap, err, "the wrapping token in %s is not valid any more: somebody has used it before, it came too late, or Purser was started again with it. If it was not Purser, the secret ID is in other hands: have it revoked. Issue a new one in any case", m.auth.SecretID.File)
	}
	if err != nil {
		return credential.Secret{}, err
	}
	path, _ := seen.secret.Data["creation_path"].(string)
	if want := m.auth.secretIDPath(); path != want && path != m.auth.Namespace+"/"+want {
		return credential.Secret{}, m.alarm(wrap, seen.raw.Errorf(upstream.ClassRefused, "bad path"),
			"the wrapping token in %s was not made by %s, so it was not opened: somebody may have exchanged it. Find out who wrote the file, and issue a new one", m.auth.SecretID.File, want)
	}
	got, err := s.send(ctx, wrap, request{method: http.MethodPost, path: "sys/wrapping/unwrap", namespace: m.auth.Namespace})
	if isCause(err, badWrap) {
		return credential.Secret{}, m.alarm(wrap, err, "the wrapping token in %s was used by somebody else in this very moment: have the secret ID revoked, and issue a new one", m.auth.SecretID.File)
	}
	if err != nil {
		return credential.Secret{}, err
	}
	secretID, _ := got.secret.Data["secret_id"].(string)
	if secretID == "" {
		return credential.Secret{}, got.raw.Errorf(upstream.ClassIncomplete, "there is no secret_id behind the wrapping token in %s; issue a new one", m.auth.SecretID.File)
	}
	return credential.NewSecret(secretID), nil
}

// alarm says, once for each wrapping token, that something may be wrong which is worse
// than a fault.
func (m *appRole) alarm(wrap credential.Secret, err error, format string, args ...any) error {
	fault := faultOf(err)
	fault.Kind, fault.Err = upstream.ClassRefused, fmt.Errorf("SECURITY: "+format, args...)
	if wrap.Reveal() != m.wrap.Reveal() {
		m.wrap = wrap
		m.log.Error().Err(fault).Msg("the secret ID may be in other hands")
	}
	return fault
}

// remove removes the file of the secret ID if that is configured.
func (m *appRole) remove() {
	if !m.auth.RemoveSecretID || m.removed {
		return
	}
	m.removed = true
	if err := os.Remove(m.auth.SecretID.File); err != nil {
		m.log.Warn().Err(err).Msg("the file of the secret ID could not be removed; its folder must let this account do that")
	}
}
