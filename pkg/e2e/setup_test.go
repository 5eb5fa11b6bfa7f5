package e2e

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// needs skips a test where the machine lacks something, loudly. In CI that is a
// failure: what is never run proves nothing.
func needs(t *testing.T, what string, there bool) {
	t.Helper()
	switch {
	case there:
	case os.Getenv("CI") == "true":
		t.Fatalf("needs %s, and CI=true allows no skip", what)
	default:
		t.Skipf("needs %s", what)
	}
}

func needsRoot(t *testing.T) {
	t.Helper()
	needs(t, "root", os.Geteuid() == 0)
}

// must stops the test at an error of what is only its preparation.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openFolder makes a folder that other accounts can enter, until the test ends.
func openFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "purser-e2e-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	must(t, os.Chmod(folder, 0o755))
	return folder
}

// loopback listens on a free port of loopback, in the namespace if there is one.
func loopback(t *testing.T, inside *harness.Namespace) net.Listener {
	t.Helper()
	listen := net.Listen
	if inside != nil {
		listen = func(_, address string) (net.Listener, error) { return inside.Listen(address) }
	}
	l, err := listen("tcp", "127.0.0.1:0")
	must(t, err)
	return l
}

// startMock runs a mock until the test ends.
func startMock(t *testing.T, flags ...string) *harness.Mock {
	t.Helper()
	mock, err := harness.StartMock(flags...)
	must(t, err)
	t.Cleanup(func() {
		if code, err := mock.Stop(); err != nil || code != 0 {
			t.Errorf("the mock ended with %d, %v", code, err)
		}
	})
	return mock
}

// startAgent runs an agent until the test ends, and then looks for secrets in all
// that it said and for what it should never say at all.
func startAgent(t *testing.T, o harness.AgentOptions) *harness.Agent {
	t.Helper()
	agent, err := harness.NewAgent(o)
	must(t, err)
	t.Cleanup(func() { closeAgent(t, agent) })
	must(t, agent.Start())
	return agent
}

func closeAgent(t *testing.T, agent *harness.Agent) {
	t.Helper()
	said := agent.Said()
	authorization := agent.AuthorizationToken()
	if err := agent.Close(); err != nil {
		t.Error(err)
	}
	if agent.Process == nil {
		return
	}
	said += agent.Output()
	never := []string{harness.Marker, "hvs.", "panic", "goroutine "} // hvs. begins every token of Vault
	if authorization != "" {
		never = append(never, authorization)
	}
	for _, never := range never {
		if at := strings.Index(said, never); at >= 0 {
			t.Errorf("the agent said %q: ...%s...", never, said[max(0, at-200):min(len(said), at+200)])
		}
	}
	if t.Failed() {
		t.Logf("the agent said:\n%s", tail(agent.Output(), 4000))
	}
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// namespace makes a network namespace until the test ends.
func namespace(t *testing.T) *harness.Namespace {
	t.Helper()
	needsRoot(t)
	n, err := harness.NewNamespace()
	must(t, err)
	t.Cleanup(func() {
		if err := n.Delete(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// everything is a grant of everything to everyone.
const everything = "grants: {everyone: {credentials: [\"*\"]}}\n"

// upstream is the configuration of one IMS.
func upstream(url string) string {
	return "upstreams: {datacenter: {kind: ims, url: \"" + url + "\"}}\n"
}
