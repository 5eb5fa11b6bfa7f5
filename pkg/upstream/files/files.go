// Package files is the upstream that another tool keeps: an AWS shared credentials file,
// such as the one of the SSM agent or of a login on the command line. Purser reads it
// again when it changes, and gives each of its profiles to those who may have it, without
// opening the file, or the home that it is in, to them.
//
// A file that is missing, half written or not as the SDKs read it is an error that names
// the line; what is in stock stays. Values are quoted nowhere. The file has to be
// readable for Purser's own account; where it may not be, kind process can ask a unit
// that may.
package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// Options are the keys of an upstream of kind files.
type Options struct {
	Path string `koanf:"path"`
	// Profiles are the profile of each credential, by the name that programs here see.
	// Without any, each profile of the file is a credential of its name.
	Profiles map[string]string `koanf:"profiles"`
}

// Defaults returns the options of an upstream that sets none.
func Defaults() *Options { return &Options{} }

// Validate reports every error of form, each beginning with its key. It opens no file.
func (o *Options) Validate() error {
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	switch {
	case o.Path == "":
		fault("path: missing, such as /var/lib/amazon/ssm/credentials")
	case !filepath.IsAbs(o.Path):
		fault("path: %q does not start with /", o.Path)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Profiles)) {
		if err := credential.CheckName(name); err != nil {
			fault("profiles: %w", err)
		}
		if o.Profiles[name] == "" {
			fault("profiles.%s: missing, such as default", name)
		}
	}
	return errors.Join(all...)
}

// A Source is one configured upstream. It is safe for concurrent use and fits
// pkg/refresh.
type Source struct {
	options Options
	log     zerolog.Logger
	record  upstream.Record
	listed  upstream.Record
}

// New checks the options and returns a source. It reads no file; the logger gets the
// upstream's name.
func New(name string, o *Options, log zerolog.Logger) (*Source, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Source{options: *o, log: log.With().Str("upstream", name).Logger()}, nil
}

// Declared returns the credentials whose profiles the configuration names, sorted, and
// nil if it names none.
func (s *Source) Declared() []credential.Key {
	if len(s.options.Profiles) == 0 {
		return nil
	}
	return credential.Keys(slices.Sorted(maps.Keys(s.options.Profiles)))
}

// List returns the declared credentials or, if there are none, the profiles of the file
// that have keys.
func (s *Source) List(ctx context.Context) ([]credential.Key, error) {
	if len(s.options.Profiles) > 0 {
		return s.Declared(), nil
	}
	var names []string
	err := s.listed.Read(ctx, credential.Key{}, []string{s.options.Path}, func() error {
		file, err := s.parse()
		if err != nil {
			return err
		}
		names = slices.DeleteFunc(file.names, func(name string) bool {
			_, has := file.profiles[name].values[accessKeyID]
			if err := credential.CheckName(name); has && err != nil {
				s.log.Warn().Err(err).Msg("a profile cannot be used")
				has = false
			}
			return !has
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.record.Keep(credential.Keys(names))
	return credential.Keys(names), nil
}

// Fetch reads a profile.
func (s *Source) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	name, declared := s.options.Profiles[key.Name]
	if key.Variant != "" || len(s.options.Profiles) > 0 && !declared {
		return nil, fmt.Errorf("credential %q: %w in the configuration of this upstream", key, credential.ErrNotFound)
	}
	if !declared {
		name = key.Name
	}
	var found *credential.AWS
	err := s.record.Read(ctx, key, []string{s.options.Path}, func() error {
		file, err := s.parse()
		if err == nil {
			found, err = s.credential(file, name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (s *Source) parse() (*ini, error) {
	text, err := upstream.ReadFile(s.options.Path)
	if err != nil {
		return nil, s.fault(upstream.ClassTransport, err)
	}
	file, err := parse(string(text))
	if err != nil {
		return nil, s.fault(upstream.ClassMalformed, err)
	}
	if len(file.names) == 0 {
		return nil, s.fault(upstream.ClassIncomplete, errors.New("there is no [profile] in it"))
	}
	return file, nil
}

func (s *Source) fault(class upstream.Class, err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok { // which names the file, too
		err = path.Err
	}
	return &upstream.Error{Kind: class, Tried: "file " + s.options.Path, Err: err}
}

// The keys of a profile.
const (
	accessKeyID  = "aws_access_key_id"
	secretKey    = "aws_secret_access_key"
	sessionToken = "aws_session_token"
	olderToken   = "aws_security_token"
	accountID    = "aws_account_id"
)

// ends are what tools call the time at which a session ends.
var ends = []string{"expiration", "aws_expiration", "aws_session_expiration", "x_security_token_expires"}

func (s *Source) credential(file *ini, name string) (*credential.AWS, error) {
	p, ok := file.profiles[name]
	if !ok {
		return nil, s.fault(upstream.ClassIncomplete, fmt.Errorf("there is no profile %q in it", name))
	}
	for _, v := range p.values {
		if strings.HasPrefix(v.text, "\"") || strings.HasPrefix(v.text, "'") {
			return nil, s.fault(upstream.ClassMalformed, fmt.Errorf("line %d: the value is in quotes, which some SDKs take for a part of it", v.line))
		}
	}
	part := func(names ...string) upstream.Part {
		for _, name := range names {
			if v, ok := p.values[name]; ok && v.text != "" {
				return upstream.Part{Name: fmt.Sprintf("%s in line %d", name, v.line), Value: v.text}
			}
		}
		return upstream.Part{Name: names[0]}
	}
	keys := upstream.Keys{ID: part(accessKeyID), Secret: part(secretKey), Token: part(sessionToken, olderToken), Account: part(accountID)}
	for _, name := range ends {
		text := part(name)
		if text.Value == "" {
			continue
		}
		end, err := parseEnd(text.Value)
		if err != nil {
			return nil, s.fault(upstream.ClassMalformed, fmt.Errorf("%s %w", text.Name, err))
		}
		if keys.Expires.IsZero() || end.Before(keys.Expires) {
			keys.Expires = end
		}
	}
	if info, err := os.Stat(s.options.Path); err == nil {
		keys.Issued = info.ModTime() // when the tool got them
	}
	return keys.AWS(fmt.Sprintf("file %s, profile %q", s.options.Path, name))
}

// parseEnd knows two more forms, of tools in Python: with a blank for the T, and, in UTC
// then, without a zone.
func parseEnd(text string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02 15:04:05Z07:00", time.DateTime} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC().Truncate(time.Second), nil
		}
	}
	return upstream.ParseTime(text)
}

// Replaced reports, once, that the file is another than the one that was read.
func (s *Source) Replaced() bool {
	listed, read := s.listed.Replaced(), s.record.Replaced()
	return listed || read
}

// Files lists the file that is read again when it changes.
func (s *Source) Files() []string { return []string{s.options.Path} }

// Check reports whether the present account cannot read the file. One that is not there
// may come later.
func (s *Source) Check() error {
	err := upstream.CheckReadable([]string{s.options.Path})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
