package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/purser-agent/purser/"
	top    = "../.."
)

// mayImport says which of our packages a package may import. An entry that ends in
// a slash is for every package below it.
var mayImport = map[string][]string{
	"pkg/credential":  nil,
	"pkg/caller":      nil,
	"pkg/config":      {"pkg/credential"},
	"pkg/store":       {"pkg/credential"},
	"pkg/refresh":     {"pkg/credential"},
	"pkg/upstream":    {"pkg/credential"},
	"pkg/upstream/":   {"pkg/credential", "pkg/upstream", "pkg/awsapi"},
	"pkg/awsapi":      {"pkg/credential", "pkg/upstream"},
	"pkg/helper":      {"pkg/upstream"},
	"pkg/policy":      {"pkg/credential", "pkg/caller"},
	"pkg/frontend":    {"pkg/credential"},
	"pkg/handover":    {"pkg/credential"},
	"pkg/frontend/":   {"pkg/credential", "pkg/frontend"},
	"pkg/server":      {"pkg/credential", "pkg/caller"},
	"pkg/status":      {"pkg/credential", "pkg/caller"},
	"pkg/telemetry":   {"pkg/credential", "pkg/caller"},
	"pkg/privilege":   {"pkg/credential", "pkg/caller"},
	"pkg/redirect":    nil,
	"pkg/sandbox":     nil,
	"pkg/mock":        {"pkg/credential"},
	"pkg/testkit":     {"pkg/credential"}, // and in no list, as only tests import it
	"cmd/purser-mock": {"pkg/credential", "pkg/mock"},
}

// packages returns the folders below top that hold Go code of this module.
func packages(t *testing.T) map[string][]*ast.File {
	t.Helper()
	found := map[string][]*ast.File{}
	for _, root := range []string{"cmd", "pkg"} {
		err := filepath.WalkDir(filepath.Join(top, root), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := entry.Name()
			if entry.IsDir() && (name == "testdata" || exists(filepath.Join(path, "go.mod"))) {
				return fs.SkipDir
			}
			if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
			if err != nil {
				return err
			}
			folder, err := filepath.Rel(top, filepath.Dir(path))
			found[folder] = append(found[folder], file)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) < 15 {
		t.Fatalf("found only %d packages", len(found))
	}
	return found
}

func TestPackagesImportOnlyWhatTheyMay(t *testing.T) {
	for folder, files := range packages(t) {
		allowed, known := mayImport[folder]
		if !known {
			allowed, known = mayImport[filepath.Dir(folder)+"/"]
		}
		wires := folder == "cmd/purser" // and may import everything that a program may
		if !known && !wires {
			t.Errorf("%s is not in the table of imports", folder)
		}
		for _, file := range files {
			for _, spec := range file.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if ours, ok := strings.CutPrefix(path, module); ok && !slices.Contains(allowed, ours) && (!wires || ours == "pkg/testkit") {
					t.Errorf("%s imports %s; it may import only %v", folder, ours, allowed)
				}
			}
		}
	}
}

func TestPackagesHaveOneCommentEach(t *testing.T) {
	for folder, files := range packages(t) {
		var comments int
		for _, file := range files {
			if file.Doc == nil {
				continue
			}
			comments++
			want := "Package " + strings.ReplaceAll(filepath.Base(folder), "-", "") + " " // Go's names have no hyphen
			if file.Name.Name == "main" {
				want = "Command " + filepath.Base(folder) + " "
			}
			if !strings.HasPrefix(file.Doc.Text(), want) {
				t.Errorf("%s: the package comment does not begin with %q", folder, want)
			}
		}
		if comments != 1 {
			t.Errorf("%s has %d package comments, want one", folder, comments)
		}
	}
}

func TestEveryKindAndDialectIsWired(t *testing.T) {
	source, err := os.ReadFile("wire.go")
	if err != nil {
		t.Fatal(err)
	}
	folders := 0
	for folder := range packages(t) {
		if parent := filepath.Dir(folder); parent != "pkg/upstream" && parent != "pkg/frontend" {
			continue
		}
		folders++
		if !strings.Contains(string(source), strconv.Quote(module+folder)) {
			t.Errorf("%s is missing in wire.go", folder)
		}
		if kind, ok := strings.CutPrefix(folder, "pkg/upstream/"); ok {
			if _, wired := upstreamKinds[kind]; !wired {
				t.Errorf("the kind %q, the name of its folder, is missing in wire.go", kind)
			}
		}
	}
	if folders < 3 {
		t.Errorf("found only %d kinds and dialects", folders)
	}
}
