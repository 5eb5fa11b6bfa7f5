package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

func TestCredentialProcessPrintsOneLineForSDKs(t *testing.T) {
	mock := startMock(t)
	record := newRecorder(t, loopback(t, nil), mock.Server())
	agent := startAgent(t, harness.AgentOptions{Config: upstream(record.URL+"/latest") + everything})
	// Not by agent.Run, which would keep the output as something without secrets.
	r, err := agent.Command("credential-process", "test_role", "--url", "http://"+agent.Address, "--token-file", agent.Authorization()).Run()
	must(t, err)
	var got struct {
		Version                                   int
		AccessKeyID                               string `json:"AccessKeyId"`
		SecretAccessKey, SessionToken, Expiration string
	}
	if err := json.Unmarshal([]byte(r.Stdout), &got); err != nil || r.Exit != 0 || r.Stderr != "" || strings.Count(r.Stdout, "\n") != 1 {
		t.Fatalf("exit %d, %d lines, %v, stderr %q", r.Exit, strings.Count(r.Stdout, "\n"), err, r.Stderr)
	}
	issued, known := record.keys(got.AccessKeyID)
	if !known || got.Version != 1 || got.SecretAccessKey != issued.SecretAccessKey || got.SessionToken != issued.Token ||
		got.Expiration != issued.Expiration.UTC().Format(time.RFC3339) {
		t.Errorf("version %d, key %s, until %s: not what the upstream issued", got.Version, got.AccessKeyID, got.Expiration)
	}
}

func TestCommandsSayAtOnceThatNothingRuns(t *testing.T) {
	agent, err := harness.NewAgent(harness.AgentOptions{})
	must(t, err)
	t.Cleanup(func() {
		if err := agent.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		args []string
		exit int
	}{
		{[]string{"status"}, 3}, {[]string{"status", "--json"}, 3}, {[]string{"refresh"}, 3}, {[]string{"reload"}, 3},
		{[]string{"wait", "--timeout", "300ms"}, 3},
		{[]string{"credential-process", "test_role", "--url", "http://" + agent.Address}, 3},
		{[]string{"statsu"}, 2}, {[]string{"status", "--jsno"}, 2}, {[]string{"credential-process"}, 2},
	} {
		began := time.Now()
		r, err := agent.Run(c.args...)
		must(t, err)
		if r.Exit != c.exit || r.Stdout != "" || r.Stderr == "" {
			t.Errorf("purser %s: exit %d, want %d; stdout %q, stderr %q", strings.Join(c.args, " "), r.Exit, c.exit, r.Stdout, r.Stderr)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("purser %s took %v", strings.Join(c.args, " "), took)
		}
	}
}

// TestOthersSeeTheirOwnViewOnTheAdminSocket: everybody may connect, administrators
// may do everything, the others look at what is theirs.
func TestOthersSeeTheirOwnViewOnTheAdminSocket(t *testing.T) {
	needsRoot(t)
	mock := startMock(t, "--role", "test_role", "--role", "finance")
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + twoUsers})
	as := func(uid int, args ...string) harness.Result {
		t.Helper()
		command := agent.Command(args...)
		command.UID, command.GID = uid, uid
		r, err := command.Run()
		must(t, err)
		return r
	}
	for _, c := range []struct {
		uid            int
		sees, sees2    bool
		mayWait, admin bool
	}{
		{uid: 0, sees: true, sees2: true, mayWait: true, admin: true},
		{uid: daemonUID, sees: true, mayWait: true},
		{uid: backupUID, sees2: true},
		{uid: gamesUID},
	} {
		status := as(c.uid, "status", "--json")
		if status.Exit != 0 || strings.Contains(status.Stdout, "test_role") != c.sees || strings.Contains(status.Stdout, "finance") != c.sees2 {
			t.Errorf("uid %d sees, with exit %d: %s%s", c.uid, status.Exit, status.Stdout, status.Stderr)
		}
		if !c.admin && strings.Contains(status.Stdout, mock.Address) {
			t.Errorf("uid %d sees the upstream: %s", c.uid, status.Stdout)
		}
		if r := as(c.uid, "wait", "test_role", "--timeout", "1s"); (r.Exit == 0) != c.mayWait {
			t.Errorf("uid %d waits for test_role: exit %d, %s", c.uid, r.Exit, r.Stderr)
		}
		for _, command := range []string{"refresh", "reload"} {
			if r := as(c.uid, command); (r.Exit == 0) != c.admin || (r.Stderr == "") != c.admin {
				t.Errorf("uid %d: %s exits with %d, %q", c.uid, command, r.Exit, r.Stderr)
			}
		}
	}
}

// TestAUserWaitsForWhatAHungUpstreamWillGrant: what nobody has heard of yet is not in
// stock, whoever asks and whether or not they name it.
func TestAUserWaitsForWhatAHungUpstreamWillGrant(t *testing.T) {
	needsRoot(t)
	for name, grants := range map[string]string{
		"everyone may have everything": everything,
		"a grant names it":             "grants: {web: {user: daemon, credentials: [test_role]}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			mock := startMock(t)
			hung := loopback(t, nil) // connections are taken, and nobody answers
			agent := startAgent(t, harness.AgentOptions{Config: upstream("http://"+hung.Addr().String()+"/latest") + grants, NotReady: true})
			as := func(args ...string) harness.Command {
				command := agent.Command(args...)
				command.UID, command.GID = daemonUID, daemonUID
				return command
			}
			waits := map[string]*harness.Process{}
			for _, names := range [][]string{nil, {"test_role"}} {
				r, err := as(append([]string{"wait", "--timeout", "1s"}, names...)...).Run()
				must(t, err)
				if r.Exit != 1 || !strings.Contains(r.Stderr, "not in stock after 1s") {
					t.Errorf("wait %q for a second: exit %d, %q", names, r.Exit, r.Stderr)
				}
				waits[fmt.Sprintf("wait %q", names)], err = as(append([]string{"wait", "--timeout", "30s"}, names...)...).Start()
				must(t, err)
			}
			r, err := as("status", "--json").Run()
			must(t, err)
			if r.Exit != 0 || !strings.Contains(r.Stdout, `"ready": false`) || strings.Contains(r.Stdout, hung.Addr().String()) {
				t.Errorf("status: exit %d, %s%s", r.Exit, r.Stdout, r.Stderr)
			}
			for name, wait := range waits {
				select {
				case <-wait.Ended():
					t.Errorf("%s ended while the upstream hung: %s", name, wait.Output())
				default:
				}
			}

			newRecorder(t, hung, mock.Server())
			for name, wait := range waits {
				code, err := wait.Exit(10 * time.Second)
				must(t, err)
				if got := (caller{uid: daemonUID}).role(t, "http://"+agent.Address); code != 0 || got != "test_role" {
					t.Errorf("%s ended with %d, and then the user gets %s: %s", name, code, got, wait.Output())
				}
			}
		})
	}
}
