package e2e

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// higher is a version above any that is released.
const higher = "99.0.0"

func TestPackageForDebianInALife(t *testing.T) { liveWith(t, debian) }
func TestPackageForRPMInALife(t *testing.T)    { liveWith(t, rpm) }

// An installed is a host that gets Purser from its packages.
type installed struct {
	*bootedHost
	kind packaging
}

// liveWith goes through the life of a package on one host, in this order.
func liveWith(t *testing.T, kind packaging) {
	needsPackages(t)
	h := &installed{bootBare(t, "--role", "test_role", "--role", "finance"), kind}
	newer := makePackages(t, kind.target, "VERSION="+higher, quick)
	for dir, version := range map[string]string{dist(t): released(t), newer: higher} {
		for _, name := range []string{"purser", "purser-mock"} {
			must(t, h.Copy(kind.path(dir, name, version), kind.path("/srv", name, version)))
		}
	}
	for _, step := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"the first install enables and starts nothing", h.firstInstall},
		{"a low port from systemd", h.lowPort},
		{"configured and started", h.start},
		{"real clients of two users with no variable set", h.realClients},
		{"as little exposed as promised", h.exposure},
		{"names, TLS and secrets that systemd loads", h.loadCredential},
		{"a program that prints keys", h.program},
		{"a socket that a group may use", h.socketGroup},
		{"an application waits for it, but only at its start", h.gating},
		{"a credentials file for a user", h.credentialsFile},
		{"a host that had alppaca", h.migration},
		{"restarts and a crash in an outage", h.restarts},
		{"an upgrade with a mistake in the configuration", h.upgradeWithAMistake},
		{"an upgrade", h.upgrade},
		{"an upgrade in an outage", h.upgradeInAnOutage},
		{"a reboot", h.reboot},
		{"a removal", h.removal},
		{"a removal with a redirect that has failed", h.removalOfAFailure},
	} {
		if !t.Run(step.name, func(t *testing.T) { h.t = t; step.run(t) }) {
			break
		}
	}
	h.t = t
	h.expectNoSecret()
}

// packages is the command that installs a version of both packages.
func (h *installed) packages(version string) []string {
	return slices.Concat(h.kind.install, []string{h.kind.path("/srv", "purser", version), h.kind.path("/srv", "purser-mock", version)})
}

func (h *installed) install(version string) {
	h.t.Helper()
	h.must(h.packages(version)...)
}

// expectShown compares a property of several units, one word each.
func (h *installed) expectShown(property, want string) {
	h.t.Helper()
	out := h.must("systemctl", "show", "--value", "--property="+property, "purser.service", "purser.socket", "purser-redirect.service")
	if got := strings.Join(strings.Fields(out), " "); got != want {
		h.t.Errorf("%s of service, socket and redirect is %q, want %q", property, got, want)
	}
}

func (h *installed) firstInstall(t *testing.T) {
	h.install(released(t))
	h.expectShown("UnitFileState", "enabled enabled disabled")
	h.expectShown("ActiveState", "inactive inactive inactive")
	if got := h.must("stat", "--format=%a %U %G", "/etc/purser"); got != "2750 root purser\n" {
		t.Errorf("/etc/purser is %q", got)
	}
	h.must("purser", "check", "--offline")
}

// operators is what an operator writes; root is whose uid the client loop has.
const operators = regionConfig + `log: {level: trace}
grants:
  everyone: null
  web: {user: daemon, credentials: [test_role]}
  vault: {user: backup, credentials: [finance]}
  loop: {user: root, credentials: [test_role]}
`

// asks is the operator's file with an upstream.
func (h *installed) asks(url string) {
	h.t.Helper()
	must(h.t, h.Write("/etc/purser/conf.d/50-test.yaml", upstream(url)+operators, 0o644))
}

