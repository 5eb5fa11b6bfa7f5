package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

const frontPort = 25772 // in a namespace of its own there is no need to search

// twoUsers gives daemon and backup a role each, and the rest nothing.
const twoUsers = `grants:
  web: {user: daemon, credentials: [test_role]}
  vault: {user: backup, credentials: [finance]}
`

// A path is how a caller reaches the agent.
type path struct {
	name, base string
	args       []string // for curl
}

// redirectedPaths are the ways through the DNAT rules. The last one is a client whose
// socket is an IPv6 one although it speaks IPv4.
var redirectedPaths = []path{
	{name: "IPv4", base: "http://169.254.169.254"},
	{name: "IPv6", base: "http://[fd00:ec2::254]"},
	{name: "v4-mapped", base: "http://[::ffff:169.254.169.254]", args: []string{"-H", "Host: 169.254.169.254"}},
}

var directPaths = []path{
	{name: "IPv4, no redirect", base: fmt.Sprintf("http://127.0.0.1:%d", frontPort)},
	{name: "IPv6, no redirect", base: fmt.Sprintf("http://[::1]:%d", frontPort)},
}

// redirectedAgent runs in a namespace with the rules for IPv4 and IPv6.
func redirectedAgent(t *testing.T, config string, roles ...string) (*harness.Namespace, *harness.Agent) {
	t.Helper()
	inside := namespace(t)
	flags := []string{}
	for _, role := range roles {
		flags = append(flags, "--role", role)
	}
	mock := startMock(t, flags...)
	record := newRecorder(t, loopback(t, inside), mock.Server())
	agent := startAgent(t, harness.AgentOptions{
		Namespace: inside, Address: fmt.Sprintf("127.0.0.1:%d", frontPort),
		Config: upstream(record.URL+"/latest") + config + fmt.Sprintf("listen: {six: {address: \"[::1]:%d\"}}\n", frontPort),
	})
	must(t, inside.Redirect(frontPort))
	must(t, inside.RedirectIPv6(frontPort))
	return inside, agent
}

func TestPromise5TwoUsersGetDifferentRolesFromTheSameURL(t *testing.T) {
	inside, _ := redirectedAgent(t, twoUsers, "test_role", "finance")
	for _, p := range append(redirectedPaths, directPaths...) {
		t.Run(p.name, func(t *testing.T) {
			for _, c := range []struct {
				uid         int
				want, other string
			}{
				{daemonUID, "test_role", "finance"},
				{backupUID, "finance", "test_role"},
				{gamesUID, "status 404", "finance"},
				{0, "status 404", "test_role"},
			} {
				as := caller{c.uid, inside}
				if got := as.role(t, p.base, p.args...); got != c.want {
					t.Errorf("uid %d gets %s, want %s", c.uid, got, c.want)
				}
				_, token := as.curl(t, append(p.args, "-X", "PUT", "-H", ttlHeader+": 60", p.base+"/latest/api/token")...)
				get := append(p.args, "-H", tokenHeader+": "+token, p.base+securityCredentials+c.other)
				forbidden, body := as.curl(t, get...)
				get[len(get)-1] = p.base + securityCredentials + "nobody_has_this"
				absent, empty := as.curl(t, get...)
				if forbidden != http.StatusNotFound || forbidden != absent || body != empty {
					t.Errorf("uid %d may not have %s and is told so: %d %q, while an unknown role is %d %q", c.uid, c.other, forbidden, body, absent, empty)
				}
			}
		})
	}
}

func TestPromise5ContainerCredentialsAndProcessFollowTheGrants(t *testing.T) {
	inside, agent := redirectedAgent(t, twoUsers, "test_role", "finance")
	base := "http://" + agent.Address
	for _, c := range []struct {
		uid  int
		path string
		want int
	}{
		{daemonUID, "/v1/credentials", 200},
		{daemonUID, "/v2/credentials/test_role", 200},
		{daemonUID, "/v2/credentials/finance", 404},
		{backupUID, "/v2/credentials/finance", 200},
		{gamesUID, "/v1/credentials", 404},
		{gamesUID, "/v2/credentials/finance", 404},
	} {
		as := caller{c.uid, inside}
		if status, _ := as.curl(t, "-H", "Authorization: "+agent.AuthorizationToken(), base+c.path); status != c.want {
			t.Errorf("uid %d, %s: %d, want %d", c.uid, c.path, status, c.want)
		}
		if status, body := as.curl(t, base+c.path); status != http.StatusUnauthorized || strings.Contains(body, "AccessKeyId") {
			t.Errorf("uid %d, %s without a token: %d %q", c.uid, c.path, status, body)
		}
	}
	purser, err := harness.Binary("purser")
	must(t, err)
	for uid, want := range map[int]int{daemonUID: 1, backupUID: 0} {
		r, err := harness.Command{Path: purser, Args: []string{"credential-process", "finance", "--url", base, "--token-file", agent.Authorization()},
			UID: uid, GID: uid, Namespace: inside}.Run()
		must(t, err)
		if r.Exit != want || (want == 0) != strings.Contains(r.Stdout, `"SessionToken"`) {
			t.Errorf("uid %d: credential-process finance exits with %d, want %d: %s", uid, r.Exit, want, r.Stderr)
		}
	}
}

