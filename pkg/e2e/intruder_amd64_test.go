package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// TestACallThatTheSandboxRefusesFailsAndIsCounted has a thread of the daemon make one, as
// whoever has taken over the process would.
func TestACallThatTheSandboxRefusesFailsAndIsCounted(t *testing.T) {
	needsRoot(t) // to trace it
	t.Parallel()
	mock := startMock(t)
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	before, err := agent.Run("status")
	must(t, err)
	if strings.Contains(before.Stdout, "refused") {
		t.Fatalf("Purser itself makes calls that are not on the list:\n%s", before.Stdout)
	}
	path, err := buildClient("intruder")
	must(t, err)
	intruder := harness.Command{Path: path, Args: []string{strconv.Itoa(agent.PID()), strconv.Itoa(unix.SYS_INOTIFY_INIT1)}}
	for range 3 {
		r, err := intruder.Run()
		must(t, err)
		if want := fmt.Sprintln(-int(unix.EPERM)); r.Stdout != want {
			t.Errorf("the call answers %q, want %q: %s", r.Stdout, want, r.Stderr)
		}
	}
	after, err := agent.Run("status")
	must(t, err)
	if !strings.Contains(after.Stdout, "the sandbox refused system calls: inotify_init1 3\n") {
		t.Errorf("status says\n%s%s", after.Stdout, after.Stderr)
	}
	must(t, harness.Await(20*time.Second, func() error {
		if !strings.Contains(agent.Output(), `"call":"inotify_init1","count":3`) {
			return errors.New("the log says nothing of it")
		}
		return nil
	}))
	if d := parse(t, newMetadata(t, agent).document(t, "test_role")); d.SecretAccessKey == "" {
		t.Error("the daemon gives no keys any more")
	}
}
