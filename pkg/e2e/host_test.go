package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A bootedHost is a host with Purser as its package installs it, an upstream, and the
// redirect.
type bootedHost struct {
	*harness.Host
	t        *testing.T
	mock     *harness.Mock
	upstream *recorder
}

const hostConfig = `listen:
  main: {address: 127.0.0.1:25772}
  six: {address: "[::1]:25772"}
log: {level: trace}
`

// bootBare boots a host without Purser, beside an upstream.
func bootBare(t *testing.T, flags ...string) *bootedHost {
	t.Helper()
	needsRoot(t)
	_, err := os.Stat("/usr/bin/systemd-nspawn")
	needs(t, "systemd-nspawn", err == nil)
	_, err = harness.Tree()
	needs(t, "a Debian to boot", err == nil)

	host, err := harness.NewHost()
	must(t, err)
	h := &bootedHost{Host: host, t: t, mock: startMock(t, flags...)}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := h.Run("journalctl", "--no-pager", "-o", "short-precise", "-n", "60", "-u", "purser")
			t.Logf("the journal of purser:\n%s", out.Stdout)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	must(t, h.Boot())
	h.upstream = newRecorder(t, loopback(t, h.Network()), h.mock.Server())
	return h
}

// bootHost boots a host that has everything but a running Purser.
func bootHost(t *testing.T, grants string) *bootedHost {
	t.Helper()
	needsPackages(t)
	h := bootBare(t, "--role", "test_role", "--role", "finance")
	must(t, h.Copy(debian.path(dist(t), "purser", released(t)), "/srv/purser.deb"))
	h.must("dpkg", "--install", "/srv/purser.deb")
	must(t, h.Copy(goClient(t), "/usr/bin/goclient"))
	h.configure(grants)
	must(t, h.Network().Redirect(frontPort))
	must(t, h.Network().RedirectIPv6(frontPort))
	return h
}

func (h *bootedHost) configure(more string) {
	h.t.Helper()
	must(h.t, h.Write("/etc/purser/purser.yaml", hostConfig+upstream(h.upstream.URL+"/latest")+more, 0o644))
}

func (h *bootedHost) must(args ...string) string {
	h.t.Helper()
	out, err := h.Must(args...)
	must(h.t, err)
	return out
}

func (h *bootedHost) show(property string) string {
	h.t.Helper()
	value, err := h.Show("purser", property)
	must(h.t, err)
	return value
}

// awaitShow waits until a property of the unit contains what is wanted.
func (h *bootedHost) awaitShow(property, want string, timeout time.Duration) {
	h.t.Helper()
	must(h.t, harness.Await(timeout, func() error {
		if got := h.show(property); !strings.Contains(got, want) {
			return fmt.Errorf("%s is %q, want %q", property, got, want)
		}
		return nil
	}))
}

// journal is what Purser said.
func (h *bootedHost) journal() string {
	return h.must("journalctl", "--no-pager", "-o", "cat", "-u", "purser")
}

func (h *bootedHost) expectNoSecret() {
	h.t.Helper()
	if all := h.must("journalctl", "--no-pager", "-o", "export"); strings.Contains(all, harness.Marker) {
		h.t.Error("the journal contains a secret")
	}
}

