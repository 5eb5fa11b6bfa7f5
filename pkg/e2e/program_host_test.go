package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// exampleUnits are the unit files in the comments of a shipped example, by path.
func exampleUnits(t *testing.T, example string) map[string]string {
	t.Helper()
	units, path := map[string]string{}, ""
	for line := range strings.Lines(example) {
		text, ok := strings.CutPrefix(line, "##   ")
		switch name := strings.TrimSpace(text); {
		case !ok:
			path = ""
		case strings.HasPrefix(name, "/etc/systemd/system/"):
			path = name
		case path != "":
			units[path] += name + "\n"
		}
	}
	if len(units) != 2 {
		t.Fatalf("found the units %q in the example", units)
	}
	return units
}

// whoami is a program that prints keys of the account that it runs as.
const whoami = `#!/bin/sh
echo "for $(id -un)" >&2
echo '{"Version": 1, "AccessKeyId": "AKIA-'$(id -un)'", "SecretAccessKey": "` + harness.Marker + `"}'
`

// TestTheShippedUnitsGiveKeysThatPurserCannotGetItself has the same program behind the
// example's socket, and run by Purser within the limits of its own unit.
func TestTheShippedUnitsGiveKeysThatPurserCannotGetItself(t *testing.T) {
	h := bootHost(t, everything)
	root, err := harness.Root()
	must(t, err)
	example, err := os.ReadFile(filepath.Join(root, "etc", "conf.d.examples", "70-program.yaml"))
	must(t, err)
	for path, text := range exampleUnits(t, string(example)) {
		must(t, h.Write(path, text, 0o644))
	}
	must(t, h.Write("/usr/lib/sysusers.d/get-keys.conf", "u get-keys - \"Keys\" /nonexistent\n", 0o644))
	must(t, h.Write("/usr/local/bin/get-keys", whoami, 0o755))
	must(t, h.Write("/etc/purser/conf.d/70-program.yaml", string(example), 0o644))
	must(t, h.Write("/etc/purser/conf.d/80-own.yaml", "upstreams: {own: {kind: process, credentials: {own: {command: [/usr/local/bin/get-keys]}}}}\n", 0o644))
	h.must("systemd-sysusers")
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "enable", "--now", "get-keys.socket")
	h.must("systemctl", "start", "purser")
	for credential, account := range map[string]string{"deploy": "get-keys", "own": "purser"} {
		r, err := h.Unit("client-"+credential, "daemon", "/usr/bin/purser", "credential-process", credential)
		must(t, err)
		if want := fmt.Sprintf(`"AccessKeyId":"AKIA-%s"`, account); !strings.Contains(r.Stdout, want) {
			t.Errorf("%s: got %q %q, want %s", credential, r.Stdout, r.Stderr, want)
		}
	}
	if !strings.Contains(h.journal(), `"line":"for purser"`) {
		t.Error("what the program says is not in the journal")
	}
	h.expectNoSecret()
	h.must("systemctl", "stop", "purser")
	h.awaitShow("ActiveState", "inactive", 10*time.Second)
	if r, err := h.Run("pgrep", "-u", "purser"); err != nil || r.Exit == 0 {
		t.Errorf("processes of the account are left: %s, %v", r.Stdout, err)
	}
	if said := h.journal(); strings.Contains(said, "left-over process") || strings.Contains(said, "the helper that runs programs ended") {
		t.Errorf("the stop was not clean:\n%s", tail(said, 2000))
	}
}
