package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// TestACredentialsFileHasWhatTheGrantsGiveItsUser is `purser credentials-file` as the
// unit purser-file@USER starts it.
func TestACredentialsFileHasWhatTheGrantsGiveItsUser(t *testing.T) {
	needsRoot(t)
	mock := startMock(t, "--role", "alpha", "--role", "omega")
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + fmt.Sprintf(
		"grants: {daemon: {user: \"%d\", credentials: [omega]}, everyone: {credentials: [alpha]}}\n", daemonUID)})
	home := t.TempDir()
	must(t, os.Chmod(filepath.Dir(home), 0o755))
	must(t, os.Chown(home, daemonUID, daemonUID))
	path := filepath.Join(home, ".aws", "credentials")
	keep := agent.Command("credentials-file", "alpha", "--url", "http://"+agent.Address, "--token-file", agent.Authorization())
	keep.UID, keep.GID, keep.Env = daemonUID, daemonUID, []string{"HOME=" + home}
	keeper, err := keep.Start()
	must(t, err)
	defer func() { _ = keeper.Signal(syscall.SIGKILL) }()
	must(t, harness.Await(10*time.Second, func() error {
		_, err := os.Stat(path)
		return err
	}))
	text, err := os.ReadFile(path)
	must(t, err)
	m := newMetadata(t, agent) // of root, who gets alpha
	d := parse(t, m.document(t, "alpha"))
	if !strings.Contains(string(text), "\n[alpha]\naws_access_key_id = "+d.AccessKeyID+"\naws_secret_access_key = "+d.SecretAccessKey) {
		t.Errorf("the profile alpha is not what the front end gives: %s", text)
	}
	first, _, _ := strings.Cut(string(text), "[alpha]")
	if !strings.Contains(first, "[default]\naws_access_key_id = ASIA") || strings.Contains(first, d.AccessKeyID) {
		t.Errorf("the default profile is not this user's own: %s", first)
	}
	info, err := os.Stat(path)
	must(t, err)
	if owner := info.Sys().(*syscall.Stat_t).Uid; info.Mode() != 0o600 || owner != daemonUID {
		t.Errorf("the file has mode %v and belongs to %d", info.Mode(), owner)
	}
	memory, err := os.Stat(fmt.Sprintf("/proc/%d/mem", keeper.PID()))
	must(t, err)
	if owner := memory.Sys().(*syscall.Stat_t).Uid; owner != 0 { // as the kernel shows who may not be dumped
		t.Errorf("its memory, which has the secrets, belongs to %d", owner)
	}
	_, err = keeper.Stop()
	must(t, err)
	if strings.Contains(keeper.Output(), harness.Marker) {
		t.Error("it said a secret")
	}
}
