package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// TestPromise6SecretsGoToTheCallerAndNowhereElse makes the agent say all it can, with
// secrets passing through it all the time. That everything it said is searched for
// secrets is part of closeAgent, and so of every other test as well.
func TestPromise6SecretsGoToTheCallerAndNowhereElse(t *testing.T) {
	mock := startMock(t, "--roles", "3")
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	m := newMetadata(t, agent)
	if !strings.Contains(m.document(t, "test_role"), harness.Marker) {
		t.Fatal("the marker is not even in the document, so searching for it proves nothing")
	}
	for _, answer := range append(wrongAnswers(), "short=1s") {
		must(t, mock.SetFaults(answer))
		_, err := agent.Run("refresh")
		must(t, err)
	}
	must(t, mock.SetFaults())
	for _, command := range [][]string{
		{"status"}, {"status", "--json"}, {"check"}, {"check", "--offline"}, {"config"}, {"config", "--origin"},
		{"wait"}, {"refresh"}, {"reload"}, {"version"},
		{"credential-process", "no_such_role", "--url", "http://" + agent.Address, "--token-file", agent.Authorization()},
	} {
		r, err := agent.Run(command...)
		must(t, err)
		t.Logf("purser %s: exit %d, %d bytes", strings.Join(command, " "), r.Exit, len(r.Stdout)+len(r.Stderr))
	}
	for _, path := range []string{"/v1/credentials", securityCredentials, "/nothing"} {
		_, _, err := m.do("GET", path+"?token="+agent.AuthorizationToken()+m.token,
			"Authorization", agent.AuthorizationToken()+"x", tokenHeader, m.token+"x")
		must(t, err)
	}
	if strings.Contains(agent.Said(), m.token) {
		t.Error("the log shows a session token")
	}
	for _, file := range []string{"cmdline", "environ", "status", "comm"} {
		text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(agent.PID()), file))
		if err == nil && bytes.Contains(text, []byte(harness.Marker)) {
			t.Errorf("/proc/PID/%s contains a secret", file)
		}
	}
}

func TestPromise6NoCoreDumpAndNoLookIntoMemory(t *testing.T) {
	needsRoot(t)
	mock := startMock(t)
	agent, err := harness.StartAgent(harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(agent.Dir) })
	pid := fmt.Sprint(agent.PID())
	r, err := harness.Command{Path: "/bin/dd", Args: []string{"if=/proc/" + pid + "/mem", "of=/dev/null", "count=1"},
		UID: nobodyUID, GID: nobodyUID}.Run()
	must(t, err)
	if r.Exit == 0 || !strings.Contains(r.Stderr, "ermission denied") {
		t.Errorf("another process of the same user opens its memory: %s", r.Stderr)
	}
	limits, err := os.ReadFile("/proc/" + pid + "/limits")
	must(t, err)
	for line := range strings.Lines(string(limits)) {
		if fields := strings.Fields(strings.TrimPrefix(line, "Max core file size")); strings.HasPrefix(line, "Max core file size") && (fields[0] != "0" || fields[1] != "0") {
			t.Errorf("the limit of core dumps is %s", line)
		}
	}
	must(t, agent.Signal(syscall.SIGABRT))
	if _, err := agent.Exit(10 * time.Second); err != nil {
		t.Error(err)
	}
	if said := agent.Output(); strings.Contains(said, harness.Marker) {
		t.Error("what Go prints at SIGABRT contains a secret")
	}
	for _, dir := range []string{"/", agent.Dir} {
		cores, err := filepath.Glob(filepath.Join(dir, "core*"))
		must(t, err)
		if len(cores) > 0 {
			t.Errorf("a core dump: %s", cores)
		}
	}
}
