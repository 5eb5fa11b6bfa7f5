package vault

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A gate is a Vault on loopback and a session with it.
type gate struct {
	*server
	vault *mock.Vault
	http  *httptest.Server
	said  *testkit.Log
}

// A setting is what a gate is made of. The login is by AppRole unless it says
// otherwise.
type setting struct {
	vault     mock.VaultOptions
	auth      Auth
	namespace string
	base      awsapi.Base
	programs  upstream.Programs
	client    func(o *upstream.Options, s *httptest.Server)
	secure    bool
}

const (
	roleID   = "5ec7e7f1-role"
	secretID = "CONFIDENTIAL-secret-id"
)

// newGate starts it. Nothing is asked yet.
func newGate(t *testing.T, s setting) *gate {
	t.Helper()
	if s.auth.Method == "" {
		s.auth = byAppRole(t)
	}
	if s.vault.AppRoles == nil {
		s.vault.AppRoles = []mock.VaultAppRole{{Name: "web", RoleID: roleID, SecretIDs: []mock.VaultSecretID{{ID: secretID}}}}
	}
	p := &gate{vault: mock.NewVault(s.vault), said: &testkit.Log{}}
	p.http = httptest.NewUnstartedServer(p.vault)
	p.http.Config.ConnState = p.vault.ConnState
	o := upstream.Defaults()
	o.Timeouts = upstream.Timeouts{Dial: time.Second, TLS: time.Second, Header: 2 * time.Second, Total: 4 * time.Second}
	if s.client != nil {
		s.client(&o, p.http)
	}
	if s.secure {
		p.http.StartTLS()
	} else {
		p.http.Start()
	}
	t.Cleanup(p.http.Close)
	if err := s.auth.Validate(); err != nil {
		t.Fatal(err)
	}
	log := zerolog.New(p.said)
	c, err := newClient(o, []string{p.http.URL}, s.namespace, log)
	if err != nil {
		t.Fatal(err)
	}
	p.server = newServer(c, s.auth, s.base, s.programs, log)
	t.Cleanup(func() {
		if text := p.said.String(); strings.Contains(text, "CONFIDENTIAL") || strings.Contains(text, mock.Marker) {
			t.Errorf("the log shows a secret: %s", text)
		}
	})
	return p
}

func byAppRole(t *testing.T) Auth {
	t.Helper()
	return Auth{Method: "approle", RoleID: credential.SecretRef{Value: credential.NewSecret(roleID)}, SecretID: secretFile(t, secretID)}
}

// keys asks for AWS keys, which a session that is logged in gets.
func (p *gate) keys(t *testing.T) error {
	t.Helper()
	got, err := p.ask(t.Context(), request{path: "aws/sts/test_role"})
	if err == nil && got.secret.Data["access_key"] == nil {
		t.Fatal("the answer has no keys")
	}
	if err != nil && (strings.Contains(err.Error(), "CONFIDENTIAL") || strings.Contains(err.Error(), mock.Marker)) {
		t.Errorf("an error shows a secret: %v", err)
	}
	return err
}

// says is the part of an error that is in words of ours, without the address.
func says(t *testing.T, err error) (upstream.Class, string) {
	t.Helper()
	fault, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		t.Fatalf("got %v, want an *upstream.Error", err)
	}
	return fault.Kind, fault.Err.Error()
}

// again lets a session try at once what it would wait for.
func (p *gate) again() {
	p.reset()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = time.Time{}
}

// A printer is a program that prints a text.
type printer struct {
	text string
	err  error
	ran  upstream.Program
}

func (p *printer) Run(_ context.Context, program upstream.Program, diagnose func(string)) ([]byte, error) {
	p.ran = program
	if p.err != nil {
		diagnose("no ticket")
	}
	return []byte(p.text), p.err
}
