// Package testkit is what tests of several packages share. Of what is tested it knows
// pkg/credential only, and no program imports it.
//
// Stand-ins for services are in pkg/mock. What only one package needs stays in its tests.
package testkit

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

// Update is the flag that has tests write what they would compare with.
var Update = flag.Bool("update", false, "write what tests compare with")

// Golden compares text with a file of testdata.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *Update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}
