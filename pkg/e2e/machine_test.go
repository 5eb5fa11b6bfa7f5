package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// insideMachine is set where this test binary runs in a machine of its own.
const insideMachine = "PURSER_E2E_MACHINE"

// machineTime is for a busy machine of two cores.
const machineTime = 10 * time.Minute

// sandboxTests show that Purser serves in its sandbox.
var sandboxTests = []string{
	"TestTheSandboxIsInForceOnEveryThread", "TestTheSandboxCanBeTurnedOffAndIsSaidToBe",
	"TestWorkGoesOnInsideTheSandbox", "TestANormalUserNeedsNoPrivilege",
}

// kernelOnly are the arguments of this test binary in a machine: kernelTests, by the test
// that has them, and sandboxTests.
var kernelOnly = "-test.run '^(TestOnAKernelOfItsOwn|" + strings.Join(sandboxTests, "|") + ")$'"

// foreignTests are arguments by package for the architecture that is not this one's: fewer
// of the same, and unit tests of what depends on the processor. Left out is what needs
// cgo, or more than the machine has.
var foreignTests = map[string]string{
	"e2e":       kernelOnly + " -test.short",
	"caller":    leaveOut + "(TestUsersAreIdentifiedWith.*|Test.*ThroughTheRedirect|TestClientThatIsBoundToAnInterfaceIsUnknown|TestOtherHosts.*|TestClientsInAHurry.*|TestPromise5.*)$'", // firewalls, network cards
	"handover":  "",
	"helper":    leaveOut + "TestAProgramHasWhatIsConfiguredAndNothingElse$'", // the machine's shell sets one more variable
	"privilege": leaveOut + "TestBuildWithCgoCannotGiveUpRoot$'",
	"sandbox":   "",
}

const leaveOut = "-test.skip '^"

// TestOnAKernelOfItsOwn boots Debian's kernel in a virtual machine that runs the same test
// once more, and there what depends on the kernel's settings. Two emulated processors
// take all of the real ones, so no other test runs beside them.
func TestOnAKernelOfItsOwn(t *testing.T) {
	if os.Getenv(insideMachine) != "" {
		for _, test := range kernelTests {
			t.Run(test.name, test.run)
		}
		return
	}
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			tests := map[string]string{"e2e": kernelOnly}
			if arch != runtime.GOARCH {
				tests = maps.Clone(foreignTests)
			}
			said := runTests(t, arch, tests)
			expected := slices.Clone(sandboxTests)
			for _, test := range kernelTests {
				expected = append(expected, "TestOnAKernelOfItsOwn/"+strings.ReplaceAll(test.name, " ", "_"))
			}
			for _, name := range expected {
				if !strings.Contains(said, "--- PASS: "+name+" ") {
					t.Errorf("%s was not run", name)
				}
			}
			if passed := strings.Count(said, "\nPASS\n"); passed != len(tests) {
				t.Errorf("the tests of %d packages passed, want those of %d", passed, len(tests))
			}
			for _, never := range []string{"--- SKIP", "no tests to run"} {
				if strings.Contains(said, never) {
					t.Errorf("the machine said %q, so something proves nothing", never)
				}
			}
		})
	}
}

// runTests runs tests of packages in a machine, beside Purser's binaries, and returns
// what the machine said.
func runTests(t *testing.T, arch string, tests map[string]string) string {
	t.Helper()
	m, err := harness.NewMachine(arch)
	needs(t, "a kernel and an emulator, see install.sh", err == nil)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	root, err := harness.Root()
	must(t, err)
	must(t, m.Copy(filepath.Join(root, "go.mod"), "/purser/go.mod"))
	build(t, root, arch, "build", "-ldflags=-s -w", "-o", m.Path("/purser/bin")+"/", "./cmd/purser", "./cmd/purser-mock")
	var script strings.Builder
	script.WriteString("export CI=true " + insideMachine + "=true\nulimit -l unlimited\n")
	for name, args := range tests {
		from, to := filepath.Join(root, "pkg", name), "/purser/pkg/"+name
		build(t, from, arch, "test", "-c", "-ldflags=-s -w", "-o", m.Path(to)+"/", ".")
		if data := filepath.Join(from, "testdata"); exists(data) {
			must(t, os.CopyFS(m.Path(to+"/testdata"), os.DirFS(data)))
		}
		fmt.Fprintf(&script, "cd %s && ./%s.test -test.v -test.timeout 4m %s || failed=1\n", to, name, args)
	}
	r, err := m.Run(script.String()+"exit ${failed:-0}\n", machineTime)
	t.Logf("the machine said:\n%s", r.Stdout)
	must(t, err)
	if r.Exit != 0 {
		t.Error("tests in the machine failed")
	}
	return r.Stdout
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// build runs go in a folder, for that architecture and without cgo, as Purser is built.
func build(t *testing.T, folder, arch string, args ...string) {
	t.Helper()
	c := exec.Command("go", args...)
	c.Dir = folder
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
