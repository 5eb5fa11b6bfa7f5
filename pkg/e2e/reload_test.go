package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

func TestPromise8ATypoIsAnErrorBeforeAnythingStarts(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		says   []string
	}{
		"unknown key":      {"upstreams:\n  dc:\n    kind: ims\n    ulr: http://127.0.0.1:1\n", []string{"50-test.yaml", "4", "ulr", "url"}},
		"wrong type":       {"log:\n  level: [debug]\n", []string{"50-test.yaml", "2", "level"}},
		"duplicate key":    {"user: nobody\nuser: daemon\n", []string{"50-test.yaml", "2", "user"}},
		"unknown value":    {"listen:\n  main: {dialects: [asw]}\n", []string{"50-test.yaml", "2", "asw", "aws"}},
		"unknown kind":     {"upstreams:\n  dc: {kind: imms, url: http://127.0.0.1:1}\n", []string{"50-test.yaml", "2", "imms", "ims"}},
		"not YAML":         {"log: {level: debug\n", []string{"50-test.yaml"}},
		"grant of nothing": {"grants:\n  web: {usr: daemon, credentials: [x]}\n", []string{"50-test.yaml", "2", "usr", "user"}},
	} {
		t.Run(name, func(t *testing.T) {
			agent, err := harness.NewAgent(harness.AgentOptions{Config: c.config, NotReady: true})
			must(t, err)
			t.Cleanup(func() { os.RemoveAll(agent.Dir) })
			must(t, agent.Start())
			code, err := agent.Exit(10 * time.Second)
			must(t, err)
			checked, err := agent.Run("check", "--offline")
			must(t, err)
			if code != 2 || checked.Exit != 2 {
				t.Errorf("serve exits with %d, check with %d, want 2", code, checked.Exit)
			}
			for _, want := range c.says {
				if !strings.Contains(agent.Output(), want) || !strings.Contains(checked.Stderr, want) {
					t.Errorf("no %q in %q, or in that of check: %q", want, agent.Output(), checked.Stderr)
				}
			}
		})
	}
}

func TestPromise8ARefusedReloadChangesNothing(t *testing.T) {
	mock := startMock(t)
	dead := startMock(t, "--role", "other", "--fault", "status=503")
	good := upstream(mock.URL()) + everything
	agent := startAgent(t, harness.AgentOptions{Config: good})
	m := newMetadata(t, agent)
	stock := m.document(t, "test_role")
	for name, c := range map[string]struct{ config, says string }{
		"a typo":                   {good + "lisen: {}\n", "lisen"},
		"broken YAML":              {good + "log: {level: debug\n", "50-test.yaml"},
		"no grants and a typo":     {upstream(mock.URL()) + "grant: {}\n", "grants"},
		"an upstream that fails":   {strings.Replace(good, "upstreams: {", "upstreams: {dead: {kind: ims, url: \""+dead.URL()+"\"}, ", 1), "dead"},
		"another listener":         {good + "listen: {main: {address: \"127.0.0.1:1\"}}\n", "listen"},
		"another telemetry":        {good + "telemetry: {listen: \"127.0.0.1:1\"}\n", "telemetry"},
		"another user":             {good + "user: daemon\n", "user"},
		"an upstream of no kind":   {"upstreams: {datacenter: {url: \"" + mock.URL() + "\"}}\n" + everything, "kind"},
		"a file that is not there": {"upstreams: {datacenter: {kind: ims, url: \"https://127.0.0.1:1\", tls: {ca: /nonexistent/ca.pem}}}\n" + everything, "/nonexistent/ca.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, agent.Configure(c.config))
			r, err := agent.Run("reload")
			must(t, err)
			if r.Exit == 0 || !strings.Contains(r.Stderr, c.says) {
				t.Errorf("reload exits with %d and says %q, want %q in it", r.Exit, r.Stderr, c.says)
			}
			if got := m.document(t, "test_role"); got != stock {
				t.Errorf("a refused reload changed the document to %s", got)
			}
			if _, list, _ := m.get(securityCredentials); list != "test_role" {
				t.Errorf("a refused reload changed the list to %q", list)
			}
			if !agent.Ready() {
				t.Error("a refused reload ended readiness")
			}
		})
	}
}

func TestPromise8AGoodReloadKeepsConnectionsAndStock(t *testing.T) {
	mock, second := startMock(t), startMock(t, "--role", "second")
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	m := newMetadata(t, agent)
	stock := m.document(t, "test_role")
	more := strings.Replace(upstream(mock.URL()), "upstreams: {", "upstreams: {second: {kind: ims, url: \""+second.URL()+"\"}, ", 1) + everything
	must(t, agent.Configure(more))
	r, err := agent.Run("reload")
	must(t, err)
	if r.Exit != 0 {
		t.Fatalf("reload: %s", r.Stderr)
	}
	if got := m.document(t, "test_role"); got != stock {
		t.Errorf("the reload replaced what was in stock")
	}
	if d := parse(t, m.document(t, "second")); d.Code != "Success" {
		t.Errorf("the new upstream's document says %s", d.Code)
	}

	// SIGHUP does the same, and what a removed upstream gave goes at the swap.
	must(t, agent.Configure(upstream(mock.URL())+everything))
	must(t, agent.Signal(syscall.SIGHUP))
	must(t, harness.Await(5*time.Second, func() error {
		status, _, err := m.get(securityCredentials + "second")
		if err == nil && status != 404 {
			err = fmt.Errorf("the credential of the removed upstream is still there: %d", status)
		}
		return err
	}))
	if got := m.document(t, "test_role"); got != stock {
		t.Errorf("the second reload replaced what was in stock")
	}
	(&stand{agent: agent}).expectOneConnection(t, 0)
}

func TestReloadChangesGrantsOnOpenConnections(t *testing.T) {
	mock := startMock(t)
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	m := newMetadata(t, agent)
	m.document(t, "test_role")
	must(t, agent.Configure(upstream(mock.URL())+"grants: {nobody: {user: games, credentials: [\"*\"]}}\n"))
	r, err := agent.Run("reload")
	must(t, err)
	status, _, err := m.get(securityCredentials + "test_role")
	must(t, err)
	if r.Exit != 0 || status != 404 {
		t.Errorf("reload exits with %d (%s), and the old connection is answered with %d, want 404", r.Exit, r.Stderr, status)
	}
}