// TestPromise5EarlyClosersAreNobody: a client that has closed its socket seems to be
// root in the kernel's answer. It must not get, or be logged, as root.
func TestPromise5EarlyClosersAreNobody(t *testing.T) {
	inside, agent := redirectedAgent(t, "grants: {treasure: {user: root, credentials: [test_role]}}\n", "test_role")
	const closers = 300
	script := fmt.Sprintf(`for i in $(seq %d); do
	exec 3<>/dev/tcp/169.254.169.254/80
	printf 'PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n%s: 60\r\n\r\n' >&3
	exec 3>&-
	done`, closers, ttlHeader)
	r, err := harness.Command{Path: "/bin/bash", Args: []string{"-c", script}, UID: daemonUID, GID: daemonUID, Namespace: inside}.Run()
	must(t, err)
	if r.Exit != 0 {
		t.Fatalf("the closers: %d %s", r.Exit, r.Stderr)
	}
	if got := (caller{0, inside}).role(t, "http://169.254.169.254"); got != "test_role" {
		t.Errorf("root gets %s after the closers, want test_role", got)
	}
	asRoot := 0
	for _, access := range agent.Accesses() {
		if access.UID != nil && *access.UID == 0 {
			asRoot++
		}
	}
	if asRoot > 3 { // root's own three requests
		t.Errorf("%d requests were taken for root's, who sent 3", asRoot)
	}
}

// TestRoutedHostsAreRefused: who is on another host is nobody's business here, unless
// the listener names its network.
func TestRoutedHostsAreRefused(t *testing.T) {
	inside := namespace(t)
	far, err := inside.Neighbour()
	must(t, err)
	t.Cleanup(func() {
		if err := far.Delete(); err != nil {
			t.Error(err)
		}
	})
	mock := startMock(t)
	record := newRecorder(t, loopback(t, inside), mock.Server())
	startAgent(t, harness.AgentOptions{
		Namespace: inside,
		Config: upstream(record.URL+"/latest") + everything + fmt.Sprintf(`
listen:
  closed: {address: "%[1]s:8001", hop_limit: 64, hosts: [%[1]s]}
  open: {address: "%[1]s:8002", hop_limit: 64, hosts: [%[1]s], from: [192.0.2.0/24]}
`, harness.HostIPv4),
	})
	for port, want := range map[int]string{8001: "status 403", 8002: "test_role"} {
		base := fmt.Sprintf("http://%s:%d", harness.HostIPv4, port)
		if got := (caller{0, far}).role(t, base); got != want {
			t.Errorf("another host gets %s from port %d, want %s", got, port, want)
		}
	}
}

// TestIdleCrowdOfOneUserDoesNotShutOutAnother opens more connections than a user may
// have.
func TestIdleCrowdOfOneUserDoesNotShutOutAnother(t *testing.T) {
	inside, agent := redirectedAgent(t, everything, "test_role")
	script := `ulimit -n 4096; for i in $(seq 1500); do exec {fd}<>/dev/tcp/169.254.169.254/80; done; echo crowded; sleep 60`
	crowd, err := harness.Command{Path: "/bin/bash", Args: []string{"-c", script}, UID: gamesUID, GID: gamesUID, Namespace: inside}.Start()
	must(t, err)
	t.Cleanup(func() { _, _ = crowd.Stop() })
	must(t, harness.Await(30*time.Second, func() error {
		if !strings.Contains(crowd.Output(), "crowded") {
			return fmt.Errorf("the crowd says %q", crowd.Output())
		}
		return nil
	}))
	began := time.Now()
	if got := (caller{daemonUID, inside}).role(t, "http://169.254.169.254"); got != "test_role" {
		t.Errorf("beside the crowd another user gets %s", got)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("beside the crowd another user waits %v", took)
	}
	stopping := time.Now()
	if code, err := agent.Stop(); code != 0 || err != nil {
		t.Errorf("the agent ended with %d, %v", code, err)
	}
	if took := time.Since(stopping); took > 400*time.Millisecond {
		t.Errorf("with the crowd connected, stopping took %v", took)
	}
}
