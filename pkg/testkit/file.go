package testkit

import (
	"os"
	"path/filepath"
	"testing"
)

// Replace puts text into a file as a careful administrator does: by rename.
func Replace[Text string | []byte](t *testing.T, path string, text Text) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// File writes a file by this name into a folder of the test's own.
func File[Text string | []byte](t *testing.T, name string, text Text) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	Replace(t, path, text)
	return path
}