func TestUnitIsReadyWhenWarmAndReloadsSafely(t *testing.T) {
	h := bootHost(t, everything)
	must(t, h.mock.SetFaults("status=503,role=finance"))
	h.must("systemctl", "start", "--no-block", "purser")
	h.awaitShow("StatusText", "finance", 10*time.Second)
	if state := h.show("ActiveState"); state != "activating" {
		t.Errorf("with a credential missing the unit is %s", state)
	}
	must(t, h.mock.SetFaults())
	h.must("purser", "refresh") // rather than wait for the next attempt
	h.awaitShow("ActiveState", "active", 10*time.Second)
	t.Logf("the status: %s", h.show("StatusText"))
	process := h.must("cat", "/proc/"+h.show("MainPID")+"/status")
	uid := strings.TrimSpace(h.must("id", "-u", "purser"))
	for _, want := range []string{"Uid:\t" + uid + "\t" + uid, "CapPrm:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "NoNewPrivs:\t1\n"} {
		if !strings.Contains(process, want) {
			t.Errorf("no %q in /proc/PID/status:\n%s", want, process)
		}
	}
	if limit := h.must("grep", "locked", "/proc/"+h.show("MainPID")+"/limits"); !strings.Contains(limit, "unlimited") {
		t.Log("here systemd may not lift the limit for locked memory, so nothing is locked")
	} else if strings.Contains(process, "VmLck:\t       0 kB") {
		t.Error("under its unit Purser locks no memory")
	}

	h.must("systemctl", "reload", "purser")
	h.configure(everything + "lisen: {}\n")
	r, err := h.Run("systemctl", "reload", "purser")
	must(t, err)
	if r.Exit == 0 || h.show("ActiveState") != "active" {
		t.Errorf("a bad reload exits with %d and leaves the unit %s", r.Exit, h.show("ActiveState"))
	}
	if !strings.Contains(h.journal(), "lisen") {
		t.Error("the journal does not say what is wrong with the configuration")
	}
	if r, err = h.Unit("after", "daemon", "/bin/sh", "-c", metadataScript("http://169.254.169.254", "")); err != nil || r.Stdout != "finance" {
		t.Errorf("after the bad reload a unit gets %q %q, %v", r.Stdout, r.Stderr, err)
	}
	h.must("systemctl", "stop", "purser")
	if result := h.show("Result"); result != "success" {
		t.Errorf("stopped with %s", result)
	}
	h.expectNoSecret()
}

// TestStartWaitsForAsLongAsTheUpstreamTakes: Purser extends the start-up time, so
// systemd does not kill what only waits.
func TestStartWaitsForAsLongAsTheUpstreamTakes(t *testing.T) {
	h := bootHost(t, everything)
	must(t, h.mock.SetFaults("status=503"))
	must(t, h.Write("/etc/systemd/system/purser.service.d/soon.conf", "[Service]\nTimeoutStartSec=2\n", 0o644))
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "start", "--no-block", "purser")
	time.Sleep(6 * time.Second)
	if state := h.show("SubState"); state != "start" || h.show("NRestarts") != "0" {
		t.Fatalf("six seconds after a start of at most two the unit is %s, restarted %s times", state, h.show("NRestarts"))
	}
	must(t, h.mock.SetFaults())
	h.must("purser", "refresh") // rather than wait for the next attempt
	h.awaitShow("ActiveState", "active", 10*time.Second)
}

func TestWatchdogRestartsOnlyWhatIsStuck(t *testing.T) {
	h := bootHost(t, everything)
	must(t, h.Write("/etc/systemd/system/purser.service.d/watchdog.conf", "[Service]\nWatchdogSec=2\n", 0o644))
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "start", "purser")
	must(t, h.mock.SetFaults("hang")) // a dead upstream is no reason for a restart
	pid := h.show("MainPID")
	r, err := h.Run("timeout", "5", "purser", "refresh")
	must(t, err)
	if r.Exit == 0 {
		t.Error("a refresh against a hung upstream succeeds")
	}
	if h.show("NRestarts") != "0" || h.show("MainPID") != pid {
		t.Fatal("restarted because the upstream hangs")
	}
	must(t, h.mock.SetFaults())
	h.must("systemctl", "kill", "--signal=STOP", "--kill-who=main", "purser")
	h.awaitShow("NRestarts", "1", 20*time.Second)
	h.awaitShow("ActiveState", "active", 20*time.Second)
}

