// Package static is the upstream without anyone to ask: AWS keys that the configuration
// holds, or files that it names, such as the keys of an IAM user. They have no end, and
// what Purser adds is who may have them.
//
// Files are read again when one of them changes, so keys are rotated by replacing them.
// Where key and secret are files of their own, they are read as one set: a moment in
// which one is new and the other old does not reach the stock if they are replaced
// within half a second. Keys that end belong in kind files or process, which know when.
package static

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// Options are the keys of an upstream of kind static.
type Options struct {
	// Credentials are by the name that programs here see.
	Credentials map[string]Pair `koanf:"credentials"`
}

// A Pair is one set of keys. Each part may be a file.
type Pair struct {
	AccessKeyID     credential.SecretRef `koanf:"access_key_id"`
	SecretAccessKey credential.SecretRef `koanf:"secret_access_key"`
	SessionToken    credential.SecretRef `koanf:"session_token"`
	AccountID       string               `koanf:"account_id"`
}

// Defaults returns the options of an upstream that sets none.
func Defaults() *Options { return &Options{} }

// Validate reports every error of form, each beginning with its key. It opens no file.
func (o *Options) Validate() error {
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if len(o.Credentials) == 0 {
		fault("credentials: missing, such as NAME: {access_key_id: AKIAEXAMPLE, secret_access_key: {file: /etc/purser/secret}}")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Credentials)) {
		p := o.Credentials[name]
		if err := credential.CheckName(name); err != nil {
			fault("credentials: %w", err)
		}
		if p.AccessKeyID.IsZero() {
			fault("credentials.%s.access_key_id: missing, such as AKIAEXAMPLE or {file: PATH}", name)
		}
		if p.SecretAccessKey.IsZero() {
			fault("credentials.%s.secret_access_key: missing, such as {file: PATH}", name)
		}
		if p.AccountID != "" && !credential.IsAccountID(p.AccountID) {
			fault("credentials.%s.account_id: %q is not an account's twelve digits; put them in quotes", name, p.AccountID)
		}
	}
	return errors.Join(all...)
}

// files lists those that a pair is read from.
func (p Pair) files() (files []string) {
	for _, ref := range []credential.SecretRef{p.AccessKeyID, p.SecretAccessKey, p.SessionToken} {
		if ref.File != "" {
			files = append(files, ref.File)
		}
	}
	return files
}

// A Source is one configured upstream. It is safe for concurrent use and fits
// pkg/refresh.
type Source struct {
	options Options
	record  upstream.Record
}

// New checks the options and returns a source. It reads no file.
func New(_ string, o *Options, _ zerolog.Logger) (*Source, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Source{options: *o}, nil
}

// Declared returns the configured credentials, sorted.
func (s *Source) Declared() []credential.Key {
	return credential.Keys(slices.Sorted(maps.Keys(s.options.Credentials)))
}

// List returns Declared: there is nobody to ask.
func (s *Source) List(context.Context) ([]credential.Key, error) { return s.Declared(), nil }

// Fetch reads a pair.
func (s *Source) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	p, declared := s.options.Credentials[key.Name]
	if key.Variant != "" || !declared {
		return nil, fmt.Errorf("credential %q: %w in the configuration of this upstream", key, credential.ErrNotFound)
	}
	var keys *credential.AWS
	err := s.record.Read(ctx, key, p.files(), func() (err error) {
		keys, err = p.read(key.Name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

func (p Pair) read(name string) (*credential.AWS, error) {
	keys := upstream.Keys{Account: upstream.Part{Name: "account_id", Value: p.AccountID}}
	for _, part := range []struct {
		name string
		ref  credential.SecretRef
		into *upstream.Part
	}{
		{"access_key_id", p.AccessKeyID, &keys.ID},
		{"secret_access_key", p.SecretAccessKey, &keys.Secret},
		{"session_token", p.SessionToken, &keys.Token},
	} {
		value, err := part.ref.Read()
		if err != nil {
			return nil, fmt.Errorf("credentials.%s.%s: %w", name, part.name, err)
		}
		part.into.Name, part.into.Value = part.name, value.Reveal()
		if part.ref.File != "" {
			part.into.Name += " in " + part.ref.File
		}
	}
	return keys.AWS("credentials." + name)
}

// Replaced reports, once, that a file is another than the one that was read.
func (s *Source) Replaced() bool { return s.record.Replaced() }

// Check reports which files the present account cannot read.
func (s *Source) Check() error { return upstream.CheckReadable(s.Files()) }

// Files lists the files that are read again when they change.
func (s *Source) Files() (files []string) {
	for _, key := range s.Declared() {
		files = append(files, s.options.Credentials[key.Name].files()...)
	}
	return files
}
