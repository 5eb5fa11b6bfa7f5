package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
)

// TestScripts runs the terminal sessions in testdata/script. Each has an upstream of
// its own and a loopback address of its own for what it starts; all of its files may
// use $IMS, the upstream's URL, $HOST, that address, and $WORK, its folder.
func TestScripts(t *testing.T) {
	folder, err := os.MkdirTemp("", "purser-script-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(folder, 0o755); err != nil { // for the account that a daemon of root's becomes
		t.Fatal(err)
	}
	buildProgram(t, filepath.Join(folder, "bin"))
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		WorkdirRoot:        folder,
		RequireUniqueNames: true,
		UpdateScripts:      *testkit.Update,
		Setup:              func(env *testscript.Env) error { return setUp(env, filepath.Join(folder, "bin")) },
		Condition: func(condition string) (bool, error) {
			if condition == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", condition)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ims": orderIMS, "exits": exits, "prints": prints, "keys": keys, "needs": needs,
		},
	})
}

// buildProgram builds purser as it is shipped: with cgo, which the race detector
// needs, it cannot give up root.
func buildProgram(t *testing.T, folder string) {
	t.Helper()
	build := exec.Command("go", "build", "-ldflags", "-X main.version=1.2.3", "-o", folder+"/", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", build.Args, err, output)
	}
}

// needs is `needs root|PROGRAM...`: the script is skipped where one is not there.
func needs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: needs root|PROGRAM...")
	}
	for _, what := range args {
		missing := os.Geteuid() != 0
		if what != "root" {
			_, err := exec.LookPath(what)
			missing = err != nil
		}
		if missing {
			testkit.Lacks(ts.Value(testKey{}).(testscript.T), what)
		}
	}
}

type (
	imsKey  struct{} // of the script's *mock.IMS
	testKey struct{} // of its testscript.T
)

func setUp(env *testscript.Env, programs string) error {
	ims := mock.NewIMS(mock.IMSOptions{Roles: []mock.Role{{Name: "db"}, {Name: "web"}}})
	server := httptest.NewServer(ims)
	env.Defer(server.Close)
	env.Values[imsKey{}], env.Values[testKey{}] = ims, env.T()
	// Port numbers are the usual ones: nobody else has the address.
	host := fmt.Sprintf("127.%d.%d.%d", 64+rand.N(64), rand.N(256), 1+rand.N(254))
	env.Setenv("IMS", ims.URL(server.URL))
	env.Setenv("HOST", host)
	env.Setenv("PATH", programs+string(os.PathListSeparator)+env.Getenv("PATH"))

	names := strings.NewReplacer("$IMS", env.Getenv("IMS"), "$HOST", host, "$WORK", env.WorkDir)
	return filepath.Walk(env.WorkDir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(names.Replace(string(text))), info.Mode())
	})
}

// orderIMS is `ims roles NAME[:LIFETIME]...` and `ims faults [FAULT]...`: what the
// upstream has, and what is wrong with it from now on.
func orderIMS(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: ims roles|faults ...")
	}
	ims := ts.Value(imsKey{}).(*mock.IMS)
	switch args[0] {
	case "roles":
		ims.SetRoles(parseAll(ts, args[1:], mock.ParseRole)...)
	case "faults":
		ims.SetFaults(parseAll(ts, args[1:], mock.ParseFault)...)
	default:
		ts.Fatalf("usage: ims roles|faults ...")
	}
}

func parseAll[T any](ts *testscript.TestScript, texts []string, parse func(string) (T, error)) (all []T) {
	for _, text := range texts {
		one, err := parse(text)
		ts.Check(err)
		all = append(all, one)
	}
	return all
}

// exits is `exits CODE PROGRAM [ARG]...`: exec, and the exit code is this one.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG]...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		code = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s\n[stdout]\n%s[stderr]\n%s", code, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// passing are the texts that differ from run to run.
var passing = []struct {
	text *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\bin \d+(\.\d+)?[mµ]?s\b`), "in TOOK"},
	{regexp.MustCompile(`\b[0-9hm]+s ago\b`), "SPAN ago"},
	{regexp.MustCompile(`lifetime \d{4,}h\d+m\d+s`), "lifetime LONG"},
}

// prints is `prints stdout|stderr FILE`: cmp, but FILE has TIME for each time, TOOK
// for how long something took, SPAN for how long ago it was and LONG for a life of
// months.
func prints(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: prints stdout|stderr FILE")
	}
	got := ts.ReadFile(args[0])
	for _, p := range passing {
		got = p.text.ReplaceAllString(got, p.as)
	}
	if want := ts.ReadFile(args[1]); got != want {
		ts.Fatalf("%s is\n%s\nwant\n%s", args[0], got, want)
	}
}

// keys is `keys FILE`: stdout is JSON with the keys that FILE has, one a line. Those
// with a question mark may be missing, all others are there, and there is no other.
func keys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keys FILE")
	}
	var document any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &document))
	found := map[string]bool{}
	collectKeys("", document, found)
	known := map[string]bool{}
	for key := range strings.FieldsSeq(ts.ReadFile(args[0])) {
		key, optional := strings.CutSuffix(key, "?")
		known[key] = true
		if !optional && !found[key] {
			ts.Fatalf("%s is missing", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if !known[key] {
			ts.Fatalf("%s is there and not in %s", key, args[0])
		}
	}
}

func collectKeys(at string, value any, found map[string]bool) {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			collectKeys(at, element, found)
		}
	case map[string]any:
		for name, below := range value {
			path := strings.TrimPrefix(at+"."+name, ".")
			found[path] = true
			collectKeys(path, below, found)
		}
	}
}
