package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/status"
	"github.com/purser-agent/purser/pkg/telemetry"
	"github.com/purser-agent/purser/pkg/upstream"
)

// anyRole is an upstream that may be asked for every credential of its name and the
// variants of it, and takes its time to answer.
type anyRole struct {
	name string
	slow time.Duration
}

func (s anyRole) List(context.Context) ([]credential.Key, error) { return nil, nil }
func (s anyRole) Allows(key credential.Key) bool                 { return key.Name == s.name }
func (s anyRole) Check() error                                   { return nil }

func (s anyRole) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(s.slow):
		return &credential.AWS{
			AccessKeyID: s.name + key.Variant, SecretAccessKey: credential.NewSecret("s"), SessionToken: credential.NewSecret("t"),
			Issued: time.Now(), Expires: time.Now().Add(time.Hour),
		}, nil
	}
}

// startLines runs an agent's lines without its sockets.
func startLines(t *testing.T, sources map[string]source) *agent {
	t.Helper()
	a := &agent{log: zerolog.New(t.Output()), lines: map[string]*line{}, config: &config.Config{OnDemand: config.OnDemand{Wait: 400 * time.Millisecond}}}
	a.ready = status.NewReadiness(a.missing)
	a.telemetry = telemetry.New(a.telemetryOptions())
	ctx, stop := context.WithCancel(t.Context())
	for name, s := range sources {
		a.lines[name] = a.newLine(name, config.Upstream{}, s, nil)
	}
	for _, l := range a.lines {
		l.start(ctx)
	}
	t.Cleanup(func() {
		stop()
		for _, l := range a.lines {
			<-l.ended
		}
	})
	return a
}

func TestACredentialThatNobodyConfiguredAheadComesFromTheUpstreamThatAllowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := startLines(t, map[string]source{"a": anyRole{name: "web"}, "b": anyRole{name: "db"}})
		key := credential.Key{Name: "db", Variant: "audience"}
		if !a.Allows(key) {
			t.Fatal("it is not allowed")
		}
		if err := a.Want(t.Context(), key, caller.Identity{}); err != nil {
			t.Fatal(err)
		}
		got, err := a.store.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		if id := got.(*credential.AWS).AccessKeyID; id != "dbaudience" {
			t.Errorf("got the keys %s", id)
		}
	})
}

// A ghostly upstream may be asked for everything and gives nothing but web.
type ghostly struct{ anyRole }

func (ghostly) Allows(credential.Key) bool { return true }
func (s ghostly) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	if key.Name != s.name {
		return nil, &upstream.Error{Kind: upstream.ClassRefused, Tried: "AssumeRole", Err: errors.New("AccessDenied")}
	}
	return s.anyRole.Fetch(ctx, key)
}

// TestACallerOfMadeUpNamesDoesNotShutOutOthers, be it another user or another unit of the
// same one.
func TestACallerOfMadeUpNamesDoesNotShutOutOthers(t *testing.T) {
	session := func(int) caller.Identity { return caller.Identity{Known: true, UID: 1001, Unit: "session-1.scope"} }
	subordinate := func(i int) caller.Identity {
		return caller.Identity{Known: true, UID: 100_000 + uint32(i), Unit: "user@1001.service"}
	}
	for _, c := range []struct {
		hostile func(i int) caller.Identity
		other   caller.Identity
	}{
		{session, caller.Identity{Known: true, UID: 1002}},
		{session, caller.Identity{Known: true, UID: 1001, Unit: "web.service"}},
		{session, caller.Identity{}},
		{subordinate, caller.Identity{Known: true, UID: 1002}},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, other := startLines(t, map[string]source{"a": ghostly{anyRole{name: "web"}}}), c.other
			for i := range 200 {
				_ = a.Want(t.Context(), credential.Key{Name: fmt.Sprint("made-up", i)}, c.hostile(i))
			}
			if err := a.Want(t.Context(), credential.Key{Name: "web"}, other); err != nil {
				t.Errorf("%v got %v", other, err)
			}
			if _, err := a.store.Get(credential.Key{Name: "web"}); err != nil {
				t.Errorf("%v got %v", other, err)
			}
		})
	}
}

func TestACredentialThatNoUpstreamAllowsDoesNotExist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := startLines(t, map[string]source{"a": anyRole{name: "web"}})
		key := credential.Key{Name: "ghost"}
		if a.Allows(key) {
			t.Error("it is allowed")
		}
		if err := a.Want(t.Context(), key, caller.Identity{}); !errors.Is(err, credential.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func TestPromise2AFirstRequestWaitsNoLongerThanSDKsDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := startLines(t, map[string]source{"a": anyRole{name: "web", slow: time.Second}})
		key, begin := credential.Key{Name: "web", Variant: "audience"}, time.Now()
		if err := a.Want(t.Context(), key, caller.Identity{}); !errors.Is(err, credential.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took != 400*time.Millisecond {
			t.Errorf("it waited %v", took)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if _, err := a.store.Get(key); err != nil {
			t.Errorf("the fetch ended with its first caller: %v", err)
		}
	})
}
