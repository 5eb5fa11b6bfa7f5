package sts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A Source is one configured upstream. It is safe for concurrent use and fits
// pkg/refresh.
type Source struct {
	options  Options
	stock    awsapi.Follower[*credential.AWS]
	chain    *chain // instead of stock, if that is what is configured
	sts      *awsapi.STS
	watch    *upstream.Watch
	signer   *v4.Signer
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
	s := &Source{options: *o, sts: &awsapi.STS{Client: client, Place: o.Place}, signer: v4.NewSigner(), hostname: hostname}
	if o.Base.Chain != "" {
		s.chain = &chain{options: o.Base, region: o.Region, client: client}
	}
	s.stock.Base, s.stock.Wanted, s.stock.Unnamed = b, "a pair of AWS keys", "the base"
	if o.Base.Upstream != "" {
		s.stock.Unnamed = fmt.Sprintf("the base from upstream %q", o.Base.Upstream)
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

// Allows reports whether key is the ARN of a role that may be assumed on demand.
func (s *Source) Allows(key credential.Key) bool {
	_, _, ok := s.onDemand(key)
	return ok
}

// onDemand returns a role that somebody may ask for by its ARN, and its own name. All
// that a session of it depends on is in the configuration of the one pattern that fits,
// so the ARN alone tells one session from another.
func (s *Source) onDemand(key credential.Key) (name string, role Role, ok bool) {
	arn, ok := awsapi.ParseRole(key.Name)
	if !ok || key.Variant != "" {
		return "", Role{}, false
	}
	for _, role := range s.options.OnDemand {
		if awsapi.RolePattern(role.RoleARN).Matches(key.Name) {
			role.RoleARN = key.Name
			return arn.Name, role, true
		}
	}
	return "", Role{}, false
}

// Patterns are those of the roles that may be assumed on demand.
func (s *Source) Patterns() (patterns []awsapi.RolePattern) {
	for _, name := range slices.Sorted(maps.Keys(s.options.OnDemand)) {
		patterns = append(patterns, awsapi.RolePattern(s.options.OnDemand[name].RoleARN))
	}
	return patterns
}

// Fetch assumes a role with the base that is in stock now.
func (s *Source) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	name := key.Name
	role, known := s.options.Roles[name]
	if !known {
		name, role, known = s.onDemand(key)
	}
	if key.Variant != "" || !known {
		return nil, fmt.Errorf("role %q: %w in the configuration of this upstream", key, credential.ErrNotFound)
	}
	b, err := s.read(ctx)
	if err != nil {
		s.stock.Failed(nil)
		return nil, err
	}
	c, err := s.assume(ctx, name, role, b)
	if err != nil {
		s.stock.Failed(b.keys)
		if awsapi.Ended(err) {
			s.renew()
		}
		return nil, err
	}
	return c, nil
}

// A base is the one that an attempt has.
type base struct {
	what string
	keys *credential.AWS
}

// read takes the base from the stock, or from the chain.
func (s *Source) read(ctx context.Context) (base, error) {
	if s.chain == nil {
		what, keys, err := s.stock.Read()
		return base{what, keys}, err
	}
	keys, from, err := s.chain.retrieve(ctx)
	return base{fmt.Sprintf("the base from the SDK's default chain (%s)", from), keys}, err
}

// renew asks for a new base: this one has ended.
func (s *Source) renew() {
	if s.chain != nil {
		s.chain.renew()
		return
	}
	s.stock.Base.Renew()
}

// action is the call that is made.
const action = "AssumeRole"

// assume asks STS.
func (s *Source) assume(ctx context.Context, name string, role Role, b base) (*credential.AWS, error) {
	return s.sts.Assume(ctx, awsapi.Call{
		Action: action, Session: role.Session, By: b.what, Meanings: meanings,
		Form: role.form(awsapi.SessionName(role.SessionName, s.hostname, name)),
		Sign: func(req *http.Request, body string) error { return s.sign(req, body, b.keys) },
	})
}

// sign signs by the clock of STS, so that a wrong one of ours does no harm.
func (s *Source) sign(req *http.Request, body string, keys *credential.AWS) error {
	digest := sha256.Sum256([]byte(body))
	signed := aws.Credentials{
		AccessKeyID:     keys.AccessKeyID,
		SecretAccessKey: keys.SecretAccessKey.Reveal(),
		SessionToken:    keys.SessionToken.Reveal(),
	}
	at := time.Now().Add(s.Skew())
	return s.signer.SignHTTP(req.Context(), signed, req, hex.EncodeToString(digest[:]), "sts", s.options.Region, at)
}

// Skew returns the clock of STS minus ours, 0 if unknown or below two seconds.
func (s *Source) Skew() time.Duration { return s.sts.Client.Skew() }

// Files lists the files that are read again when they change.
func (s *Source) Files() []string {
	files := s.sts.Client.Files()
	if s.chain != nil {
		files = append(files, s.chain.files()...)
	}
	return files
}

// Changed reports, once, that one of Files changed since it was last asked, or that
// the stored base is another than the one with which the latest attempt failed.
func (s *Source) Changed() bool {
	files := s.watch.Changed()
	return s.chain == nil && s.stock.Changed() || files
}

// Check reports what is wrong with the configured files for the present account,
// without asking STS.
func (s *Source) Check() error {
	if s.chain != nil {
		return errors.Join(s.sts.Client.Check(), s.chain.check())
	}
	return s.sts.Client.Check()
}