// lowPort listens where SDKs ask, with no rule of a firewall.
func (h *installed) lowPort(t *testing.T) {
	h.must("ip", "address", "add", "169.254.169.254/32", "dev", "lo")
	h.asks(h.upstream.URL + "/latest")
	must(t, h.Write("/etc/purser/conf.d/60-address.yaml", "listen: {main: {address: \"169.254.169.254:80\"}}\n", 0o644))
	const says = "the inherited socket is bound to 127.0.0.1:25772, but the configured address is 169.254.169.254:80"
	if r, err := h.Run("systemctl", "start", "purser"); err != nil || r.Exit == 0 {
		t.Errorf("with another address in the socket unit the start ends with %d, %v", r.Exit, err)
	}
	must(t, harness.Await(5*time.Second, func() error {
		if said := h.journal(); !strings.Contains(said, says) {
			return fmt.Errorf("the journal says %s", said)
		}
		return nil
	}))
	h.must("systemctl", "stop", "purser.socket", "purser.service")
	h.must("install", "-D", "/usr/share/doc/purser/examples/metadata-address.conf", "/etc/systemd/system/purser.socket.d/metadata-address.conf")
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "start", "purser")
	h.expectRole("daemon", "test_role")

	h.must("systemctl", "stop", "purser.socket", "purser.service")
	h.must("rm", "-r", "/etc/purser/conf.d/60-address.yaml", "/etc/systemd/system/purser.socket.d")
	h.must("systemctl", "daemon-reload")
	h.must("ip", "address", "delete", "169.254.169.254/32", "dev", "lo")
}

// expectRole asks as that user of the host.
func (h *installed) expectRole(user, want string) {
	h.t.Helper()
	r, err := h.Unit("role-"+user, user, "/bin/sh", "-c", metadataScript("http://169.254.169.254", ""))
	must(h.t, err)
	if r.Stdout != want {
		h.t.Errorf("%s gets %q %q, want %q", user, r.Stdout, r.Stderr, want)
	}
}

func (h *installed) start(t *testing.T) {
	h.must("sh", "-c", "echo '# by the operator' >>/etc/purser/purser.yaml")
	if r, err := h.Run("setpriv", "--reuid=1", "--regid=1", "--clear-groups", "cat", "/etc/purser/conf.d/50-test.yaml"); err != nil || r.Exit == 0 {
		t.Errorf("another user can read the operator's file, %v", err)
	}
	h.must("systemctl", "start", "purser")
	h.expectShown("ActiveState", "active active inactive")
	h.must("systemctl", "enable", "--now", "purser-redirect")
	h.must("purser", "redirect", "check")

	removed, err := h.Run("purser", "redirect", "remove")
	must(t, err)
	if want := "purser: purser-redirect.service is still active, and will put the rules back"; removed.Exit != 0 || !strings.HasPrefix(removed.Stderr, want) {
		t.Errorf("remove ends with %d and says %q, want %q", removed.Exit, removed.Stderr, want)
	}
	h.must("systemctl", "restart", "purser-redirect")
	if said := h.must("journalctl", "--no-pager", "-o", "cat", "-u", "purser-redirect"); strings.Contains(said, "still active") {
		t.Errorf("purser-redirect says of itself\n%s", said)
	}

	must(t, h.Write("/etc/purser/conf.d/60-address.yaml", "listen: {main: {address: \"127.0.0.1:25999\"}}\n", 0o644))
	moved, err := h.Run("purser", "reload")
	must(t, err)
	const want = "listen needs a restart; nothing was changed; systemd holds the socket of listen.main: first give its socket unit, such as purser.socket, ListenStream=127.0.0.1:25999"
	if moved.Exit != 1 || !strings.Contains(moved.Stderr, want) {
		t.Errorf("a reload with another address ends with %d and says %q, want %q", moved.Exit, moved.Stderr, want)
	}
	h.must("rm", "/etc/purser/conf.d/60-address.yaml")
	h.must("purser", "reload")
}

// realClients has the programs of Debian find keys, the region and the API.
func (h *installed) realClients(t *testing.T) {
	api := newAPI(t, loopback(t, h.Network()), h.upstream.keys)
	root, err := harness.Root()
	must(t, err)
	must(t, h.Copy(filepath.Join(root, "pkg/e2e/clients/boto3_client.py"), "/srv/boto3_client.py"))
	for user, role := range map[string]string{"daemon": "test_role", "backup": "finance"} {
		h.expectRole(user, role)
		for name, script := range map[string]string{
			"boto3":  "echo call | python3 /srv/boto3_client.py " + api.URL,
			"awscli": "aws sts get-caller-identity --query Arn --output text --endpoint-url " + api.URL,
		} {
			r, err := h.Unit(name+"-"+user, user, "/bin/sh", "-c", script)
			must(t, err)
			if !strings.HasPrefix(r.Stdout, "arn:aws:sts::123456789012:assumed-role/e2e/ASIA") {
				t.Errorf("%s of %s says %q %q", name, user, r.Stdout, r.Stderr)
			}
		}
	}
}