// metadataScript prints the role whose keys the caller is given, or "none". systemd
// would expand braces after a dollar sign.
func metadataScript(base, args string) string {
	return fmt.Sprintf(`set -e; base='%s'
		token=$(curl -sS %[2]s -X PUT -H '%[3]s: 60' "$base/latest/api/token")
		get() { curl -sS %[2]s -H "%[4]s: $token" "$@"; }
		role=$(get -f "$base%[5]s" 2>/dev/null) || { printf none; exit 0; }
		get "$base%[5]s$role" | grep -q '"Code" : "Success"'
		printf %%s "$role"`,
		base, args, ttlHeader, tokenHeader, securityCredentials)
}

const twoUnits = `grants:
  first: {unit: alpha.service, credentials: [test_role]}
  second: {unit: "omega@*.service", credentials: [finance]}
`

func TestPromise5TwoUnitsGetDifferentRolesFromTheSameURL(t *testing.T) {
	h := bootHost(t, twoUnits)
	h.must("systemctl", "start", "purser")
	for _, p := range redirectedPaths {
		t.Run(p.name, func(t *testing.T) {
			for unit, want := range map[string]string{"alpha.service": "test_role", "omega@1.service": "finance", "other.service": "none"} {
				args := ""
				if p.args != nil {
					args = p.args[0] + " '" + p.args[1] + "'"
				}
				r, err := h.Unit(unit, "daemon", "/bin/sh", "-c", metadataScript(p.base, args))
				must(t, err)
				if r.Stdout != want {
					t.Errorf("%s gets %q %q, want %q", unit, r.Stdout, r.Stderr, want)
				}
			}
		})
	}
	t.Run("a real SDK", func(t *testing.T) {
		api := newAPI(t, loopback(t, h.Network()), h.upstream.keys)
		r, err := h.Unit("omega@sdk.service", "daemon", "/bin/sh", "-c", "echo call | goclient "+api.URL)
		must(t, err)
		if !strings.HasPrefix(r.Stdout, "arn:aws:sts::123456789012:assumed-role/e2e/ASIA") {
			t.Errorf("the Go SDK in a unit says %q %q", r.Stdout, r.Stderr)
		}
	})
	t.Run("a user's own unit of the same name", func(t *testing.T) {
		must(t, h.Write("/etc/systemd/system/user@.service.d/small.conf", // this host has no logind module for PAM
			"[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n", 0o644))
		must(t, h.Write("/etc/systemd/user/alpha.service", "[Service]\nType=oneshot\nExecStart=/bin/sh /etc/role.sh\n"+
			"StandardOutput=truncate:/run/user/1/role\n", 0o644))
		must(t, h.Write("/etc/role.sh", metadataScript("http://169.254.169.254", ""), 0o755))
		h.must("systemctl", "daemon-reload")
		h.must("systemctl", "start", "user@1.service")
		_, err := h.Run("setpriv", "--reuid=1", "--regid=1", "--clear-groups", "env", "XDG_RUNTIME_DIR=/run/user/1",
			"systemctl", "--user", "start", "alpha.service")
		must(t, err)
		if got := h.must("cat", "/run/user/1/role"); got != "none" {
			t.Errorf("it gets %q", got)
		}
		if !strings.Contains(h.journal(), `"unit":"user@1.service"`) {
			t.Error("the access log does not show it as the unit of that user")
		}
	})
	h.expectNoSecret()
}

// TestCallersInPursersOwnUnitGetNothing: a credential that Purser fetches with the
// help of the metadata service cannot come from itself.
func TestCallersInPursersOwnUnitGetNothing(t *testing.T) {
	h := bootHost(t, everything)
	must(t, h.Write("/etc/role.sh", metadataScript("http://169.254.169.254", ""), 0o755))
	must(t, h.Write("/etc/systemd/system/purser.service.d/self.conf",
		"[Service]\nExecStartPost=/bin/sh -c '/bin/sh /etc/role.sh >/run/purser/role'\n", 0o644))
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "start", "purser")
	if got := h.must("cat", "/run/purser/role"); got != "none" {
		t.Errorf("a process of purser.service gets %q", got)
	}
}
