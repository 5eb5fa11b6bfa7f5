package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend/imds"
)

// Files of the runtime folder, beside the admin socket. systemd empties it at boot.
const (
	sessionTokensFile = "session-tokens.key"
	authorizationFile = "authorization"
)

// localKeys are the secrets between Purser and its clients on this host. They are
// kept over a restart, because SDKs remember session tokens for hours.
type localKeys struct {
	sessionTokens []byte
	authorization credential.Secret
}

// runtimeFolder is where the admin socket and the local keys are.
func runtimeFolder(c *config.Config) string { return filepath.Dir(c.Admin.Socket) }

// loadKeys reads the local keys, or makes them. Files made by root are given to the
// account that serves later, so that a start without root finds them its own.
func loadKeys(folder string, uid, gid int) (*localKeys, error) {
	key, err := keep(filepath.Join(folder, sessionTokensFile), 0o600, uid, gid,
		func(b []byte) bool { return len(b) == imds.TokenKeyBytes }, imds.NewTokenKey)
	if err != nil {
		return nil, err
	}
	// No line end: SDKs would take it as part of the token and fail.
	token, err := keep(filepath.Join(folder, authorizationFile), 0o644, uid, gid,
		func(b []byte) bool { return len(b) >= 26 && isText(b) }, func() []byte { return []byte(rand.Text()) })
	if err != nil {
		return nil, err
	}
	return &localKeys{sessionTokens: key, authorization: credential.NewSecret(string(token))}, nil
}

func isText(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// keep returns what is in a file of ours, or replaces it if it is of no use.
func keep(path string, mode fs.FileMode, uid, gid int, useful func([]byte) bool, generate func() []byte) ([]byte, error) {
	if b, err := readOwn(path, uid); err == nil && useful(b) {
		return b, os.Chmod(path, mode)
	}
	b := generate()
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return nil, fmt.Errorf("%w; Purser keeps its session keys there, so the folder must be its own", err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(b)
	err = errors.Join(err, temporary.Chmod(mode), give(temporary, uid, gid), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// give changes the owner where only root could have made the file.
func give(f *os.File, uid, gid int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(uid, gid)
}

// maxKeyFile bounds what is read of a file of ours, in bytes.
const maxKeyFile = 4096

// readOwn reads a file that nobody else can have written. It does not follow links.
func readOwn(path string, uid int) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile || info.Mode().Perm()&0o022 != 0 || !ownedBy(info, uid) {
		return nil, fmt.Errorf("%s is not a file of ours", path)
	}
	return os.ReadFile(path)
}
