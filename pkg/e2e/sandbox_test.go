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

// TestTheSandboxIsInForceOnEveryThread reads what the kernel says of the daemon, and of
// its helper, which is outside.
func TestTheSandboxIsInForceOnEveryThread(t *testing.T) {
	mock := startMock(t)
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", agent.PID()))
	must(t, err)
	if len(tasks) < 3 {
		t.Fatalf("found %d threads", len(tasks))
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		must(t, err)
		for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s does not say %q", task, want)
			}
		}
	}
	status, err := agent.Run("status")
	must(t, err)
	if !strings.Contains(status.Stdout, "sandbox: landlock in force, seccomp in force\n") {
		t.Errorf("status says\n%s", status.Stdout)
	}
	json, err := agent.Run("status", "--json")
	must(t, err)
	if !strings.Contains(json.Stdout, `"seccomp": "in force"`) {
		t.Errorf("status --json says\n%s", json.Stdout)
	}
}

func TestTheSandboxCanBeTurnedOffAndIsSaidToBe(t *testing.T) {
	mock := startMock(t)
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything + "sandbox: {seccomp: false, landlock: false}\n"})
	status, err := agent.Run("status")
	must(t, err)
	if !strings.Contains(status.Stdout, "sandbox: landlock turned off (sandbox.landlock), seccomp turned off (sandbox.seccomp)\n") {
		t.Errorf("status says\n%s", status.Stdout)
	}
}

// TestWorkGoesOnInsideTheSandbox: a program that is run, a configuration that comes by
// reload, and one that the sandbox does not let Purser read.
func TestWorkGoesOnInsideTheSandbox(t *testing.T) {
	mock := startMock(t)
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	folder := t.TempDir()
	must(t, os.Chmod(filepath.Dir(folder), 0o755))
	must(t, os.Chmod(folder, 0o755))
	script := filepath.Join(folder, "keys")
	must(t, os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\necho '{\"Version\": 1, \"AccessKeyId\": \"ASIAPROGRAM\", \"SecretAccessKey\": \"%s\", \"SessionToken\": \"t\", \"Expiration\": \"%s\"}'\n",
		harness.Marker, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)), 0o755))
	must(t, agent.Configure("upstreams:\n  program: {kind: process, credentials: {made: {command: ["+script+"]}}}\n"+everything))
	reload, err := agent.Run("reload")
	must(t, err)
	if reload.Exit != 0 {
		t.Fatalf("the reload ended with %d: %s", reload.Exit, reload.Stderr)
	}
	m := newMetadata(t, agent)
	if d := parse(t, m.document(t, "made")); d.AccessKeyID != "ASIAPROGRAM" {
		t.Errorf("the program's keys are %q", d.AccessKeyID)
	}

	secret := filepath.Join(folder, "secret")
	must(t, os.WriteFile(secret, []byte(harness.Marker), 0o644))
	must(t, agent.Configure("upstreams:\n  user: {kind: static, credentials: {kept: {access_key_id: AKIAEXAMPLE, secret_access_key: {file: "+secret+"}}}}\n"+everything))
	reload, err = agent.Run("reload")
	must(t, err)
	if want := secret + ": the folder " + folder + " is outside of the sandbox; this needs a restart, nothing was changed"; reload.Exit != 1 || !strings.Contains(reload.Stderr, want) {
		t.Errorf("the reload ended with %d: %s", reload.Exit, reload.Stderr)
	}
	_, err = agent.Stop()
	must(t, err)
	must(t, agent.Start())
	if d := parse(t, newMetadata(t, agent).document(t, "kept")); d.AccessKeyID != "AKIAEXAMPLE" {
		t.Errorf("after a restart the keys are %q", d.AccessKeyID)
	}
}