func (h *installed) restarts(t *testing.T) {
	early, err := h.Network().Dial("tcp", "169.254.169.254:80")
	must(t, err)
	defer early.Close()
	must(t, h.mock.SetFaults("hang"))
	defer func() { must(t, h.mock.SetFaults()) }()
	h.askDuring("two restarts", 0, func() {
		for range 2 {
			time.Sleep(300 * time.Millisecond)
			h.must("systemctl", "restart", "purser")
		}
	})
	answer := make([]byte, 8)
	_, err = early.Write([]byte("GET / HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n"))
	must(t, errors.Join(err, early.SetReadDeadline(time.Now().Add(5*time.Second))))
	if _, err := io.ReadFull(early, answer); err != nil || string(answer) != "HTTP/1.1" {
		t.Errorf("who connected before the restarts and asks after them gets %q, %v", answer, err)
	}
	// What a killed process was about to answer is lost, and is one request here.
	h.askDuring("a crash", 1, func() {
		pid := h.show("MainPID")
		h.must("systemctl", "kill", "--signal=KILL", "purser")
		h.awaitAnother(pid)
		h.awaitShow("SubState", "running", 10*time.Second)
	})
}

// credentialsFile is for a program that reads nothing else.
func (h *installed) credentialsFile(t *testing.T) {
	h.must("useradd", "--create-home", "app")
	must(t, h.Write("/etc/purser/conf.d/70-app.yaml", "grants: {app: {user: app, credentials: [finance]}}\n", 0o644))
	h.must("systemctl", "reload", "purser")
	h.must("systemctl", "start", "purser-file@app") // ready when the file is there
	if got := h.must("stat", "--format=%U %a", "/home/app/.aws/credentials"); strings.TrimSpace(got) != "app 600" {
		t.Errorf("the file is %s", got)
	}
	list := h.must("runuser", "-u", "app", "--", "env", "-i", "HOME=/home/app", "PATH=/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED=true", "aws", "configure", "list")
	if !strings.Contains(list, "shared-credentials-file") {
		t.Errorf("the AWS CLI finds\n%s", list)
	}
	h.must("systemctl", "stop", "purser-file@app")
	h.must("rm", "/etc/purser/conf.d/70-app.yaml")
	h.must("systemctl", "reload", "purser")
	h.must("userdel", "--remove", "app")
}

// migration is what the README says to a host with alppaca's configuration.
func (h *installed) migration(t *testing.T) {
	must(t, h.Write("/etc/alppaca/config.yaml", "ims_host: localhost\nims_port: 8080\nims_protocol: http\nassume_role: arn:aws:iam::123456789012:role/demoRole\naws_proxy_host: proxy.local\naws_proxy_port: 3128\naws_region: eu-central-1\n", 0o644))
	h.must("sh", "-c", "purser config --from-alppaca >/tmp/migrated.yaml && purser check --offline --config /tmp/migrated.yaml")
	if text := h.must("cat", "/tmp/migrated.yaml"); !strings.Contains(text, "role_arn: arn:aws:iam::123456789012:role/demoRole") {
		t.Errorf("the migrated configuration is\n%s", text)
	}
	h.must("rm", "-r", "/etc/alppaca", "/tmp/migrated.yaml")
}

// awaitAnother waits until another process runs than that.
func (h *installed) awaitAnother(pid string) {
	h.t.Helper()
	must(h.t, harness.Await(10*time.Second, func() error {
		if now := h.show("MainPID"); now == pid || now == "0" {
			return fmt.Errorf("the process is still %s", now)
		}
		return nil
	}))
}

