package vault

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A site is a Vault of pkg/mock and a source that asks it with a token of its own.
type site struct {
	vault  *mock.Vault
	keys   *mock.Keys
	source *Source
	url    string
	token  string
}

// newSite starts one. Without a change the source reads sts/ and the names of the
// mock's roles.
func newSite(t *testing.T, o mock.VaultOptions, change func(o *Options)) *site {
	t.Helper()
	s := &site{keys: &mock.Keys{}}
	o.Keys = s.keys
	s.vault = mock.NewVault(o)
	s.url, s.token = testkit.Serve(t, s.vault).URL, s.vault.IssueToken(mock.VaultGrant{})
	options := Defaults()
	options.Address = []string{s.url}
	options.Auth = Auth{Method: "token", Token: credential.SecretRef{Value: credential.NewSecret(s.token)}}
	options.AWS.Roles = map[string]Role{}
	for _, role := range o.AWSRoles {
		options.AWS.Roles[role.Name] = Role{}
	}
	options.Timeouts = upstream.Timeouts{Dial: time.Second, TLS: time.Second, Header: 2 * time.Second, Total: 4 * time.Second}
	if change != nil {
		change(options)
	}
	s.open(t, options)
	return s
}

func (s *site) open(t *testing.T, o *Options) {
	t.Helper()
	var err error
	if s.source, err = New("vault", o, nil, nil, zerolog.New(t.Output())); err != nil {
		t.Fatal(err)
	}
}

// one is a mock with one role of the AWS engine, the one named web.
func one(role mock.VaultAWSRole) mock.VaultOptions {
	role.Name = "web"
	return mock.VaultOptions{AWSRoles: []mock.VaultAWSRole{role}}
}

// get fetches a credential. What an error says must be no secret.
func (s *site) get(t *testing.T, name string) (credential.Credential, error) {
	t.Helper()
	c, err := s.source.Fetch(t.Context(), credential.Key{Name: name})
	if err != nil {
		if c != nil {
			t.Error("a credential beside an error")
		}
		if strings.Contains(err.Error(), mock.Marker) {
			t.Errorf("%v has a secret", err)
		}
		return nil, err
	}
	return c, nil
}

// fetch is get for keys that must come.
func (s *site) fetch(t *testing.T, name string) *credential.AWS {
	t.Helper()
	c, err := s.get(t, name)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*credential.AWS)
}

// says is what an error says after the request that was tried.
func (s *site) says(t *testing.T, err error) string {
	t.Helper()
	fault, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		t.Fatalf("got error %v, want one of pkg/upstream", err)
	}
	return strings.ReplaceAll(fault.Tried, s.url, "") + ": " + fault.Err.Error()
}

// lives fails unless keys live about so long, from now.
func lives(t *testing.T, c credential.Credential, want time.Duration) {
	t.Helper()
	_, expires := c.Lifetime()
	if got := time.Until(expires); got < want-5*time.Second || got > want+time.Second {
		t.Errorf("the keys live %v, want %v", got, want)
	}
}
