package vault

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// An engine gives one credential. It is safe for concurrent use.
type engine interface {
	// fetch asks Vault once for it; the error is an *upstream.Error, in words of ours.
	fetch(ctx context.Context) (credential.Credential, error)
	// reread is how long it may go without being asked for again if it has no end; 0
	// leaves that open.
	reread() time.Duration
}

// A Source is one configured upstream. It is safe for concurrent use and fits
// pkg/refresh.
type Source struct {
	options *Options
	server  *server
	leases  *leases
	engines map[credential.Key]engine
	handed  atomic.Bool // the session will be, to the next process
}

// New checks the options and returns a source. It asks nobody and reads no file; the
// logger gets the upstream's name. The base is for a login with AWS keys, the programs
// for one with what a program prints; either may be nil if the options need none.
func New(name string, o *Options, b awsapi.Base, programs upstream.Programs, log zerolog.Logger) (*Source, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("the name of this host, for the names of sessions: %w", err)
	}
	log = log.With().Str("upstream", name).Logger()
	client, err := newClient(o.Options, o.Address, o.Namespace, log)
	if err != nil {
		return nil, err
	}
	server := newServer(client, o.Auth, b, programs, log)
	s := &Source{options: o, server: server, leases: newLeases(server, log), engines: map[credential.Key]engine{}}
	var unknown atomic.Int64
	add := func(name string, e engine) { s.engines[credential.Key{Name: name}] = e }
	for name, role := range o.AWS.Roles {
		mount, path := cmp.Or(role.Mount, o.AWS.Mount), role.path(name)
		if role.static(name) {
			add(name, &staticKeys{session: server, path: mount + "/" + path, every: role.Reread})
			continue
		}
		add(name, &awsRole{
			options: role, mount: mount, path: path, sessionName: awsapi.SessionName(role.SessionName, hostname, name),
			session: server, leases: s.leases, unknown: &unknown, log: log,
		})
	}
	for name, keys := range o.KV.Keys {
		add(name, &kvKeys{options: keys, mount: cmp.Or(keys.Mount, "secret"), session: server})
	}
	for name, token := range o.IdentityTokens {
		add(name, &identityToken{session: server, role: cmp.Or(token.Role, name)})
	}
	return s, nil
}

// Declared returns what is configured, sorted.
func (s *Source) Declared() []credential.Key {
	keys := make([]credential.Key, 0, len(s.engines))
	for key := range s.engines {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b credential.Key) int { return strings.Compare(a.Name, b.Name) })
	return keys
}

// List returns Declared: Vault does not say what is for this host.
func (s *Source) List(context.Context) ([]credential.Key, error) { return s.Declared(), nil }

// Fetch reads one credential.
func (s *Source) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	e, declared := s.engines[key]
	if !declared {
		return nil, fmt.Errorf("%q: %w in the configuration of this upstream", key, credential.ErrNotFound)
	}
	return e.fetch(ctx)
}

// Reread is how long keys without an end may go without being read again.
func (s *Source) Reread(key credential.Key) time.Duration {
	if e, ok := s.engines[key]; ok {
		return e.reread()
	}
	return 0
}

// Skew returns the clock of Vault minus ours, 0 if unknown or below two seconds.
func (s *Source) Skew() time.Duration { return s.server.skew() }

// Files lists the files that are read again when they change.
func (s *Source) Files() []string { return s.server.files() }

// Removes lists the files that are removed after they were read.
func (s *Source) Removes() []string {
	if !s.options.Auth.RemoveSecretID {
		return nil
	}
	return []string{s.options.Auth.SecretID.File}
}

// Changed reports, once, that something changed which a failed attempt depends on: one
// of Files, or the base of the login.
func (s *Source) Changed() bool { return s.server.changed() }

// Hurry ends the pauses that the session makes after failures, but for the least time
// between two logins, and those after answers that make another question look pointless.
func (s *Source) Hurry() {
	s.server.reset()
	for _, e := range s.engines {
		if r, ok := e.(*awsRole); ok {
			r.hurry()
		}
	}
}

// Supersedes reports whether the keys that Fetch gave last are those of a new user, since
// those of the user before may be gone: then they count, also if they end earlier.
func (s *Source) Supersedes(key credential.Key) bool {
	r, ok := s.engines[key].(*awsRole)
	return ok && r.given().instead
}

// Check reports what is wrong with Files for the present account, without asking Vault.
func (s *Source) Check() error { return s.server.check() }

// Warnings say which files of the login everybody may read.
func (s *Source) Warnings() (warnings []string) {
	for _, file := range s.options.Auth.exposed() {
		warnings = append(warnings, fmt.Sprintf("every account of this host may read %s, which the login is made with; take that right away (chmod o-r)", file))
	}
	return warnings
}

// Spends names what a login uses up that the next one would need, if it does.
func (s *Source) Spends() string { return s.options.Auth.spends() }

// Detail says in a few words how the session with Vault is.
func (s *Source) Detail() string { return s.server.detail() }

// Bounds of what is done at the end. A restart must not wait for a Vault that hangs,
// unless the configuration wants all to be given back.
const (
	givingBack = 2 * time.Second
	goodbye    = 250 * time.Millisecond
)

// Run looks after the session until ctx ends. Then all that was made for this host is
// given back where that is configured, or else the token, unless keys of users would go
// with it or the next process will have it.
func (s *Source) Run(ctx context.Context) {
	s.server.run(ctx)
	if s.options.RevokeOnStop {
		s.Discard()
		return
	}
	if !s.leases.users() && !s.handed.Load() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
		defer cancel()
		s.server.close(ctx)
	}
}

// Discard gives back what was made for this host: leases, and the token if a login of
// ours made it. Nothing is to be asked any more.
func (s *Source) Discard() {
	ctx, cancel := context.WithTimeout(context.Background(), givingBack)
	defer cancel()
	s.leases.revoke(ctx)
	s.server.close(ctx)
}
