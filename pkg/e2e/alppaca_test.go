package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

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

// TestAnAlppacaFolderStartsUnchanged has the mock where alppaca's has it, the redirect
// of alppaca's manual, and its clients, who know only version 1.
func TestAnAlppacaFolderStartsUnchanged(t *testing.T) {
	inside := namespace(t)
	l, err := inside.Listen("127.0.0.1:8080")
	must(t, err)
	newRecorder(t, l, startMock(t).Server())
	must(t, inside.Redirect(frontPort))

	dir, err := os.MkdirTemp("", "purser-e2e-alppaca-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "run"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "alppaca"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "alppaca", "config.yaml"), []byte(alppacaConfig), 0o644))
	binary, err := harness.Binary("purser")
	must(t, err)
	agent, err := harness.Command{Path: binary, Args: []string{"serve", "--config", filepath.Join(dir, "alppaca")},
		Env: []string{"PURSER_ADMIN__SOCKET=" + filepath.Join(dir, "run", "purser.sock")}, Namespace: inside}.Start()
	must(t, err)
	t.Cleanup(func() {
		if code, err := agent.Stop(); code != 0 || err != nil {
			t.Errorf("the agent ended with %d, %v", code, err)
		}
		if said := agent.Output(); strings.Contains(said, harness.Marker) || t.Failed() {
			t.Errorf("the agent said %s", said)
		}
	})

	client := caller{daemonUID, inside}
	role := ""
	must(t, harness.Await(10*time.Second, func() error {
		status, body := client.curl(t, "http://169.254.169.254"+securityCredentials)
		if role = body; status != http.StatusOK {
			return fmt.Errorf("the list: %d %q", status, body)
		}
		return nil
	}))
	status, body := client.curl(t, "http://169.254.169.254"+securityCredentials+role)
	if d := parse(t, body); role != "test_role" || status != http.StatusOK || d.Code != "Success" || d.SecretAccessKey == "" {
		t.Errorf("the role is %q, its document %d %s", role, status, d.Code)
	}
	for _, notice := range []string{"ims_host", "logging_handler", "nogroup"} {
		if !strings.Contains(agent.Output(), notice) {
			t.Errorf("the log does not mention %s", notice)
		}
	}
}
