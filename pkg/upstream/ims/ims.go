// Package ims asks an identity service that is shaped like the AWS instance
// metadata service: the federation proxy of alppaca (AFP), or anything else that
// answers <url>/meta-data/iam/security-credentials/ with role names and, with a name
// at its end, with that role's keys.
//
// It leaves connections, proxies, TLS and time-outs to pkg/upstream, and when to ask
// to pkg/refresh: a listing costs AFP a real AssumeRole, a document another.
package ims

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

const path = "/meta-data/iam/security-credentials/"

// Options are the keys of an upstream of this kind.
type Options struct {
	// URL is the base URL, to which the path of the metadata service is added; with
	// several the next is asked where one does not work.
	URL []string `koanf:"url"`
	// Roles declares what this upstream grants, by the name it has here; with none
	// the upstream is asked for its list.
	Roles map[string]Role `koanf:"roles"`
	// AccountID is the account that the keys belong to, where front ends show one.
	AccountID string `koanf:"account_id"`

	upstream.Options `koanf:",squash"`
}

// A Role is a declared role.
type Role struct {
	// Role is the upstream's name for it; empty means the same name.
	Role string `koanf:"role"`
}

// Defaults returns the options of an upstream that sets none.
func Defaults() *Options { return &Options{Options: upstream.Defaults()} }

// Validate reports every error of form, each beginning with its key. It opens no
// file and asks nobody.
func (o *Options) Validate() error {
	var all []error
	if len(o.URL) == 0 {
		all = append(all, errors.New("url: missing, such as https://ims.example.com/latest"))
	}
	seen := map[string]bool{}
	for i, raw := range o.URL {
		which := "url"
		if len(o.URL) > 1 {
			which = fmt.Sprintf("url: number %d of %d", i+1, len(o.URL))
		}
		base := trimBase(raw)
		if _, err := upstream.ParseURL(raw); err != nil {
			all = append(all, fmt.Errorf("%s: %w", which, err))
		} else if seen[base] {
			all = append(all, fmt.Errorf("%s: %q is there twice", which, raw))
		}
		seen[base] = true
	}
	for _, name := range slices.Sorted(maps.Keys(o.Roles)) {
		if err := credential.CheckName(name); err != nil {
			all = append(all, fmt.Errorf("roles: %w", err))
		} else if err := checkRole(o.role(name)); err != nil {
			all = append(all, fmt.Errorf("roles.%s.role: %w", name, err))
		}
	}
	if o.AccountID != "" && !credential.IsAccountID(o.AccountID) {
		all = append(all, fmt.Errorf("account_id: %q is not an account's twelve digits; put them in quotes", o.AccountID))
	}
	return errors.Join(append(all, o.Options.Validate())...)
}

func (o *Options) role(name string) string {
	if role := o.Roles[name].Role; role != "" {
		return role
	}
	return name
}

// checkRole is laxer than credential.CheckName: the upstream's own name only has to
// survive as one escaped segment of a path.
func checkRole(role string) error {
	if len(role) > 256 || role == "." || role == ".." || !utf8.ValidString(role) || strings.ContainsFunc(role, unicode.IsControl) {
		return fmt.Errorf("%q cannot be asked for in a URL", role)
	}
	return nil
}

func trimBase(raw string) string { return strings.TrimRight(raw, "/") }

// A Source is one configured upstream. It is safe for concurrent use and fits
// pkg/refresh.
type Source struct {
	options   Options
	log       zerolog.Logger
	client    *upstream.Client
	endpoints *upstream.Endpoints
	watch     *upstream.Watch
}

// New checks the options and returns a source. It asks nobody and reads no file; the
// logger gets the upstream's name.
func New(name string, o *Options, log zerolog.Logger) (*Source, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	log = log.With().Str("upstream", name).Logger()
	client, err := upstream.NewClient(o.Options, log)
	if err != nil {
		return nil, err
	}
	bases := make([]string, 0, len(o.URL))
	for _, raw := range o.URL {
		bases = append(bases, trimBase(raw)+path)
	}
	return &Source{
		options:   *o,
		log:       log,
		client:    client,
		endpoints: upstream.NewEndpoints(bases),
		watch:     upstream.NewWatch(client.Files()),
	}, nil
}

// Declared returns the roles that the configuration names, sorted.
func (s *Source) Declared() []credential.Key {
	if len(s.options.Roles) == 0 {
		return nil // the upstream lists them
	}
	return credential.Keys(slices.Sorted(maps.Keys(s.options.Roles)))
}

