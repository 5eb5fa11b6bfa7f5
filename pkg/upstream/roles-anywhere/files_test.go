package rolesanywhere

import (
	"os"
	"path/filepath"
	"testing"
)

// secretText is in whatever must never be seen.
const secretText = "CONFIDENTIAL0123456789"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write puts text into a file by rename.
func write(t *testing.T, path string, text []byte) {
	t.Helper()
	must(t, os.WriteFile(path+".new", text, 0o600))
	must(t, os.Rename(path+".new", path))
}

func tempFile(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	write(t, path, text)
	return path
}
