package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// insideMachine is set where this test binary runs in a machine of its own.
const insideMachine = "PURSER_E2E_MACHINE"

// machineTime is for a busy machine of two cores.
const machineTime = 5 * time.Minute

// TestOnAKernelOfItsOwn boots Debian's kernel in a virtual machine that runs the same test
// once more, and there what depends on the kernel's settings.
func TestOnAKernelOfItsOwn(t *testing.T) {
	if os.Getenv(insideMachine) != "" {
		for _, test := range kernelTests {
			t.Run(test.name, test.run)
		}
		return
	}
	for _, arch := range []string{"amd64"} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			m := machine(t, arch)
			build(t, arch, "build", "-o", m.Path("/purser/bin")+"/", "./cmd/purser", "./cmd/purser-mock")
			must(t, m.Copy(filepath.Join(root(t), "go.mod"), "/purser/go.mod"))
			build(t, arch, "test", "-C", "pkg/e2e", "-c", "-o", m.Path("/purser/pkg/e2e/e2e.test"), ".")
			said := runIn(t, m, `cd /purser/pkg/e2e && CI=true `+insideMachine+`=true ./e2e.test -test.v -test.timeout 4m \
				-test.run '^(TestOnAKernelOfItsOwn|TestTheSandbox.*|TestWorkGoesOnInsideTheSandbox|TestANormalUserNeedsNoPrivilege)$'`)
			for _, test := range kernelTests {
				if !strings.Contains(said, "--- PASS: TestOnAKernelOfItsOwn/"+strings.ReplaceAll(test.name, " ", "_")+" ") {
					t.Errorf("it was not tested that %s", test.name)
				}
			}
		})
	}
}

// machine lays out a machine until the test ends.
func machine(t *testing.T, arch string) *harness.Machine {
	t.Helper()
	m, err := harness.NewMachine(arch)
	needs(t, "a kernel and an emulator, see install.sh", err == nil)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// runIn runs a script in the machine that has to succeed, and returns what the machine
// said.
func runIn(t *testing.T, m *harness.Machine, script string) string {
	t.Helper()
	r, err := m.Run(script, machineTime)
	t.Logf("the machine said:\n%s", r.Stdout)
	must(t, err)
	if r.Exit != 0 {
		t.Errorf("the script ended with %d", r.Exit)
	}
	return r.Stdout
}

func root(t *testing.T) string {
	t.Helper()
	root, err := harness.Root()
	must(t, err)
	return root
}

// build runs go for that architecture and without cgo, as Purser is built.
func build(t *testing.T, arch string, args ...string) {
	t.Helper()
	c := exec.Command("go", args...)
	c.Dir = root(t)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
