package vault

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// testsOf lists the tests and fuzz targets below some folders, by their names.
func testsOf(t *testing.T, folders ...string) (names []string) {
	t.Helper()
	form := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, found := range form.FindAllStringSubmatch(string(text), -1) {
				names = append(names, found[1])
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// TestEachCaseHasItsTests: whoever renames a test, or takes it away, mends the list. The
// numbers from 80 to 90 are not about an upstream.
func TestEachCaseHasItsTests(t *testing.T) {
	text, err := os.ReadFile("testdata/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := testsOf(t, "..", "../../refresh", "../../e2e", "../../../cmd/purser")
	want := 1
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		what, tests, _ := strings.Cut(line, ": ")
		number, what, _ := strings.Cut(what, " ")
		if got, err := strconv.Atoi(number); err != nil || got != want || what == "" || tests == "" {
			t.Fatalf("%q is not about case %d", line, want)
		}
		if want++; want == 80 {
			want = 91
		}
		for name := range strings.FieldsSeq(tests) {
			if shows := strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz"); shows && !slices.Contains(known, name) {
				t.Errorf("case %s: there is no %s", number, name)
			}
		}
	}
	if want != 94 {
		t.Errorf("the list ends before case %d", want)
	}
}
