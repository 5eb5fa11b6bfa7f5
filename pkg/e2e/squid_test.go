package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// The user and the password that startSquid knows.
const (
	proxyUser     = "purser"
	proxyPassword = "pa:ss w0rd " + harness.Marker
)

// startSquid runs Debian's squid, which lets those through that know the password.
func startSquid(t *testing.T) *forwardProxy {
	t.Helper()
	const program, helper = "/usr/sbin/squid", "/usr/lib/squid/basic_ncsa_auth"
	_, err := os.Stat(program)
	needs(t, "squid", err == nil)
	port, err := harness.FreePort()
	must(t, err)
	p := &forwardProxy{port: fmt.Sprint(port)}
	folder := openFolder(t)
	must(t, os.Chmod(folder, 0o777)) // root's squid becomes the user proxy
	hash := exec.Command("openssl", "passwd", "-apr1", "-stdin")
	hash.Stdin = strings.NewReader(proxyPassword)
	hashed, err := hash.Output()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(folder, "users"), append([]byte(proxyUser+":"), hashed...), 0o644))
	file := filepath.Join(folder, "squid.conf")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `http_port 127.0.0.1:%s
pid_filename none
access_log stdio:%[2]s/access.log
cache_log %[2]s/cache.log
cache deny all
pinger_enable off
shutdown_lifetime 0 seconds
visible_hostname squid.test
auth_param basic program %s %[2]s/users
auth_param basic children 1
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
`, p.port, folder, helper), 0o644))
	p.Process, err = harness.Command{Path: program, Args: []string{"-N", "-f", file}}.Start()
	must(t, err)
	t.Cleanup(func() {
		_, _ = p.Stop()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(folder, "cache.log"))
			t.Logf("squid said:\n%s", log)
		}
	})
	must(t, harness.Await(10*time.Second, func() error {
		c, err := net.Dial("tcp", "127.0.0.1:"+p.port)
		if err == nil {
			err = c.Close()
		}
		return err
	}))
	return p
}

// TestSTSThroughSquidWithAPassword: the password is in a file that is read again, a
// wrong one is said in one sentence, and nothing goes round a proxy that is down.
func TestSTSThroughSquidWithAPassword(t *testing.T) {
	mock, err := harness.StartMockWithSTS("--sts-role", demoRole)
	must(t, err)
	t.Cleanup(func() { _, _ = mock.Stop() })
	sts := newRecorder(t, loopback(t, nil), "http://"+mock.STS)
	squid := startSquid(t)
	password := filepath.Join(openFolder(t), "password")
	must(t, os.WriteFile(password, []byte(proxyPassword+"\n"), 0o644))

	agent := startAgent(t, harness.AgentOptions{Config: fmt.Sprintf(`upstreams:
  dc: {kind: ims, url: %q}
  finance:
    kind: sts
    base: {upstream: dc}
    region: eu-central-1
    endpoint: %q
    proxy: "http://127.0.0.1:%s"
    proxy_user: %s
    proxy_password: {file: %q}
    roles: {demo: {role_arn: %q}}
`, mock.URL(), sts.URL, squid.port, proxyUser, password, demoRole) + everything})
	asked := sts.requests()
	if len(asked) == 0 {
		t.Error("the recorder saw nothing")
	}
	for _, via := range asked {
		if !strings.Contains(via, "squid.test") {
			t.Errorf("STS was asked by way of %q, want the proxy", via)
		}
	}

	refresh := func(want string) {
		t.Helper()
		r, err := agent.Run("refresh", "demo")
		must(t, err)
		if r.Exit != 1 || strings.TrimSpace(r.Stderr) != want {
			t.Errorf("ended with %d:\n%swant\n%s", r.Exit, r.Stderr, want)
		}
		if got := sts.requests(); len(got) != len(asked) {
			t.Errorf("STS was asked %d times more", len(got)-len(asked))
		}
	}
	what := fmt.Sprintf(`purser: upstream "finance", credential "demo": POST %s/ through proxy 127.0.0.1:%s: `, sts.URL, squid.port)
	must(t, os.WriteFile(password, []byte("wrong "+harness.Marker), 0o644))
	refresh(what + "answered 407 Proxy Authentication Required: the proxy wants proxy_user and proxy_password, or others than these")
	must(t, os.WriteFile(password, []byte(proxyPassword), 0o644))
	if r, err := agent.Run("refresh", "demo"); err != nil || r.Exit != 0 {
		t.Errorf("with the right password again: %+v, %v", r, err)
	}
	asked = sts.requests()
	_, err = squid.Stop()
	must(t, err)
	refresh(what + "the proxy cannot be reached: dial tcp 127.0.0.1:" + squid.port + ": connect: connection refused")
}
