package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend/imds"
	"github.com/purser-agent/purser/pkg/handover"
)

// Files of the runtime folder, beside the admin socket. systemd empties it at boot.
const (
	sessionTokensFile = "session-tokens.key"
	authorizationFile = "authorization"
)

// localKeys are the secrets between Purser and its clients on this host. They are
// kept over a restart, because SDKs remember session tokens for hours: the key of these
// in memory where that can be carried over, otherwise in a file.
type localKeys struct {
	sessionTokens []byte
	authorization credential.Secret
}

// runtimeFolder is where the admin socket and the local keys are.
func runtimeFolder(c *config.Config) string { return filepath.Dir(c.Admin.Socket) }

// sessionKey is the key that was carried over a restart, otherwise that of the file, or
// a new one. Where it is not certain that it will be carried the next time, the file is
// made as well.
func sessionKey(folder string, depot *handover.Depot, left *handover.State) ([]byte, error) {
	useful := func(b []byte) bool { return len(b) == imds.TokenKeyBytes }
	if left != nil && useful(left.SessionTokens) {
		return left.SessionTokens, nil
	}
	path := filepath.Join(folder, sessionTokensFile)
	if !depot.Certain() {
		return keep(path, 0o600, useful, imds.NewTokenKey)
	}
	if key, err := readOwn(path, 0o600); err == nil && useful(key) {
		return key, nil // of a start at which it was not certain
	}
	return imds.NewTokenKey(), nil
}

// loadKeys takes over, reads or makes the local keys.
func loadKeys(folder string, depot *handover.Depot, left *handover.State) (*localKeys, error) {
	key, err := sessionKey(folder, depot, left)
	if err != nil {
		return nil, err
	}
	// No line end: SDKs would take it as part of the token and fail.
	token, err := keep(filepath.Join(folder, authorizationFile), 0o644,
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

// keep returns what is in a file of ours, or replaces it if it is of no use. The
// folder may belong to the account that serves while root starts Purser, so nothing
// here follows a link or names a file twice.
func keep(path string, mode fs.FileMode, useful func([]byte) bool, generate func() []byte) ([]byte, error) {
	if b, err := readOwn(path, mode); err == nil && useful(b) {
		return b, nil
	}
	b := generate()
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return nil, fmt.Errorf("%w; Purser keeps its session keys there, so the folder must be its own", err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(b)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// maxKeyFile bounds what is read of a file of ours, in bytes.
const maxKeyFile = 4096

// readOwn reads a file of exactly this mode that nobody but us or root can have
// written, and that is nowhere else under another name.
func readOwn(path string, mode fs.FileMode) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode() != mode || !ownedBy(info, os.Geteuid()) || info.Sys().(*syscall.Stat_t).Nlink != 1 {
		return nil, fmt.Errorf("%s is not a file of ours", path)
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}
