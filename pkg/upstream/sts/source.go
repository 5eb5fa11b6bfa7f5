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
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A Base is the stored credential that roles are assumed with. Its methods do not
// wait, and are safe for concurrent use.
type Base interface {
	// Get returns it as it is in stock. The key may be known without it. An error is
	// one of package credential's, or says itself what is wrong with the base.
	Get() (credential.Key, credential.Credential, error)
	// Renew asks for a new one: STS says that this one has ended.
	Renew()
}

// A Source is one configured upstream. It is safe for concurrent use and fits
// pkg/refresh.
type Source struct {
	options  Options
	base     Base
	sts      *awsapi.STS
	watch    *upstream.Watch
	signer   *v4.Signer
	hostname string
	// seen is the access key ID of the base that the latest failure had, empty if it
	// had none.
	seen atomic.Pointer[string]
}

// New checks the options and returns a source. It asks nobody and reads no file; the
// logger gets the upstream's name.
func New(name string, o *Options, b Base, log zerolog.Logger) (*Source, error) {
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
	return &Source{
		options: *o, base: b, sts: &awsapi.STS{Client: client, Place: o.Place}, watch: upstream.NewWatch(client.Files()),
		signer: v4.NewSigner(), hostname: hostname,
	}, nil
}

// Declared returns the configured roles, sorted.
func (s *Source) Declared() []credential.Key {
	keys := make([]credential.Key, 0, len(s.options.Roles))
	for _, name := range slices.Sorted(maps.Keys(s.options.Roles)) {
		keys = append(keys, credential.Key{Name: name})
	}
	return keys
}

// List returns Declared: STS has no list.
func (s *Source) List(context.Context) ([]credential.Key, error) { return s.Declared(), nil }

// Fetch assumes a role with the base that is in stock now.
func (s *Source) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	role, declared := s.options.Roles[key.Name]
	if key.Variant != "" || !declared {
		return nil, fmt.Errorf("role %q: %w in the configuration of this upstream", key, credential.ErrNotFound)
	}
	b, err := s.read()
	if err != nil {
		s.seen.Store(new(string))
		return nil, err
	}
	c, err := s.assume(ctx, key.Name, role, b)
	if err != nil {
		s.seen.Store(&b.keys.AccessKeyID)
		if fault, ok := errors.AsType[*upstream.Error](err); ok && fault.Kind == upstream.ClassExpired && fault.Status >= 400 {
			s.base.Renew()
		}
		return nil, err
	}
	return c, nil
}

// A base is the one that an attempt has.
type base struct {
	name string
	keys *credential.AWS
}

func (b base) String() string { return fmt.Sprintf("the base %q", b.name) }

// read takes the base from the stock.
func (s *Source) read() (base, error) {
	key, c, err := s.base.Get()
	which := fmt.Sprintf("the base %q", key)
	if key.Name == "" {
		which = "the base"
		if s.options.Base.Upstream != "" {
			which = fmt.Sprintf("the base from upstream %q", s.options.Base.Upstream)
		}
	}
	if err != nil {
		return base{}, missing(which, err)
	}
	keys, ok := c.(*credential.AWS)
	if !ok {
		return base{}, &baseError{text: which + " is no pair of AWS keys"}
	}
	return base{key.String(), keys}, nil
}

// action is the call that is made.
const action = "AssumeRole"

// assume asks STS.
func (s *Source) assume(ctx context.Context, name string, role Role, b base) (*credential.AWS, error) {
	return s.sts.Assume(ctx, awsapi.Call{
		Action: action, Session: role.Session, By: b.String(), Meanings: meanings,
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
func (s *Source) Files() []string { return s.sts.Client.Files() }

// Changed reports, once, that one of Files changed since it was last asked, or that
// the base is another than the one with which the latest attempt failed.
func (s *Source) Changed() bool {
	files := s.watch.Changed()
	now := ""
	if b, err := s.read(); err == nil {
		now = b.keys.AccessKeyID
	}
	before := s.seen.Swap(&now)
	return files || now != "" && (before == nil || now != *before)
}

// Check reports what is wrong with Files for the present account, without asking STS.
func (s *Source) Check() error { return s.sts.Client.Check() }
