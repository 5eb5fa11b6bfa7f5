package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

func TestDemoRunsAsRootAndAsAnybody(t *testing.T) {
	root, err := harness.Root()
	must(t, err)
	dir, err := os.MkdirTemp("", "purser-e2e-demo-") // t.TempDir is closed to others
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "purser-demo"), "./demo")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	script := filepath.Join(dir, "demo.sh")
	for from, to := range map[string]string{
		filepath.Join(root, "bin", "purser"):         filepath.Join(dir, "purser"),
		filepath.Join(root, "bin", "purser-mock"):    filepath.Join(dir, "purser-mock"),
		filepath.Join(root, "pkg", "e2e", "demo.sh"): script,
	} {
		text, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(to, text, 0o755))
	}
	for name, uid := range map[string]int{"as I am": 0, "as daemon": daemonUID} {
		t.Run(name, func(t *testing.T) {
			if uid != 0 {
				needsRoot(t)
			}
			port, err := harness.FreePort()
			must(t, err)
			r, err := harness.Command{Path: script, UID: uid, GID: uid,
				Env: []string{"BIN=" + dir, fmt.Sprintf("PORT=%d", port)}}.Run()
			must(t, err)
			if r.Exit != 0 {
				t.Fatalf("the demo ends with %d:\n%s\n%s", r.Exit, r.Stdout, r.Stderr)
			}
			for _, want := range []string{"test_role", `"Code" : "Success"`, "provider     EC2RoleProvider", "region       eu-central-1", "\ndone\n"} {
				if !strings.Contains(r.Stdout, want) {
					t.Errorf("no %q in:\n%s", want, r.Stdout)
				}
			}
		})
	}
}
