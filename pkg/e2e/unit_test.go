package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

func (h *installed) exposure(t *testing.T) {
	r, err := h.Run("systemd-analyze", "security", "--no-pager", "--threshold=15", "purser.service")
	must(t, err)
	lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
	t.Log(lines[len(lines)-1])
	if r.Exit != 0 {
		t.Errorf("more than 1.5: %s", r.Stdout)
	}
	if status := h.must("purser", "status"); !strings.Contains(status, "sandbox: landlock in force, seccomp in force\n") {
		t.Errorf("status says\n%s", status)
	}
}

// loadCredential asks an upstream by a name of the host's DNS and over TLS, with the
// drop-in of the package's examples for what systemd alone can read.
func (h *installed) loadCredential(t *testing.T) {
	names, err := h.Network().ListenPacket("127.0.0.1:53")
	must(t, err)
	t.Cleanup(func() { names.Close() })
	go answerNames(names)
	must(t, h.Write("/etc/resolv.conf", "nameserver 127.0.0.1\n", 0o644))

	mock, err := url.Parse(h.mock.Server())
	must(t, err)
	secure := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(mock))
	secure.Listener.Close()
	secure.Listener = loopback(t, h.Network())
	secure.StartTLS() // with a certificate for example.com
	t.Cleanup(secure.Close)
	key, err := x509.MarshalPKCS8PrivateKey(secure.TLS.Certificates[0].PrivateKey)
	must(t, err)
	must(t, h.Write("/etc/ssl/purser.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})), 0o644))
	must(t, h.Write("/etc/ssl/private/purser.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})), 0o600))
	h.must("mkdir", "-p", "/etc/credstore.encrypted")
	h.must("sh", "-c", "echo secret | systemd-creds encrypt --name=proxy_password - /etc/credstore.encrypted/purser.proxy_password")
	h.must("install", "-D", "/usr/share/doc/purser/examples/credentials.conf", "/etc/systemd/system/purser.service.d/credentials.conf")
	must(t, h.Write("/etc/purser/conf.d/60-secure.yaml", fmt.Sprintf(`upstreams:
  secure:
    kind: ims
    url: "https://ims.example.com:%s/latest"
    tls: {ca: /etc/ssl/purser.pem, certificate: /etc/ssl/purser.pem, key: "${CREDENTIALS_DIRECTORY}/client.key"}
    proxy: http://proxy.example.com:3128
    proxy_user: purser
    proxy_password: {file: "${CREDENTIALS_DIRECTORY}/proxy_password"}
    no_proxy: [ims.example.com]
    roles: {secure: {role: finance}}
`, secure.URL[strings.LastIndex(secure.URL, ":")+1:]), 0o644))
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "restart", "purser") // ready only with that credential
	h.must("purser", "wait", "secure", "--timeout", "5s")
	h.must("systemctl", "restart", "purser-redirect") // for which systemd loads nothing
	h.must("purser", "redirect", "check")

	h.must("rm", "/etc/purser/conf.d/60-secure.yaml", "/etc/ssl/purser.pem", "/etc/ssl/private/purser.key",
		"/etc/credstore.encrypted/purser.proxy_password")
	h.must("systemctl", "reload", "purser")
	h.dropIns()
}

// program has keys from a program, which runs in the sandbox of the unit, too.
func (h *installed) program(*testing.T) {
	must(h.t, h.Write("/srv/keys.py", `import datetime, json
end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
print(json.dumps({"Version": 1, "AccessKeyId": "ASIAPROGRAM", "SecretAccessKey": "`+harness.Marker+`",
    "SessionToken": "`+harness.Marker+`", "Expiration": end.isoformat()}))
`, 0o644))
	must(h.t, h.Write("/etc/purser/conf.d/60-program.yaml",
		"upstreams: {tool: {kind: process, credentials: {printed: {command: [/usr/bin/python3, /srv/keys.py]}}}}\n", 0o644))
	h.must("systemctl", "restart", "purser") // ready only with that credential
	h.must("purser", "wait", "printed", "--timeout", "5s")
	h.must("rm", "/etc/purser/conf.d/60-program.yaml")
	h.must("systemctl", "reload", "purser")
}

// socketGroup has a program in the sandbox of the unit use a socket like Docker's.
func (h *installed) socketGroup(t *testing.T) {
	h.must("groupadd", "--system", "docker")
	must(t, h.Write("/srv/listen.py", `import socket
s = socket.socket(socket.AF_UNIX)
s.bind("/run/docker/sock")
s.listen()
while True:
    s.accept()[0].close()
`, 0o644))
	h.must("systemd-run", "--quiet", "--unit=docker", "--property=Group=docker", "--property=UMask=0007",
		"--property=RuntimeDirectory=docker", "--property=RuntimeDirectoryMode=0755", "python3", "/srv/listen.py")
	must(t, harness.Await(5*time.Second, func() error { _, err := h.Must("test", "-S", "/run/docker/sock"); return err }))
	must(t, h.Write("/srv/connect.py", "import socket\nsocket.socket(socket.AF_UNIX).connect('/run/docker/sock')\n", 0o644))
	must(t, h.Write("/etc/systemd/system/purser.service.d/connect.conf", "[Service]\nExecStartPost=python3 /srv/connect.py\n", 0o644))
	h.must("systemctl", "daemon-reload")
	if r, err := h.Run("systemctl", "restart", "purser"); err != nil || r.Exit == 0 {
		t.Errorf("without the drop-in Purser's account can use the socket, %v", err)
	}
	h.must("cp", "/usr/share/doc/purser/examples/socket-group.conf", "/etc/systemd/system/purser.service.d/")
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "restart", "purser")
	h.dropIns()
	h.must("systemctl", "stop", "docker")
	h.must("groupdel", "docker")
}

// dropIns removes what a step has added to the unit.
func (h *installed) dropIns() {
	h.t.Helper()
	h.must("rm", "-r", "/etc/systemd/system/purser.service.d")
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "restart", "purser")
}

// gating has an application with the drop-in of the package's examples.
func (h *installed) gating(t *testing.T) {
	must(t, h.Write("/etc/systemd/system/application.service", "[Service]\nExecStart=/bin/sleep infinity\n", 0o644))
	h.must("mkdir", "/etc/systemd/system/application.service.d")
	h.must("cp", "/usr/share/doc/purser/examples/application.conf", "/etc/systemd/system/application.service.d/purser.conf")
	h.must("systemctl", "daemon-reload")
	h.startInOutage()
	h.must("systemctl", "start", "--no-block", "application")
	time.Sleep(500 * time.Millisecond)
	if state, err := h.Show("application", "ActiveState"); err != nil || state != "inactive" {
		t.Errorf("before Purser is ready the application is %s, %v", state, err)
	}
	must(t, h.mock.SetFaults())
	h.refresh()
	var pid string
	must(t, harness.Await(10*time.Second, func() (err error) {
		if pid, err = h.Show("application", "MainPID"); err == nil && pid == "0" {
			err = fmt.Errorf("the application has not started")
		}
		return err
	}))
	h.must("systemctl", "restart", "purser")
	if now, err := h.Show("application", "MainPID"); err != nil || now != pid {
		t.Errorf("a restart of Purser restarted the application, %v", err)
	}
	h.must("systemctl", "stop", "application")
	h.must("rm", "-r", "/etc/systemd/system/application.service.d")
}
