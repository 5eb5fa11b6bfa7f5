package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"
)

// addSeeds seeds a fuzz target with every file of every archive in testdata.
func addSeeds(f *testing.F, add func(text []byte)) {
	f.Helper()
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		f.Fatalf("no archives in testdata: %v", err)
	}
	for _, name := range archives {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if !isResult(file) {
				add(file.Data)
			}
		}
	}
}

// checkLoad demands that a configuration is either refused with a bounded number of
// clean lines, or can be printed to a file in dir, loaded again and printed the same.
func checkLoad(t *testing.T, dir string, o Options) {
	t.Helper()
	c, err := Load(o)
	if err != nil {
		checkError(t, err)
		return
	}
	first, err := c.YAML(false)
	if err != nil {
		t.Fatalf("cannot be printed: %v", err)
	}
	if _, err := c.YAML(true); err != nil {
		t.Fatalf("cannot be printed with origins: %v", err)
	}
	name := filepath.Join(dir, "again.yaml")
	if err := os.WriteFile(name, first, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err = Load(Options{Paths: []string{name}, Kinds: o.Kinds, Dialects: o.Dialects, Environ: []string{"CREDENTIALS_DIRECTORY=/run/c"}})
	if err != nil {
		t.Fatalf("what was printed does not load: %v\n%s", err, first)
	}
	second, err := c.YAML(false)
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("printed first:\n%s\nprinted after loading that (%v):\n%s", first, err, second)
	}
}

func checkError(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	lines := strings.Split(text, "\n")
	if len(lines) > mostProblems+1 {
		t.Errorf("%d lines", len(lines))
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r == utf8.RuneError || r < ' ' && r != '\n' || r == 0x7f }) {
		t.Errorf("the error is not clean text: %q", text)
	}
}

func FuzzFile(f *testing.F) {
	addSeeds(f, func(text []byte) { f.Add(text) })
	dir := f.TempDir()
	name := filepath.Join(dir, "f.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		o := options(name)
		o.Environ = []string{"CREDENTIALS_DIRECTORY=/run/c"}
		checkLoad(t, dir, o)
	})
}

func FuzzEnvironment(f *testing.F) {
	for _, seed := range []struct{ name, text string }{
		{"LOG__LEVEL", "debug"}, {"LOG_LEVEL", "debug"}, {"LISTEN__MAIN__DIALECTS", "aws, ecs"}, {"LISTEN__X__ADDRESS", "[::1]:0"},
		{"AWS__METADATA__PLACEMENT__REGION", "eu-central-1"}, {"AWS__METADATA__PLACEMENT", "x"}, {"AWS__METADATA", "x"},
		{"UPSTREAMS__DC__PROXY_PASSWORD__FILE", "/x"}, {"UPSTREAMS__DC__ROLES__A_B__ROLE", "x"}, {"UPSTREAMS__T__KIND", "token"},
		{"GRANTS__EVERYONE__CREDENTIALS", "*"}, {"", ""}, {"__", "\x00"}, {"\r", ""}, {"\x00", ""}, {"READY__TIMEOUT", "\xff"}, {"CONNECTIONS__MOST", "99999999999999999999"},
	} {
		f.Add(seed.name, seed.text)
	}
	dir := f.TempDir()
	file := filepath.Join(dir, "f.yaml")
	const text = "upstreams:\n  dc: {kind: ims, url: x, roles: {a.b: {role: y}, A: {role: z}}}\ngrants: {web: {unit: x.service, credentials: [a]}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		o := options(file)
		o.Environ = []string{"CREDENTIALS_DIRECTORY=/run/c", environmentPrefix + name + "=" + text}
		checkLoad(t, dir, o)
	})
}