// upgradeWithAMistake has what a refused reload left behind, and files that systemd alone
// can read. Purser goes on in the old version, and so do those who depend on it.
func (h *installed) upgradeWithAMistake(t *testing.T) {
	const mistake = "/etc/purser/conf.d/90-mistake.yaml"
	must(t, h.Write("/etc/ssl/private/keys", "AKIAEXAMPLE\n", 0o600))
	must(t, h.Write("/etc/systemd/system/purser.service.d/keys.conf", "[Service]\nLoadCredential=keys:/etc/ssl/private/keys\n", 0o644))
	must(t, h.Write("/etc/purser/conf.d/70-static.yaml", `upstreams: {keys: {kind: static, credentials: {keys: {
  access_key_id: {file: "${CREDENTIALS_DIRECTORY}/keys"}, secret_access_key: {file: "${CREDENTIALS_DIRECTORY}/keys"}}}}}
grants: {app: {user: app, credentials: [keys]}}
`, 0o644))
	h.must("useradd", "--create-home", "app")
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "restart", "purser", "purser-file@app")
	must(t, h.Write(mistake, "lisen: {}\n", 0o644))
	pids := h.must("systemctl", "show", "--property=MainPID", "purser", "purser-file@app")
	var r harness.Result
	h.askDuring("an upgrade with a mistake", 0, func() {
		r, _ = h.Run(h.packages(higher)...)
		time.Sleep(time.Second)
	})
	said := r.Stdout + r.Stderr
	for _, want := range []string{"purser: not restarted, the old version goes on:", mistake + `:1: unknown key "lisen"`, "systemctl restart purser"} {
		if r.Exit != 0 || !strings.Contains(said, want) {
			t.Errorf("the upgrade ends with %d and without %q, it says\n%s", r.Exit, want, said)
		}
	}
	if now := h.must("systemctl", "show", "--property=MainPID", "purser", "purser-file@app"); now != pids {
		t.Errorf("of %q the upgrade made %q", pids, now)
	}
	h.must("rm", mistake)
	h.install(higher) // with what only the service can read it is no mistake
	h.awaitAnother(strings.TrimPrefix(strings.Fields(pids)[0], "MainPID="))
	h.awaitShow("SubState", "running", 10*time.Second)
	h.must("systemctl", "stop", "purser-file@app")
	h.must("userdel", "--remove", "app")
	h.must("rm", "/etc/ssl/private/keys", "/etc/purser/conf.d/70-static.yaml")
	h.dropIns()
}

func (h *installed) upgrade(t *testing.T) {
	pid, since := h.show("MainPID"), h.must("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "purser.socket")
	must(t, h.mock.SetFaults("hang"))
	defer func() { must(t, h.mock.SetFaults()) }()
	h.askDuring("an upgrade", 0, func() {
		h.install(higher)
		h.awaitAnother(pid)
		h.awaitShow("SubState", "running", 10*time.Second)
	})
	if got := h.must("purser", "status"); !strings.HasPrefix(got, "purser "+higher+",") {
		t.Errorf("after the upgrade there runs %s", got)
	}
	if now := h.must("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "purser.socket"); now != since {
		t.Error("the upgrade restarted the socket")
	}
	h.must("grep", "by the operator", "/etc/purser/purser.yaml")
	h.must("test", "-e", "/etc/purser/conf.d/50-test.yaml")
	h.expectShown("UnitFileState", "enabled enabled enabled")
}

// startInOutage starts Purser anew, with no credential to be had.
func (h *installed) startInOutage() {
	h.t.Helper()
	must(h.t, h.mock.SetFaults("status=503"))
	h.must("systemctl", "stop", "purser")
	h.must("systemctl", "start", "--no-block", "purser")
	h.awaitShow("StatusText", "waiting for", 10*time.Second)
}

// refresh asks the upstream now, rather than at the next attempt, of a Purser that has
// just been started.
func (h *installed) refresh() {
	h.t.Helper()
	must(h.t, harness.Await(10*time.Second, func() error { _, err := h.Must("purser", "refresh"); return err }))
}

// upgradeInAnOutage shows that no maintainer script waits for READY.
func (h *installed) upgradeInAnOutage(t *testing.T) {
	h.startInOutage()
	pid := h.show("MainPID")
	h.install(higher)
	h.awaitAnother(pid)
	if state := h.show("ActiveState"); state != "activating" {
		t.Errorf("with no credential to be had the unit is %s", state)
	}
	must(t, h.mock.SetFaults())
	h.refresh()
	h.awaitShow("SubState", "running", 10*time.Second)
}

// reboot has the upstream on the host itself, from the package for it.
func (h *installed) reboot(t *testing.T) {
	must(t, h.Write("/etc/systemd/system/upstream.service", "[Service]\nExecStart=/usr/bin/purser-mock\n[Install]\nWantedBy=multi-user.target\n", 0o644))
	h.must("systemctl", "enable", "--now", "upstream")
	h.asks("http://127.0.0.1:8080/latest")
	h.must("systemctl", "reload", "purser")
	must(t, h.Reboot())
	h.expectShown("ActiveState", "active active active")
	h.expectRole("daemon", "test_role")
	booted, err := strconv.Atoi(strings.TrimSpace(h.must("systemctl", "show", "--value", "--property=UserspaceTimestampMonotonic")))
	must(t, err)
	ready, err := strconv.Atoi(h.show("ActiveEnterTimestampMonotonic"))
	must(t, err)
	t.Logf("from the start of systemd to the first credential: %v", time.Duration(ready-booted)*time.Microsecond)
}