// List returns the declared roles without asking or, if none is declared, those that
// the upstream lists, in its order. An empty list is no error: the upstream has no
// role for this host. Names that cannot be used are logged and left out.
func (s *Source) List(ctx context.Context) ([]credential.Key, error) {
	if len(s.options.Roles) > 0 {
		return s.Declared(), nil
	}
	var names []string
	err := s.ask(ctx, "", func(a *upstream.Answer) error {
		found, skipped, err := parseList(a.Body)
		if err != nil {
			return a.Errorf(upstream.ClassMalformed, "%w", err)
		}
		if len(skipped) > 0 {
			s.log.Warn().AnErr("first", skipped[0]).Int("count", len(skipped)).Msg("listed roles cannot be used")
		}
		names = found
		return nil
	})
	if fault, ok := errors.AsType[*upstream.Error](err); ok && fault.Status == http.StatusNotFound {
		return nil, fmt.Errorf("role list: %w; url must end before /meta-data/, mostly with /latest", err)
	}
	if err != nil {
		return nil, fmt.Errorf("role list: %w", err)
	}
	return credential.Keys(names), nil
}

// Fetch returns a role's keys. An incomplete or expired document is an error, and so
// is an empty one: the upstream has no such role.
func (s *Source) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	_, declared := s.options.Roles[key.Name]
	if key.Variant != "" || len(s.options.Roles) > 0 && !declared {
		return nil, fmt.Errorf("role %q: %w in the configuration of this upstream", key, credential.ErrNotFound)
	}
	role := s.options.role(key.Name)
	if err := checkRole(role); err != nil || role == "" {
		return nil, fmt.Errorf("role %q: %w: no upstream can have it", key, credential.ErrNotFound)
	}
	var keys *credential.AWS
	err := s.ask(ctx, role, func(a *upstream.Answer) error {
		found, err := s.credential(a)
		keys = found
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("role %q: %w", key.Name, err)
	}
	return keys, nil
}

// ask gets the list, or the document of a role, from the first address that has an
// answer which read accepts, all within one Timeouts.Total.
func (s *Source) ask(ctx context.Context, role string, read func(*upstream.Answer) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeouts.Total)
	defer cancel()
	return s.endpoints.Try(ctx, func(ctx context.Context, base string) error {
		answer, err := s.client.Get(ctx, base+escape(role))
		if err != nil {
			return err
		}
		if err := answer.Check(); err != nil {
			return err
		}
		return read(answer)
	})
}

func (s *Source) credential(a *upstream.Answer) (*credential.AWS, error) {
	if strings.TrimSpace(string(a.Body)) == "" {
		return nil, a.Errorf(upstream.ClassEmpty, "the answer is empty: the upstream has no such role for this host")
	}
	doc, err := parseDocument(a.Body)
	if err != nil {
		return nil, a.Errorf(upstream.ClassMalformed, "%w", err)
	}
	if err := doc.complete(); err != nil {
		return nil, a.Errorf(upstream.ClassIncomplete, "%w", err)
	}
	now, skew := time.Now(), s.client.Skew()
	if !doc.expiration.After(now) {
		return nil, a.Errorf(upstream.ClassExpired, "the credential ended at %s, %v ago%s",
			doc.expiration.Format(time.RFC3339), now.Sub(doc.expiration).Round(time.Second), skewHint(skew))
	}
	return &credential.AWS{
		AccessKeyID:     doc.accessKeyID,
		SecretAccessKey: credential.NewSecret(doc.secretAccessKey),
		SessionToken:    credential.NewSecret(doc.token),
		AccountID:       s.options.AccountID,
		Issued:          doc.issued(now, skew),
		Expires:         doc.expiration,
	}, nil
}

func skewHint(skew time.Duration) string {
	switch {
	case skew > 0:
		return fmt.Sprintf("; the upstream's clock is %v ahead of ours", skew)
	case skew < 0:
		return fmt.Sprintf("; the upstream's clock is %v behind ours", -skew)
	}
	return ""
}

// Skew returns the upstream's clock minus ours, 0 if unknown or below two seconds.
func (s *Source) Skew() time.Duration { return s.client.Skew() }

// Files lists the files that are read again when they change.
func (s *Source) Files() []string { return s.client.Files() }

// Changed reports, once, that one of Files changed since it was last asked.
func (s *Source) Changed() bool { return s.watch.Changed() }

// Check reports what is wrong with Files for the current user, without asking the
// upstream.
func (s *Source) Check() error { return s.client.Check() }

// escape makes a role one segment of a path. A plus sign is escaped as well: some
// servers take it for a space.
func escape(role string) string {
	return strings.ReplaceAll(url.PathEscape(role), "+", "%2B")
}
