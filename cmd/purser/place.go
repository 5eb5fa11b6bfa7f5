package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/config"
)

// systemSocket is where the admin socket of a system's Purser is.
const systemSocket = "/run/purser/purser.sock"

// placeSocket moves the admin socket of a normal user to a folder of their own,
// unless the configuration names one, or the system's is theirs (as with systemd's
// User= and RuntimeDirectory=).
func placeSocket(c *config.Config) error {
	if _, set := c.Origin("admin", "socket"); set || os.Geteuid() == 0 || unix.Access(filepath.Dir(systemSocket), unix.W_OK) == nil {
		return nil
	}
	folder, err := makeOwnFolder()
	if err != nil {
		return err
	}
	c.Admin.Socket = filepath.Join(folder, filepath.Base(systemSocket))
	return nil
}

// ownFolder is the folder for sockets and keys of a normal user: below
// $XDG_RUNTIME_DIR, or else one in the temporary folder.
func ownFolder() string {
	if base := os.Getenv("XDG_RUNTIME_DIR"); base != "" {
		return filepath.Join(base, "purser")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("purser-%d", os.Getuid()))
}

// makeOwnFolder makes it, so that nobody else can enter, or makes sure that nobody
// else made it.
func makeOwnFolder() (string, error) {
	folder := ownFolder()
	if err := os.Mkdir(folder, 0o700); err != nil && !os.IsExist(err) {
		return "", err
	}
	if !isOwn(folder) {
		return "", fmt.Errorf("%s is not a folder of this user alone; remove it, or set XDG_RUNTIME_DIR", folder)
	}
	return folder, nil
}

// isOwn reports whether a folder is one that nobody else can put anything into.
func isOwn(folder string) bool {
	info, err := os.Lstat(folder)
	return err == nil && info.IsDir() && info.Mode().Perm()&0o022 == 0 && ownedBy(info, os.Getuid())
}

// besideSocket is a file of the runtime folder of whichever Purser is there: the
// user's own, if it runs, or the system's.
func besideSocket(name string) string {
	if folder := ownFolder(); os.Geteuid() != 0 && isOwn(folder) && exists(filepath.Join(folder, name)) {
		return filepath.Join(folder, name)
	}
	return filepath.Join(filepath.Dir(systemSocket), name)
}

// defaultSocket is where an operator's command looks for the daemon.
func defaultSocket() string { return besideSocket(filepath.Base(systemSocket)) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// ownedBy reports whether a file belongs to an account, or to root, who may do
// everything anyway.
func ownedBy(info fs.FileInfo, uid int) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (int(stat.Uid) == uid || stat.Uid == 0)
}
