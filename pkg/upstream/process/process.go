// Package process is the upstream that another program is: one that prints AWS keys in
// the form of credential_process, which most tools that log in to AWS know. It is run as
// Purser's own account, by way of pkg/helper; or it is asked through a Unix socket, behind
// which systemd runs it as another one (Accept=yes), so that what it needs to log in is
// not Purser's to read.
//
// Who listens at such a socket could give keys of an account of its own, and so see what
// programs write there: only root and Purser's own account are believed. Whoever may
// replace the file of the socket does not matter then. With Accept=yes systemd listens.
//
// A program's standard error goes to the log and what it prints nowhere. When to run it
// is left to pkg/refresh: ahead of each Expiration, hourly without one.
package process

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// Options are the keys of an upstream of kind process.
type Options struct {
	// Credentials are by the name that programs here see.
	Credentials map[string]Credential `koanf:"credentials"`
}

// A Credential says what is run for it, or which socket gives it.
type Credential struct {
	// Command is the absolute path of a program and its arguments. There is no shell.
	Command []string `koanf:"command"`
	// Env is the program's environment, besides a fixed PATH and the account's HOME.
	Env map[string]credential.SecretRef `koanf:"env"`
	// Socket is the path of a Unix socket, instead of a command.
	Socket string `koanf:"socket"`
	// Timeout bounds one run, or one answer of a socket; 10 seconds if zero.
	Timeout time.Duration `koanf:"timeout"`
}

// The bounds of Timeout: check and reload wait for 15 seconds, and nobody longer than a
// minute.
const (
	defaultTimeout = 10 * time.Second
	maxTimeout     = 50 * time.Second
)

// Defaults returns the options of an upstream that sets none.
func Defaults() *Options { return &Options{} }

// Validate reports every error of form, each beginning with its key. It opens no file
// and runs nothing.
func (o *Options) Validate() error {
	var all []error
	if len(o.Credentials) == 0 {
		all = append(all, errors.New("credentials: missing, such as NAME: {command: [/usr/local/bin/get-keys]}"))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Credentials)) {
		if err := credential.CheckName(name); err != nil {
			all = append(all, fmt.Errorf("credentials: %w", err))
		}
		for _, err := range o.Credentials[name].check() {
			all = append(all, fmt.Errorf("credentials.%s.%w", name, err))
		}
	}
	return errors.Join(all...)
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (c Credential) check() (all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	switch {
	case len(c.Command) == 0 && c.Socket == "":
		fault("command: missing, such as [/usr/local/bin/get-keys]; or socket names one to ask")
	case len(c.Command) > 0 && c.Socket != "":
		fault("socket: there is a command, too; one of them gives the keys")
	case c.Socket != "" && !filepath.IsAbs(c.Socket):
		fault("socket: %q does not start with /", c.Socket)
	case c.Socket != "" && len(c.Env) > 0:
		fault("env: only a command has an environment; the unit behind the socket has Environment=")
	case len(c.Command) > 0 && !filepath.IsAbs(c.Command[0]):
		fault("command: %q does not start with /; a program needs its whole path", c.Command[0])
	case slices.ContainsFunc(c.Command, func(arg string) bool { return strings.Contains(arg, "\x00") }):
		fault("command: an argument has a zero byte")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		switch {
		case !variable.MatchString(name):
			fault("env: %q cannot be the name of a variable", name)
		case strings.Contains(c.Env[name].Value.Reveal(), "\x00"):
			fault("env.%s: the value has a zero byte", name)
		}
	}
	if c.Timeout < 0 || c.Timeout > maxTimeout {
		fault("timeout: %v is not between 0s and %v", c.Timeout, maxTimeout)
	}
	return all
}

func (c Credential) timeout() time.Duration { return cmp.Or(c.Timeout, defaultTimeout) }
