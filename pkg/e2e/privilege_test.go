package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// threadStatus is /proc/PID/task/TID/status of every thread.
func threadStatus(t *testing.T, pid int) map[string]map[string]string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must(t, err)
	if len(files) < 2 {
		t.Fatalf("only %d threads: that proves nothing of the others", len(files))
	}
	threads := map[string]map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		fields := map[string]string{}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			fields[key] = strings.Join(strings.Fields(value), " ")
		}
		threads[file] = fields
	}
	return threads
}

// expectNoPrivilege looks at every thread and tells of the first that has some.
func expectNoPrivilege(t *testing.T, pid, uid int) {
	t.Helper()
	const none = "0000000000000000"
	four := strings.Join(slices.Repeat([]string{fmt.Sprint(uid)}, 4), " ")
	want := map[string]string{
		"Uid": four, "Gid": four, "CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1",
	}
	for file, got := range threadStatus(t, pid) {
		var wrong []string
		for key, value := range want {
			if got[key] != value {
				wrong = append(wrong, fmt.Sprintf("%s is %q, want %q", key, got[key], value))
			}
		}
		if groups := got["Groups"]; groups != "" && groups != fmt.Sprint(uid) {
			wrong = append(wrong, fmt.Sprintf("supplementary groups are %q", groups))
		}
		if wrong != nil {
			t.Errorf("%s: %s", file, strings.Join(wrong, "; "))
			return
		}
	}
}

// metadataPort is the address that only root, or CAP_NET_BIND_SERVICE, can bind.
const metadataPort = "169.254.169.254:80"

func metadataHost(t *testing.T) (*harness.Namespace, *recorder) {
	t.Helper()
	inside := namespace(t)
	addMetadataAddress(t, inside)
	return inside, newRecorder(t, loopback(t, inside), startMock(t).Server())
}

// addMetadataAddress makes the metadata address one of the namespace's own.
func addMetadataAddress(t *testing.T, inside *harness.Namespace) {
	t.Helper()
	r, err := harness.Command{Path: "/usr/sbin/ip", Args: strings.Fields("address add 169.254.169.254/32 dev lo"), Namespace: inside}.Run()
	must(t, err)
	if r.Exit != 0 {
		t.Fatal(r.Stderr)
	}
}

func TestPromise7RootEndsWithTheBind(t *testing.T) {
	inside, record := metadataHost(t)
	agent := startAgent(t, harness.AgentOptions{
		Namespace: inside, Address: metadataPort,
		Config: upstream(record.URL+"/latest") + everything,
	})
	expectNoPrivilege(t, agent.PID(), nobodyUID)
	if got := (caller{daemonUID, inside}).role(t, "http://169.254.169.254"); got != "test_role" {
		t.Errorf("a caller gets %s", got)
	}
	expectNoPrivilege(t, agent.PID(), nobodyUID)
}

// TestPromise7CapabilitiesOfAnotherUserEndWithTheBind starts as systemd does with
// User= and AmbientCapabilities=.
func TestPromise7CapabilitiesOfAnotherUserEndWithTheBind(t *testing.T) {
	inside, record := metadataHost(t)
	agent, err := harness.NewAgent(harness.AgentOptions{
		UID: nobodyUID, GID: nobodyUID, Namespace: inside, Address: metadataPort,
		Capabilities: "+net_bind_service,+sys_ptrace,+setpcap",
		Config:       upstream(record.URL+"/latest") + everything,
	})
	must(t, err)
	t.Cleanup(func() { closeAgent(t, agent) })
	must(t, agent.Start())
	expectNoPrivilege(t, agent.PID(), nobodyUID)
}

func TestANormalUserNeedsNoPrivilege(t *testing.T) {
	mock := startMock(t)
	options := harness.AgentOptions{Config: upstream(mock.URL()) + everything}
	if os.Geteuid() == 0 {
		options.UID, options.GID = daemonUID, daemonUID
	}
	agent := startAgent(t, options)
	if d := parse(t, newMetadata(t, agent).document(t, "test_role")); d.Code != "Success" {
		t.Errorf("the document says %s", d.Code)
	}
	r, err := agent.Run("refresh")
	must(t, err)
	if r.Exit != 0 {
		t.Errorf("the user who runs Purser may not refresh: %s", r.Stderr)
	}
}
