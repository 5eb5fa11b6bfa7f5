package vault

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// staticKeys are those of an IAM user that exists, which Vault rotates now and then.
// They have no end: AWS takes the former ones until the rotation after the next.
type staticKeys struct {
	session asker
	path    string
	every   time.Duration // as configured

	rotation atomic.Pointer[time.Time] // the next one, where Vault says it
}

func (k *staticKeys) fetch(ctx context.Context) (credential.Credential, error) {
	a, err := k.session.ask(ctx, request{path: k.path})
	if err != nil {
		return nil, err
	}
	keys, err := keysIn(a, a.secret.Data, "access_key", "secret_key", "")
	if err != nil {
		return nil, err
	}
	k.rotation.Store(nil)
	if text, ok := a.secret.Data["expiration"].(string); ok {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			k.rotation.Store(&at)
		}
	}
	return keys, nil
}

// afterRotation is how soon keys are read after Vault rotated them.
const afterRotation = 10 * time.Second

// reread is soon after the next rotation if that comes first. A rotation that is
// overdue is waited for.
func (k *staticKeys) reread() time.Duration {
	at := k.rotation.Load()
	if at == nil {
		return k.every
	}
	every := k.every
	if every == 0 {
		every = time.Hour
	}
	return min(every, max(time.Until(*at)+afterRotation, time.Minute))
}
