package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A system is a Purser that root starts with a configuration that says nothing of
// where it is: its socket, its keys and its ports are where they are by default. It
// has a /run and a network of its own, so that those of the machine stay clean.
type system struct {
	*harness.Process
	t      *testing.T
	binary string
	config string // the file or folder
	inside *harness.Namespace
}

// startSystem writes the configuration to a file of that name in a folder of that
// name, and starts Purser with it until the test ends.
func startSystem(t *testing.T, inside *harness.Namespace, config, file, text string, env ...string) *system {
	t.Helper()
	dir, err := os.MkdirTemp("", "purser-e2e-system-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	s := &system{t: t, config: filepath.Join(dir, config), inside: inside}
	must(t, os.Mkdir(s.config, 0o755))
	must(t, os.WriteFile(filepath.Join(s.config, file), []byte(text), 0o644))
	s.binary, err = harness.Binary("purser")
	must(t, err)
	s.Process, err = harness.Command{Path: "/usr/bin/unshare", Namespace: inside, Env: env, Args: []string{
		"--mount", "--", "/bin/sh", "-c", `mount -t tmpfs -o mode=755 tmpfs /run && exec "$@"`, "sh",
		s.binary, "serve", "--config", s.config}}.Start()
	must(t, err)
	t.Cleanup(func() {
		if code, err := s.Stop(); code != 0 || err != nil {
			t.Errorf("the agent ended with %d, %v", code, err)
		}
		if said := s.Output(); strings.Contains(said, harness.Marker) || t.Failed() {
			t.Errorf("the agent said %s", said)
		}
	})
	must(t, harness.Await(5*time.Second, func() error { // before that, commands would ask the machine's own Purser
		if runs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.PID())); err != nil || runs != s.binary {
			return fmt.Errorf("the process still runs %s, %v", runs, err)
		}
		return nil
	}))
	if r := s.run(0, "wait", "--timeout", "10s"); r.Exit != 0 {
		t.Fatalf("the agent is not ready: %s", r.Stderr)
	}
	return s
}

// run runs one of the operator's commands on the same system.
func (s *system) run(uid int, args ...string) harness.Result {
	s.t.Helper()
	enter := []string{"--target", strconv.Itoa(s.PID()), "--mount", "--setuid", strconv.Itoa(uid), "--setgid", strconv.Itoa(uid), "--", s.binary}
	r, err := harness.Command{Path: "/usr/bin/nsenter", Args: append(enter, args...), Namespace: s.inside}.Run()
	must(s.t, err)
	return r
}

// expectOperable reloads with nothing changed, and uses every command without saying
// where the socket is.
func (s *system) expectOperable() {
	s.t.Helper()
	must(s.t, s.Signal(syscall.SIGHUP))
	must(s.t, harness.Await(5*time.Second, func() error {
		if s.lastReload() == (reload{}) {
			return errors.New("SIGHUP led to no reload")
		}
		return nil
	}))
	if last := s.lastReload(); last.Error != "" {
		s.t.Errorf("the reload of SIGHUP: %s", last.Error)
	}
	for _, c := range []struct {
		uid  int
		args []string
		exit int
	}{
		{0, []string{"status"}, 0},
		{0, []string{"refresh"}, 0},
		{0, []string{"reload"}, 0},
		{daemonUID, []string{"status"}, 0},
		{daemonUID, []string{"wait", "test_role", "--timeout", "5s"}, 0},
		{daemonUID, []string{"reload"}, 1},
	} {
		if r := s.run(c.uid, c.args...); r.Exit != c.exit {
			s.t.Errorf("uid %d: purser %s exits with %d, want %d: %s", c.uid, strings.Join(c.args, " "), r.Exit, c.exit, r.Stderr)
		}
	}
}

// A reload is how purser status tells of one.
type reload struct{ Time, Error string }

func (s *system) lastReload() reload {
	s.t.Helper()
	var report struct{ Reload reload }
	r := s.run(0, "status", "--json")
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
		s.t.Fatalf("purser status --json: %v: %s", err, r.Stderr)
	}
	return report.Reload
}

// upstreamInside is a mock that is reached inside the namespace, at an address that
// may be fixed there.
func upstreamInside(t *testing.T, inside *harness.Namespace, address string) *recorder {
	t.Helper()
	l, err := inside.Listen(address)
	must(t, err)
	return newRecorder(t, l, startMock(t).Server())
}

func TestRootsDefaultsCanBeOperatedAndReloaded(t *testing.T) {
	inside := namespace(t)
	record := upstreamInside(t, inside, "127.0.0.1:0")
	s := startSystem(t, inside, "purser", "purser.yaml", upstream(record.URL+"/latest")+everything+"user: nobody\ngroup: nogroup\n")
	s.expectOperable()
	if got := (caller{daemonUID, inside}).role(t, fmt.Sprintf("http://127.0.0.1:%d", frontPort)); got != "test_role" {
		t.Errorf("a caller gets %s", got)
	}
	expectNoPrivilege(t, s.PID(), nobodyUID)
}

// alppacaConfig is what alppaca's manual shows for /etc/alppaca/config.yaml.
const alppacaConfig = `ims_host: 'localhost'
ims_port: 8080
ims_protocol: 'http'
bind_ip: 127.0.0.1
bind_port: 25772
log_level: warning
log_format: '%(asctime)s [%(levelname)s] %(message)s'
logging_handler:
  module: logging.handlers
  class: WatchedFileHandler
  args: [/var/log/alppaca.log]
user: nobody
group: nobody
`

// TestAnAlppacaFolderStartsUnchanged has the mock where alppaca's has it, the two ways
// of alppaca's manual to the metadata address, and its clients: those who know only
// version 1, and an SDK of today.
func TestAnAlppacaFolderStartsUnchanged(t *testing.T) {
	for _, c := range []struct{ name, bind string }{
		{"the redirect", "bind_ip: 127.0.0.1\nbind_port: 25772\n"},
		{"the address itself", "bind_ip: 169.254.169.254\nbind_port: 80\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inside := namespace(t)
			record := upstreamInside(t, inside, "127.0.0.1:8080")
			if c.name == "the redirect" {
				must(t, inside.Redirect(frontPort))
			} else {
				addMetadataAddress(t, inside)
			}
			s := startSystem(t, inside, "alppaca", "config.yaml", strings.Replace(alppacaConfig, "bind_ip: 127.0.0.1\nbind_port: 25772\n", c.bind, 1))
			expectNoPrivilege(t, s.PID(), nobodyUID)

			client := caller{daemonUID, inside}
			status, role := client.curl(t, "http://169.254.169.254"+securityCredentials)
			if status != http.StatusOK || role != "test_role" {
				t.Fatalf("the list: %d %q", status, role)
			}
			status, body := client.curl(t, "http://169.254.169.254"+securityCredentials+role)
			if d := parse(t, body); status != http.StatusOK || d.Code != "Success" || d.SecretAccessKey == "" {
				t.Errorf("the document: %d %s", status, d.Code)
			}
			api := newAPI(t, loopback(t, inside), record.keys)
			boto3 := programs(t)[0]
			boto3.start(t, inside, api).call("call")
			for _, notice := range []string{"ims_host", "logging_handler", "nogroup"} {
				if !strings.Contains(s.Output(), notice) {
					t.Errorf("the log does not mention %s", notice)
				}
			}
			s.expectOperable()
			expectNoPrivilege(t, s.PID(), nobodyUID)
		})
	}
}
