package webidentity

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
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
	stock    awsapi.Follower[*credential.Token] // without a base if Token is configured
	sts      *awsapi.STS
	watch    *upstream.Watch
	hostname string
}

// New checks the options and returns a source. It asks nobody and reads no file; the
// logger gets the upstream's name.
func New(name string, o *Options, b awsapi.Base, log zerolog.Logger) (*Source, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("the name of this host, for the names of sessions: %w", err)
	}
	client, err := upstream.NewClient(o.Options, log.With().Str("upstream", name).Logger())
	if err != nil {
		return nil, err
	}
	s := &Source{options: *o, sts: &awsapi.STS{Client: client, Place: o.Place}, hostname: hostname}
	if o.Base.Credential != "" {
		s.stock.Base, s.stock.Unnamed, s.stock.Wanted = b, "the base", "a token"
	}
	s.watch = upstream.NewWatch(s.Files())
	return s, nil
}

// Declared returns the configured roles, sorted.
func (s *Source) Declared() []credential.Key {
	return credential.Keys(slices.Sorted(maps.Keys(s.options.Roles)))
}

// List returns Declared: STS has no list.
func (s *Source) List(context.Context) ([]credential.Key, error) { return s.Declared(), nil }

// action is the call that is made.
const action = "AssumeRoleWithWebIdentity"

// Fetch assumes a role with the token that there is now.
func (s *Source) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	role, declared := s.options.Roles[key.Name]
	if key.Variant != "" || !declared {
		return nil, fmt.Errorf("role %q: %w in the configuration of this upstream", key, credential.ErrNotFound)
	}
	t, err := s.read()
	if err != nil {
		s.stock.Failed(nil)
		return nil, err
	}
	form := role.Form(action, awsapi.SessionName(role.SessionName, s.hostname, key.Name))
	form.Set("WebIdentityToken", t.text.Reveal())
	c, err := s.sts.Assume(ctx, awsapi.Call{Action: action, Session: role, Form: form, By: t.what, Meanings: meanings})
	if err != nil {
		s.stock.Failed(t.stored)
		if awsapi.Ended(err) && s.stock.Base != nil {
			s.stock.Base.Renew()
		}
		return nil, err
	}
	return c, nil
}

// A token is the one that an attempt has.
type token struct {
	what   string
	text   credential.Secret
	stored credential.Credential // nil for that of a file
}

// The lengths of a token that STS takes, from its API reference.
const (
	minToken = 4
	maxToken = 20_000
)

// read takes the token from its file, or from the stock.
func (s *Source) read() (t token, err error) {
	if s.stock.Base != nil {
		what, stored, err := s.stock.Read()
		if err != nil {
			return token{}, err
		}
		t = token{what, stored.Value, stored}
	} else {
		t.what = "the token"
		if s.options.Token.File != "" {
			t.what = "the token in " + s.options.Token.File
		}
		if t.text, err = s.options.Token.Read(); err != nil {
			return token{}, &awsapi.BaseError{Text: "the token cannot be read: " + err.Error(), Cause: err}
		}
	}
	text := t.text.Reveal()
	if len(text) < minToken || len(text) > maxToken || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return token{}, &awsapi.BaseError{Text: fmt.Sprintf("%s is no JWT: it must be one line of %d to %d printable characters without blanks", t.what, minToken, maxToken)}
	}
	return t, nil
}

// Skew returns the clock of STS minus ours, 0 if unknown or below two seconds.
func (s *Source) Skew() time.Duration { return s.sts.Client.Skew() }

// Files lists the files that are read again when they change.
func (s *Source) Files() []string {
	files := s.sts.Client.Files()
	if s.options.Token.File != "" {
		files = append(files, s.options.Token.File)
	}
	return files
}

// Changed reports, once, that one of Files changed since it was last asked, or that
// the stored token is another than the one with which the latest attempt failed.
func (s *Source) Changed() bool {
	files := s.watch.Changed()
	return s.stock.Base != nil && s.stock.Changed() || files
}

// Check reports what is wrong with Files for the present account, without asking STS.
func (s *Source) Check() error {
	if err := upstream.CheckReadable(s.Files()); err != nil {
		return err
	}
	return s.sts.Client.Check()
}
