package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/purser-agent/purser/pkg/frontend/imds"
	"github.com/purser-agent/purser/pkg/testkit"
)

func mustLoadKeys(t *testing.T, folder string) *localKeys {
	t.Helper()
	keys, err := loadKeys(folder, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// checkKeyFiles demands that the files hold the keys as clients and a later start
// need them, and that nothing else is left in the folder.
func checkKeyFiles(t *testing.T, folder string, keys *localKeys) {
	t.Helper()
	for _, want := range []struct {
		name string
		text []byte
		mode fs.FileMode
	}{
		{sessionTokensFile, keys.sessionTokens, 0o600},
		{authorizationFile, []byte(keys.authorization.Reveal()), 0o644},
	} {
		info, err := os.Lstat(filepath.Join(folder, want.name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want.mode {
			t.Errorf("%s: got mode %v, want %v", want.name, info.Mode(), want.mode)
		}
		text, err := os.ReadFile(filepath.Join(folder, want.name))
		if err != nil || !bytes.Equal(text, want.text) {
			t.Errorf("%s: the file holds %q (%v), want %q", want.name, text, err, want.text)
		}
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 2 {
		t.Errorf("got %v (%v), want the two files alone", entries, err)
	}
}

func TestKeysAreMadeOnce(t *testing.T) {
	folder := t.TempDir()
	old := syscall.Umask(0o077) // the authorization file is for everybody all the same
	defer syscall.Umask(old)
	first := mustLoadKeys(t, folder)
	checkKeyFiles(t, folder, first)
	if len(first.sessionTokens) != imds.TokenKeyBytes {
		t.Errorf("the key of session tokens has %d bytes", len(first.sessionTokens))
	}
	if token := first.authorization.Reveal(); len(token) < 26 || strings.TrimSpace(token) != token {
		t.Errorf("got the authorization token %q, want a long one without a line end", token)
	}

	again := mustLoadKeys(t, folder)
	checkKeyFiles(t, folder, again)
	if !bytes.Equal(again.sessionTokens, first.sessionTokens) || again.authorization.Reveal() != first.authorization.Reveal() {
		t.Error("a restart made new keys, which clients do not have")
	}

	other := mustLoadKeys(t, t.TempDir())
	if bytes.Equal(other.sessionTokens, first.sessionTokens) || other.authorization.Reveal() == first.authorization.Reveal() {
		t.Error("two hosts have the same keys")
	}
}

func TestKeysThatSomebodyElseMayKnowOrMadeAreReplaced(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(path string) error
	}{
		{"empty", func(path string) error { return os.Truncate(path, 0) }},
		{"cut off", func(path string) error { return os.Truncate(path, 20) }},
		{"with a line end", func(path string) error { return appendTo(path, "\n") }},
		{"with a byte that is no text", func(path string) error { return appendTo(path, "\xff") }},
		{"far too long", func(path string) error { return appendTo(path, strings.Repeat("\n", maxKeyFile)) }},
		{"writable for the group", func(path string) error { return os.Chmod(path, 0o660) }},
		{"writable for everybody", func(path string) error { return os.Chmod(path, 0o646) }},
		{"somebody else's", func(path string) error { return os.Chown(path, 12345, 12345) }},
		{"a link", func(path string) error {
			return errors.Join(os.Rename(path, path+".elsewhere"), os.Symlink(path+".elsewhere", path))
		}},
		{"a link to nowhere", func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink(path+".elsewhere", path))
		}},
		{"a pipe, which would hold up the start", func(path string) error {
			return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "somebody else's" && os.Getuid() != 0 {
				testkit.Lacks(t, "root, to make a file that belongs to somebody else")
			}
			folder := t.TempDir()
			before := mustLoadKeys(t, folder)
			for _, name := range []string{sessionTokensFile, authorizationFile} {
				if err := c.spoil(filepath.Join(folder, name)); err != nil {
					t.Fatal(err)
				}
			}
			after := mustLoadKeys(t, folder)
			if bytes.Equal(after.sessionTokens, before.sessionTokens) || after.authorization.Reveal() == before.authorization.Reveal() {
				t.Error("they are still in use")
			}
			for _, name := range []string{sessionTokensFile, authorizationFile} {
				_ = os.Remove(filepath.Join(folder, name+".elsewhere"))
			}
			checkKeyFiles(t, folder, after)
		})
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func TestALinkInPlaceOfAKeyIsLeftAlone(t *testing.T) {
	folder, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "shadow")
	secret := bytes.Repeat([]byte{'x'}, imds.TokenKeyBytes) // long enough for either key
	if err := os.WriteFile(elsewhere, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{sessionTokensFile, authorizationFile} {
		if err := os.Symlink(elsewhere, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	keys := mustLoadKeys(t, folder)
	checkKeyFiles(t, folder, keys)
	info, err := os.Stat(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(elsewhere); err != nil || !bytes.Equal(text, secret) || info.Mode() != 0o600 {
		t.Errorf("what the link leads to was changed: %q, mode %v, %v", text, info.Mode(), err)
	}
	if bytes.Equal(keys.sessionTokens, secret) || keys.authorization.Reveal() == string(secret) {
		t.Error("what the link leads to became a key, which callers can read")
	}
}

func TestAKeyOfAnotherModeIsReplaced(t *testing.T) {
	folder := t.TempDir()
	before := mustLoadKeys(t, folder)
	for name, mode := range map[string]fs.FileMode{sessionTokensFile: 0o640, authorizationFile: 0o600} {
		if err := os.Chmod(filepath.Join(folder, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	after := mustLoadKeys(t, folder)
	checkKeyFiles(t, folder, after)
	if bytes.Equal(after.sessionTokens, before.sessionTokens) {
		t.Error("the key of session tokens is still in use")
	}
	if after.authorization.Reveal() == before.authorization.Reveal() {
		t.Error("the authorization token, which clients could not read, is still in use")
	}
}

func TestAKeyUnderAnotherNameElsewhereIsReplaced(t *testing.T) {
	folder, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "other")
	before := mustLoadKeys(t, folder)
	if err := os.Link(filepath.Join(folder, sessionTokensFile), elsewhere); err != nil {
		t.Fatal(err)
	}
	if after := mustLoadKeys(t, folder); bytes.Equal(after.sessionTokens, before.sessionTokens) {
		t.Error("a hard link is still in use")
	}
}

func TestAFolderThatTakesNoKeysIsAnError(t *testing.T) {
	_, err := loadKeys(filepath.Join(t.TempDir(), "missing"), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "missing") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want an error that names the folder", err)
	}
}
