package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A forwardProxy is Debian's tinyproxy inside a namespace.
type forwardProxy struct {
	*harness.Process
	port string
}

func startProxy(t *testing.T, inside *harness.Namespace) *forwardProxy {
	t.Helper()
	const program = "/usr/bin/tinyproxy"
	_, err := os.Stat(program)
	needs(t, "tinyproxy", err == nil)
	port, err := harness.FreePort()
	must(t, err)
	p := &forwardProxy{port: fmt.Sprint(port)}
	file := filepath.Join(t.TempDir(), "tinyproxy.conf")
	must(t, os.WriteFile(file, []byte("Port "+p.port+"\nListen 127.0.0.1\nTimeout 30\nMaxClients 20\nLogLevel Info\n"), 0o644))
	p.Process, err = harness.Command{Path: program, Args: []string{"-d", "-c", file}, Namespace: inside}.Start()
	must(t, err)
	t.Cleanup(func() {
		_, _ = p.Stop()
		if t.Failed() {
			t.Logf("the proxy said:\n%s", p.Output())
		}
	})
	must(t, harness.Await(5*time.Second, func() error {
		c, err := inside.Dial("tcp", "127.0.0.1:"+p.port)
		if err == nil {
			err = c.Close()
		}
		return err
	}))
	return p
}

const demoRole = "arn:aws:iam::123456789012:role/demoRole"

// TestAlppacasChainThroughAProxy is alppaca's configuration for a role in another
// account, with the real proxy, the redirect and a boto3 that has no variable at all.
func TestAlppacasChainThroughAProxy(t *testing.T) {
	inside := namespace(t)
	mock, err := harness.StartMockWithSTS("--sts-role", demoRole)
	must(t, err)
	t.Cleanup(func() { _, _ = mock.Stop() })
	ims := newRecorder(t, loopback(t, inside), mock.Server())
	sts := newRecorder(t, loopback(t, inside), "http://"+mock.STS)
	proxy := startProxy(t, inside)
	host, port, err := net.SplitHostPort(strings.TrimPrefix(ims.URL, "http://"))
	must(t, err)

	agent := startAgent(t, harness.AgentOptions{Namespace: inside, Config: fmt.Sprintf(`ims_host: %s
ims_port: %s
ims_protocol: http
assume_role: %s
aws_proxy_host: 127.0.0.1
aws_proxy_port: %s
aws_region: eu-central-1
upstreams: {alppaca-assume-role: {endpoint: %q}}
`, host, port, demoRole, proxy.port, sts.URL)})
	address, err := netip.ParseAddrPort(agent.Address)
	must(t, err)
	must(t, inside.Redirect(int(address.Port())))

	client := caller{daemonUID, inside}
	if status, body := client.curl(t, "http://169.254.169.254"+securityCredentials); status != 200 || body != "demoRole" {
		t.Errorf("the list is %d %q, want the assumed role alone", status, body)
	}
	if status, _ := client.curl(t, "http://169.254.169.254"+securityCredentials+"test_role"); status != 404 {
		t.Errorf("the base is answered with %d", status)
	}
	boto3 := programs(t)[0].start(t, inside, newAPI(t, loopback(t, inside), sts.keys)) // which knows the keys of the role only
	before := boto3.call("call")

	asked := sts.requests()
	if len(asked) == 0 || slices.ContainsFunc(asked, func(via string) bool { return !strings.Contains(via, "tinyproxy") }) {
		t.Errorf("STS was asked by way of %q, want the proxy each time", asked)
	}
	if _, err := proxy.Stop(); err != nil {
		t.Fatal(err)
	}
	r, err := agent.Run("refresh", "demoRole")
	must(t, err)
	if r.Exit != 1 || !strings.Contains(r.Stderr, "the proxy cannot be reached") {
		t.Errorf("a refresh without the proxy: %d %s", r.Exit, r.Stderr)
	}
	if got := sts.requests(); len(got) != len(asked) {
		t.Errorf("STS was asked %d times without the proxy", len(got)-len(asked))
	}
	if got := boto3.call("call"); got != before {
		t.Errorf("a call was signed with %s, before that with %s", got, before)
	}
}

// TestThreeHopsAgainstTheRealBinaries starts warm, and shows the last hop only.
func TestThreeHopsAgainstTheRealBinaries(t *testing.T) {
	mock, err := harness.StartMockWithSTS()
	must(t, err)
	t.Cleanup(func() { _, _ = mock.Stop() })
	hop := func(name, base string) string {
		return fmt.Sprintf("  %s-hop: {kind: sts, base: {%s}, region: eu-central-1, endpoint: \"http://%s\", roles: {%s: {role_arn: \"arn:aws:iam::123456789012:role/%s\"}}}\n",
			name, base, mock.STS, name, name)
	}
	agent := startAgent(t, harness.AgentOptions{Config: fmt.Sprintf("upstreams:\n  dc: {kind: ims, url: %q}\n", mock.URL()) +
		hop("c", "credential: b") + hop("b", "credential: a") + hop("a", "upstream: dc") + everything})
	r, err := agent.Run("status")
	must(t, err)
	if strings.Count(r.Stdout, "fresh") < 4 {
		t.Errorf("status says\n%s", r.Stdout)
	}
	checked, err := agent.Run("check")
	must(t, err)
	if order := []int{strings.Index(checked.Stdout, "upstream dc: ok"), strings.Index(checked.Stdout, "upstream a-hop: ok"),
		strings.Index(checked.Stdout, "upstream b-hop: ok"), strings.Index(checked.Stdout, "upstream c-hop: ok")}; checked.Exit != 0 || order[0] < 0 || !slices.IsSorted(order) {
		t.Errorf("check ended with %d and said\n%s%s", checked.Exit, checked.Stdout, checked.Stderr)
	}
	for line := range strings.Lines(agent.Output()) {
		if strings.Contains(line, `"level":"warn"`) && strings.Contains(line, `"upstream"`) {
			t.Errorf("a start in which all is well warns: %s", line)
		}
	}
}
