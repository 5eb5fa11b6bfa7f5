package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// maxOutput bounds what a program prints, in bytes: the largest session tokens have
// some thousand.
const maxOutput = 64 << 10

// A Source is one configured upstream. It is safe for concurrent use and fits
// pkg/refresh.
type Source struct {
	options  Options
	programs upstream.Programs
	log      zerolog.Logger
	files    []string
	watch    *upstream.Watch
}

// New checks the options and returns a source. It runs nothing and reads no file; the
// logger gets the upstream's name.
func New(name string, o *Options, programs upstream.Programs, log zerolog.Logger) (*Source, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Source{options: *o, programs: programs, log: log.With().Str("upstream", name).Logger()}
	watched := []string{}
	for _, name := range slices.Sorted(maps.Keys(o.Credentials)) {
		c := o.Credentials[name]
		for _, variable := range slices.Sorted(maps.Keys(c.Env)) {
			if file := c.Env[variable].File; file != "" {
				s.files = append(s.files, file)
			}
		}
		if c.Socket != "" {
			watched = append(watched, c.Socket)
		} else {
			watched = append(watched, c.Command[0])
		}
	}
	s.watch = upstream.NewWatch(append(watched, s.files...))
	return s, nil
}

// Declared returns the configured credentials, sorted.
func (s *Source) Declared() []credential.Key {
	return credential.Keys(slices.Sorted(maps.Keys(s.options.Credentials)))
}

// List returns Declared: there is nobody to ask.
func (s *Source) List(context.Context) ([]credential.Key, error) { return s.Declared(), nil }

// Fetch runs the program of a credential, or asks its socket.
func (s *Source) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	c, declared := s.options.Credentials[key.Name]
	if key.Variant != "" || !declared {
		return nil, fmt.Errorf("credential %q: %w in the configuration of this upstream", key, credential.ErrNotFound)
	}
	var (
		tried  string
		output []byte
		err    error
	)
	if c.Socket != "" {
		tried = "socket " + c.Socket
		output, err = ask(ctx, c.Socket, c.timeout())
	} else {
		tried = "program " + c.Command[0]
		output, err = s.run(ctx, key, c)
	}
	if err != nil {
		return nil, err
	}
	keys, err := parse(tried, output)
	if err != nil { // not keys in whose place there is nothing
		return nil, err
	}
	return keys, nil
}

// run runs a program and returns what it printed.
func (s *Source) run(ctx context.Context, key credential.Key, c Credential) ([]byte, error) {
	p := upstream.Program{Args: c.Command, Timeout: c.timeout(), Most: maxOutput}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		value, err := c.Env[name].Read()
		if err != nil {
			return nil, fmt.Errorf("env.%s: %w", name, err)
		}
		p.Env = append(p.Env, name+"="+value.Reveal())
	}
	log := s.log.With().Stringer("credential", key).Str("program", c.Command[0]).Logger()
	return s.programs.Run(ctx, p, func(line string) {
		log.Info().Str("line", line).Msg("the program says on its standard error")
	})
}

// parse reads what credential_process may print. No error quotes it.
func parse(tried string, output []byte) (*credential.AWS, error) {
	fault := func(class upstream.Class, err error) (*credential.AWS, error) {
		return nil, &upstream.Error{Kind: class, Tried: tried, Err: err}
	}
	if len(bytes.TrimSpace(output)) == 0 {
		return fault(upstream.ClassIncomplete, errors.New("it printed nothing; it must print keys in the form of credential_process"))
	}
	fields, err := upstream.ParseFields(output, "Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "AccountId")
	if err != nil {
		return fault(upstream.ClassMalformed, err)
	}
	switch version := string(fields["Version"]); version {
	case "1":
	case "":
		return fault(upstream.ClassIncomplete, errors.New("the answer has no Version; it must print keys in the form of credential_process"))
	default:
		return fault(upstream.ClassMalformed, errors.New("the Version of the answer is not the number 1, the only form of credential_process that there is"))
	}
	keys, text := upstream.Keys{}, ""
	for _, field := range []struct {
		name string
		into *upstream.Part
	}{
		{"AccessKeyId", &keys.ID}, {"SecretAccessKey", &keys.Secret}, {"SessionToken", &keys.Token}, {"AccountId", &keys.Account},
	} {
		field.into.Name = field.name
		if field.into.Value, err = fields.Text(field.name); err != nil {
			return fault(upstream.ClassMalformed, err)
		}
	}
	if text, err = fields.Text("Expiration"); err != nil {
		return fault(upstream.ClassMalformed, err)
	}
	if raw, ok := fields["Expiration"]; ok && string(raw) != "null" {
		if keys.Expires, err = upstream.ParseTime(text); err != nil {
			return fault(upstream.ClassMalformed, fmt.Errorf("the Expiration %w", err))
		}
	}
	return keys.AWS(tried)
}

// Files lists the files that are read again when a program is run.
func (s *Source) Files() []string { return s.files }

// Changed reports, once, that a program, a socket or one of Files changed since it was
// last asked.
func (s *Source) Changed() bool { return s.watch.Changed() }

// Check reports what the present account cannot run or read. A socket may come later.
func (s *Source) Check() error {
	all := []error{upstream.CheckReadable(s.files)}
	for _, key := range s.Declared() {
		if c := s.options.Credentials[key.Name]; c.Socket == "" {
			if err := upstream.CheckExecutable(c.Command[0]); err != nil {
				all = append(all, fmt.Errorf("credentials.%s.command: %s: %w", key, c.Command[0], err))
			}
		}
	}
	return errors.Join(all...)
}

// Warnings name the programs that everybody may replace, and so run as Purser's account.
func (s *Source) Warnings() (warnings []string) {
	for _, key := range s.Declared() {
		c := s.options.Credentials[key.Name]
		if c.Socket != "" {
			continue
		}
		if open := openToAll(c.Command[0]); open != "" {
			warnings = append(warnings, fmt.Sprintf("everybody on this host can change what credentials.%s.command runs as Purser's account: %s is writable for all", key, open))
		}
	}
	return warnings
}

// openToAll is what everybody may write to: a program, or a folder on the way to it in
// which files of others can be replaced.
func openToAll(path string) string {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err == nil && info.Mode()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
			return at
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}
