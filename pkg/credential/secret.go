package credential

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

const redacted = "[redacted]"

// A Secret is text that cannot be printed: every fmt verb, encoding/json, YAML and
// the loggers show [redacted], also when it sits in an unexported field, where fmt
// would ignore methods of a plain string type. The zero Secret is empty.
type Secret struct{ text *string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal is the only way to the text. Each use of it is a place where a secret
// leaves Purser on purpose.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Empty reports whether there is no text.
func (s Secret) Empty() bool { return s.text == nil || *s.text == "" }

// String prints [redacted].
func (Secret) String() string { return redacted }

// GoString prints [redacted] for %#v.
func (Secret) GoString() string { return redacted }

// Format prints [redacted] for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText prints [redacted] for JSON, YAML and the loggers.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// maxSecretFile bounds what is read from a secret's file, in bytes. The largest
// secrets are JWTs and PEM bundles.
const maxSecretFile = 64 << 10

// A SecretRef is a secret from the configuration: given in place, or as a file
// that is read again at each use, so that a rotated file needs no restart.
type SecretRef struct {
	Value Secret
	File  string
}

// IsZero reports whether nothing was configured.
func (r SecretRef) IsZero() bool { return r.File == "" && r.Value.Empty() }

// Read returns the secret. From a file it drops one line end, as editors and echo
// add one. Errors name the file and never what is in it.
func (r SecretRef) Read() (Secret, error) {
	if r.File == "" {
		return r.Value, nil
	}
	f, err := os.OpenFile(r.File, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe would wait
	if err != nil {
		return Secret{}, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return Secret{}, fmt.Errorf("%s: not a regular file", r.File)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return Secret{}, err
	}
	if len(text) > maxSecretFile {
		return Secret{}, fmt.Errorf("%s: longer than %d bytes, which no secret is", r.File, maxSecretFile)
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(text) == 0 {
		return Secret{}, fmt.Errorf("%s: %w", r.File, errors.New("the file is empty"))
	}
	return NewSecret(string(text)), nil
}
