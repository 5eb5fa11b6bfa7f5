package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A server is one Vault with the session that this host has there.
type server struct {
	*session
	client *client
	base   *awsapi.Follower[*credential.AWS] // of a login by AWS, else nil
	// looked is for changed, as the session has a look of its own.
	looked *upstream.Watch
}

// newServer asks nobody and reads no file. The base is for a login by AWS, the programs
// are for one by exec; else either may be nil.
func newServer(c *client, a Auth, b awsapi.Base, programs upstream.Programs, log zerolog.Logger) *server {
	if a.Namespace == "" {
		a.Namespace = c.namespace
	}
	s := &server{client: c}
	if a.Method == "aws" {
		s.base = &awsapi.Follower[*credential.AWS]{Base: b, Unnamed: a.Base.String(), Wanted: "a pair of AWS keys"}
	}
	files := slices.Concat(a.files(), c.http.Files())
	s.session = newSession(c, s.methodOf(&a, programs, log), &a, files, log)
	s.looked = upstream.NewWatch(files)
	return s
}

// methodOf returns the method that a validated Auth names.
func (s *server) methodOf(a *Auth, programs upstream.Programs, log zerolog.Logger) method {
	switch a.Method {
	case "token":
		return &tokenMethod{auth: a, log: log}
	case "approle":
		return &appRole{auth: a, log: log}
	case "cert":
		return &certMethod{auth: a, certificate: s.client.http.Certificate, log: log}
	case "ldap", "userpass":
		return &passwordMethod{auth: a, log: log}
	case "aws":
		return &awsMethod{auth: a, stock: s.base, skew: s.client.http.Skew, log: log}
	case "exec":
		return &execMethod{auth: a, programs: programs, log: log}
	}
	return &jwtMethod{auth: a, log: log}
}

// skew is the clock of Vault minus ours, 0 if unknown or below two seconds.
func (s *server) skew() time.Duration { return s.client.http.Skew() }

// files lists the files that are read again when they change.
func (s *server) files() []string { return slices.Concat(s.auth.files(), s.client.http.Files()) }

// changed reports, once, that one of files changed since it was last asked, or that the
// base of the login is another than the one with which the latest attempt failed.
func (s *server) changed() bool {
	files := s.looked.Changed()
	base := s.base != nil && s.base.Changed()
	if base {
		s.reset()
	}
	return files || base
}

// check reports what is wrong with files for the present account, without asking Vault.
// A secret ID that was removed after a login is missed by nobody while that goes on.
func (s *server) check() error {
	secrets := s.auth.secrets()
	if _, err := os.Stat(s.auth.SecretID.File); s.auth.RemoveSecretID && errors.Is(err, fs.ErrNotExist) {
		delete(secrets, "secret_id")
	}
	all := []error{upstream.CheckReadable(filesOf(secrets)), s.client.http.Check()}
	for _, key := range slices.Sorted(maps.Keys(secrets)) {
		if _, err := secrets[key].Read(); err != nil && all[0] == nil {
			all = append(all, fmt.Errorf("auth.%s: %w", key, err))
		}
	}
	return errors.Join(all...)
}
