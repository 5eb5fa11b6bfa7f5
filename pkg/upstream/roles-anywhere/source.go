package rolesanywhere

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A Source is one configured upstream. It is safe for concurrent use and fits
// pkg/refresh.
type Source struct {
	options  Options
	client   *upstream.Client
	kept     *upstream.Kept[*identity]
	watch    *upstream.Watch
	hostname string
	log      zerolog.Logger

	mu     sync.Mutex // guards warned
	warned time.Time  // when the log last had a warning of the certificate's end
}

// New checks the options and returns a source. It asks nobody and reads no file; the
// logger gets the upstream's name.
func New(name string, o *Options, log zerolog.Logger) (*Source, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("the name of this host, for the names of sessions: %w", err)
	}
	log = log.With().Str("upstream", name).Logger()
	client, err := upstream.NewClient(o.Options, log)
	if err != nil {
		return nil, err
	}
	s := &Source{options: *o, client: client, hostname: hostname, log: log}
	s.kept = upstream.Keep(s.ownFiles(), s.options.load, log)
	s.watch = upstream.NewWatch(s.Files())
	return s, nil
}

// Declared returns the configured roles, sorted.
func (s *Source) Declared() []credential.Key {
	return credential.Keys(slices.Sorted(maps.Keys(s.options.Roles)))
}

// List returns Declared: the service has no list.
func (s *Source) List(context.Context) ([]credential.Key, error) { return s.Declared(), nil }

// Fetch gets a session of a role with the certificate as it is in its file now.
func (s *Source) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	role, declared := s.options.Roles[key.Name]
	if key.Variant != "" || !declared {
		return nil, fmt.Errorf("role %q: %w in the configuration of this upstream", key, credential.ErrNotFound)
	}
	id, err := s.identity()
	if err != nil {
		return nil, &identityError{err}
	}
	c, err := s.ask(ctx, key.Name, role, id)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// identity is the one to ask with now.
func (s *Source) identity() (*identity, error) {
	id, loaded, fault := s.kept.Get()
	if !loaded {
		return nil, fault
	}
	now := time.Now().Add(s.client.Skew())
	if err := id.current(s.options.Certificate, now); err != nil {
		if fault != nil {
			err = fmt.Errorf("%w; the files have changed since, but cannot be used: %w", err, fault)
		}
		return nil, err
	}
	s.warn(id, now)
	return id, nil
}

// warn logs once a day that the certificate is about to end.
func (s *Source) warn(id *identity, now time.Time) {
	left, soon := id.ending(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !soon:
		s.warned = time.Time{}
	case now.Sub(s.warned) >= 24*time.Hour:
		s.warned = now
		s.log.Warn().Str("certificate", s.options.Certificate).Str("expires", stamp(id.leaf.NotAfter)).Stringer("left", left).
			Msg("the certificate is about to expire, and no renewal has come yet")
	}
}

// ask makes a CreateSession call once.
func (s *Source) ask(ctx context.Context, name string, role Role, id *identity) (*credential.AWS, error) {
	body, err := s.body(name, role)
	if err != nil {
		return nil, err
	}
	query := url.Values{"profileArn": {s.options.ProfileARN}, "roleArn": {role.RoleARN}, "trustAnchorArn": {s.options.TrustAnchorARN}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.options.place().URL(service)+"sessions?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if err := s.sign(id, req, body); err != nil {
		return nil, &identityError{err}
	}
	answer, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	if answer.Check() != nil {
		return nil, s.explain(answer, role, id)
	}
	return s.credential(answer, role)
}

// body is what the service is asked for.
func (s *Source) body(name string, role Role) ([]byte, error) {
	request := struct {
		DurationSeconds int    `json:"durationSeconds"`
		RoleSessionName string `json:"roleSessionName,omitempty"`
	}{DurationSeconds: int(role.session().Length() / time.Second)}
	if role.SessionName != "" {
		request.RoleSessionName = awsapi.SessionName(role.SessionName, s.hostname, name)
	}
	return json.Marshal(request)
}

func (s *Source) credential(a *upstream.Answer, role Role) (*credential.AWS, error) {
	if strings.TrimSpace(string(a.Body)) == "" {
		return nil, a.Errorf(upstream.ClassIncomplete, "the answer is empty; is the endpoint one of Roles Anywhere?")
	}
	keys, err := parseAnswer(a.Body)
	if err != nil {
		return nil, a.Errorf(upstream.ClassMalformed, "%w", err)
	}
	return awsapi.SessionOf(a, keys, role.RoleARN, s.client.Skew())
}

// Skew returns the service's clock minus ours, 0 if unknown or below two seconds.
func (s *Source) Skew() time.Duration { return s.client.Skew() }

// ownFiles are those of the certificate and its key.
func (s *Source) ownFiles() []string {
	return slices.DeleteFunc([]string{s.options.Certificate, s.options.Chain, s.options.Key, s.options.KeyPassword.File},
		func(path string) bool { return path == "" })
}

// Files lists the files that are read again when they change.
func (s *Source) Files() []string { return append(s.ownFiles(), s.client.Files()...) }

// Devices lists the device that a key in a TPM needs.
func (s *Source) Devices() []string {
	if s.options.TPM == "" {
		return nil
	}
	return []string{s.options.TPM}
}

// Changed reports, once, that one of Files changed since it was last asked.
func (s *Source) Changed() bool { return s.watch.Changed() }

// Check reports what is wrong with Files for the present account, without asking the
// service or signing anything: a TPM counts wrong passwords. Neither does it look at the
// certificate's dates, since a start must not fail for what a renewal will mend.
func (s *Source) Check() error {
	if err := upstream.CheckReadable(s.ownFiles()); err != nil {
		return err
	}
	id, err := s.options.load()
	if err != nil {
		return err
	}
	if key, ok := id.key.(*tpmSigner); ok {
		if err := key.checkDevice(); err != nil {
			return err
		}
	}
	return s.client.Check()
}

// sign signs by the clock of the service, so that a wrong one of ours does no harm.
func (s *Source) sign(id *identity, req *http.Request, body []byte) error {
	if err := id.sign(req, body, s.options.place().Region, time.Now().Add(s.client.Skew())); err != nil {
		return fmt.Errorf("key: %s: signing: %w", s.options.Key, err)
	}
	return nil
}

// Warnings are what goes wrong, or will, unless somebody sees to it.
func (s *Source) Warnings() []string {
	id, _, err := s.kept.Get()
	if err != nil {
		return nil // Check says it
	}
	now := time.Now().Add(s.client.Skew())
	if err := id.current(s.options.Certificate, now); err != nil {
		return []string{err.Error()}
	}
	if left, soon := id.ending(now); soon {
		return []string{fmt.Sprintf("the certificate in %s expires on %s, in %v, and no renewal has come yet", s.options.Certificate, stamp(id.leaf.NotAfter), left)}
	}
	return nil
}
