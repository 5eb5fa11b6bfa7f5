package refresh_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// A resting source asks nobody after a failure until it is hurried.
type resting struct {
	*upstream
	rests atomic.Bool
}

func (r *resting) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	if r.rests.Load() {
		return nil, errors.New("no request before noon")
	}
	c, err := r.upstream.Fetch(ctx, key)
	r.rests.Store(err != nil)
	return c, err
}

func (r *resting) Hurry() { r.rests.Store(false) }

func TestRefreshEndsThePausesOfASource(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		source := &resting{upstream: newUpstream("web")}
		source.down, source.declared = errDown, true
		l := h.run(h.loop("vault", source))
		time.Sleep(10 * time.Minute)
		if n := source.fetched("web"); n != 1 {
			t.Fatalf("the upstream was asked %d times while its source kept from that", n)
		}
		source.set(func() { source.down = nil })
		if err := l.Refresh(t.Context(), "web"); err != nil {
			t.Error(err)
		}
	})
}
