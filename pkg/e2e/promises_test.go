package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A notifySocket is systemd's end of sd_notify.
type notifySocket struct {
	path string
	conn *net.UnixConn
	mu   sync.Mutex
	got  []string // one entry per assignment
}

func newNotifySocket(t *testing.T) *notifySocket {
	t.Helper()
	dir, err := os.MkdirTemp("", "purser-e2e-notify-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &notifySocket{path: filepath.Join(dir, "notify")}
	n.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { n.conn.Close() })
	must(t, errors.Join(os.Chmod(dir, 0o755), os.Chmod(n.path, 0o777)))
	go n.read()
	return n
}

func (n *notifySocket) read() {
	buffer := make([]byte, 64<<10)
	for {
		size, err := n.conn.Read(buffer)
		if err != nil {
			return
		}
		n.mu.Lock()
		n.got = append(n.got, strings.Split(strings.TrimSpace(string(buffer[:size])), "\n")...)
		n.mu.Unlock()
	}
}

// find returns the first assignment that begins so.
func (n *notifySocket) find(prefix string) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(n.got, func(s string) bool { return strings.HasPrefix(s, prefix) })
	if i < 0 {
		return "", false
	}
	return n.got[i], true
}

func (n *notifySocket) await(t *testing.T, prefix string, timeout time.Duration) string {
	t.Helper()
	err := harness.Await(timeout, func() error {
		if _, found := n.find(prefix); !found {
			return fmt.Errorf("systemd was not told %s", prefix)
		}
		return nil
	})
	must(t, err)
	found, _ := n.find(prefix)
	return found
}

func TestPromise1WarmBeforeReady(t *testing.T) {
	mock := startMock(t, "--role", "alpha", "--role", "omega", "--fault", "status=503,role=omega")
	systemd := newNotifySocket(t)
	agent := startAgent(t, harness.AgentOptions{
		Config: upstream(mock.URL()) + everything, NotReady: true,
		Env: []string{"NOTIFY_SOCKET=" + systemd.path},
	})
	systemd.await(t, "EXTEND_TIMEOUT_USEC=", 5*time.Second)
	systemd.await(t, "STATUS=", 5*time.Second)
	err := harness.Await(5*time.Second, func() error {
		requests, err := mock.Requests()
		if err == nil && requests.Fetches["omega"] < 2 {
			err = fmt.Errorf("the role that fails was asked for %d times", requests.Fetches["omega"])
		}
		return err
	})
	must(t, err)
	if _, told := systemd.find("READY=1"); told || agent.Ready() {
		t.Fatal("ready, although one of two roles was never fetched")
	}
	must(t, harness.Await(10*time.Second, func() error {
		if status := strings.Join(all(systemd, "STATUS="), " "); !strings.Contains(status, "omega") {
			return fmt.Errorf("the status does not name what is missing: %s", status)
		}
		return nil
	}))
	must(t, mock.SetFaults())
	systemd.await(t, "READY=1", 30*time.Second)
	m := newMetadata(t, agent)
	for _, role := range []string{"alpha", "omega"} {
		if d := parse(t, m.document(t, role)); d.Code != "Success" || d.SecretAccessKey == "" {
			t.Errorf("systemd was told READY, and the document of %s says %s", role, d.Code)
		}
	}
	must(t, agent.AwaitReady(time.Second))
	_, err = agent.Stop()
	must(t, err)
	systemd.await(t, "STOPPING=1", time.Second)
}

func all(n *notifySocket, prefix string) (found []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.got {
		if strings.HasPrefix(s, prefix) {
			found = append(found, s)
		}
	}
	return found
}

// latencies measures n requests for a document, sorted.
func latencies(t *testing.T, m *metadata, role string, n int) []time.Duration {
	t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		m.document(t, role)
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took
}

func TestPromise2ARequestNeverWaitsForAnUpstream(t *testing.T) {
	const n = 1000
	mock := startMock(t)
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	m := newMetadata(t, agent)
	quiet := latencies(t, m, "test_role", n)

	must(t, mock.SetFaults("hang"))
	refresh, err := agent.Command("refresh", "test_role").Start()
	must(t, err)
	time.Sleep(200 * time.Millisecond)
	hung := latencies(t, m, "test_role", n)
	select {
	case <-refresh.Ended():
		t.Fatalf("the refresh ended before the measurement did: %s", refresh.Output())
	default:
	}
	must(t, refresh.Signal(syscall.SIGKILL))
	_, err = refresh.Exit(time.Second)
	must(t, err)
	t.Logf("median %v, with a hung upstream %v; 99 of 100 within %v and %v", quiet[n/2], hung[n/2], quiet[n*99/100], hung[n*99/100])
	// Far above noise and far below any wait for an upstream.
	if hung[n/2] > 2*quiet[n/2]+time.Millisecond {
		t.Errorf("the median rose from %v to %v when the upstream hung", quiet[n/2], hung[n/2])
	}
	if hung[n*99/100] > 100*time.Millisecond {
		t.Errorf("one of a hundred requests took %v or more while the upstream hung", hung[n*99/100])
	}
}

func awaitFetches(t *testing.T, mock *harness.Mock, role string, n int) {
	t.Helper()
	must(t, harness.Await(10*time.Second, func() error {
		requests, err := mock.Requests()
		if err == nil && requests.Fetches[role] < n {
			err = fmt.Errorf("%s was asked for %d times, not yet %d", role, requests.Fetches[role], n)
		}
		return err
	}))
}

// TestPromise2WithNothingInStock: what was never fetched is answered at once as well.
func TestPromise2WithNothingInStock(t *testing.T) {
	mock := startMock(t, "--fault", "hang")
	agent := startAgent(t, harness.AgentOptions{NotReady: true,
		Config: upstream(mock.URL()) + "grants: {everyone: {credentials: [test_role]}}\n"})
	var m *metadata
	must(t, harness.Await(5*time.Second, func() error {
		_, err := net.Dial("tcp", agent.Address)
		return err
	}))
	m = newMetadata(t, agent)
	began := time.Now()
	status, list, err := m.get(securityCredentials)
	must(t, err)
	d := parse(t, m.document(t, "test_role"))
	took := time.Since(began)
	if status != http.StatusOK || list != "test_role" || d.Code != "Failed" || d.SecretAccessKey != "" {
		t.Errorf("with nothing in stock the list is %d %q, and the document says %q", status, list, d.Code)
	}
	status, _, err = m.do(http.MethodGet, "/v1/credentials", "Authorization", agent.AuthorizationToken())
	must(t, err)
	if status != http.StatusServiceUnavailable {
		t.Errorf("with nothing in stock the container credentials are answered with %d, want 503", status)
	}
	if took > 200*time.Millisecond {
		t.Errorf("two answers took %v while the upstream hung", took)
	}
}

func TestPromise3NeverAUselessAnswer(t *testing.T) {
	mock := startMock(t, "--lifetime", "3s")
	record := newRecorder(t, loopback(t, nil), mock.Server())
	agent := startAgent(t, harness.AgentOptions{Config: upstream(record.URL+"/latest") + everything})
	m := newMetadata(t, agent)
	must(t, mock.SetFaults("status=500"))
	var last document
	failed := false
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end) && !failed; time.Sleep(10 * time.Millisecond) {
		asked := time.Now()
		d := parse(t, m.document(t, "test_role"))
		switch d.Code {
		case "Success":
			issued, known := record.keys(d.AccessKeyID)
			if !known || !d.Expiration.Equal(issued.Expiration) || d.SecretAccessKey != issued.SecretAccessKey || d.Token != issued.Token {
				t.Fatal("the document is not what the upstream issued")
			}
			if !asked.Before(d.Expiration) {
				t.Fatalf("at %v keys were handed out that ended at %v", asked, d.Expiration)
			}
			last = d
		default:
			failed = true
			if d.AccessKeyID+d.SecretAccessKey+d.Token != "" {
				t.Error("a failure with keys in it")
			}
			if early := last.Expiration.Sub(asked); early > 50*time.Millisecond {
				t.Errorf("good keys were withheld %v before their end", early)
			}
		}
	}
	if last.Code == "" || !failed {
		t.Fatalf("keys of three seconds: seen good %v, seen ended %v", last.Code != "", failed)
	}
	status, body, err := m.do(http.MethodGet, "/v1/credentials", "Authorization", agent.AuthorizationToken())
	must(t, err)
	if status != http.StatusServiceUnavailable || strings.Contains(body, "AccessKeyId") {
		t.Errorf("after their end the container credentials are %d %q, want 503", status, body)
	}
	r, err := agent.Run("credential-process", "test_role", "--url", "http://"+agent.Address, "--token-file", agent.Authorization())
	must(t, err)
	if r.Exit != 1 || r.Stdout != "" || r.Stderr == "" {
		t.Errorf("after their end credential-process exits with %d, stdout %q, stderr %q", r.Exit, r.Stdout, r.Stderr)
	}
}

// TestPromise3ShortSessionsAreSaid: where a quarter of an hour is all that the
// upstream gives, more cannot remain, and the operator hears of it.
func TestPromise3ShortSessionsAreSaid(t *testing.T) {
	mock := startMock(t, "--lifetime", "15m")
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	if !strings.Contains(agent.Output(), `"level":"warn","upstream":"datacenter","lifetime":"15m0s"`) {
		t.Error("the log does not warn of lifetimes of 15 minutes")
	}
	r, err := agent.Run("check")
	must(t, err)
	if r.Exit != 0 || !strings.Contains(r.Stdout, "warning: too short") {
		t.Errorf("check does not warn of lifetimes of 15 minutes: %s%s", r.Stdout, r.Stderr)
	}
}

// wrongAnswers are what a fetch can get that is no new credential. Those that make
// Purser wait for its own time limits are tested once, in TestPromise2.
func wrongAnswers() []string {
	answers := []string{"reset", "garbage", "redirect", "empty", "truncated", "malformed", "html", "huge", "gzip",
		"incomplete", "failed", "expired", "skew=-3h", "short=10m", "vanished"}
	for _, status := range []int{201, 204, 301, 304, 307, 400, 401, 403, 404, 405, 407, 408, 410, 418, 425, 429, 500, 501, 502, 503, 504, 507, 599} {
		answers = append(answers, fmt.Sprintf("status=%d", status))
	}
	return append(answers, "status=429,retry-after=1s", "status=503,retry-after=1s", "status=503,retry-at=1s")
}

// A refreshFault is a fault of the mock, and what the error of a refresh names then.
type refreshFault struct {
	text  string
	names []string
}

// refreshFaults are all ways in which asking for the list, for the credential, or for
// both goes wrong.
func refreshFaults() (faults []refreshFault) {
	const list, credential = "list of credentials", `credential "test_role"`
	for _, answer := range wrongAnswers() {
		switch answer {
		case "short=10m": // good, but it ends before what is in stock
			faults = append(faults, refreshFault{text: answer})
		case "incomplete", "failed", "expired", "skew=-3h": // nothing of which a list has
			faults = append(faults, refreshFault{answer, []string{credential}})
		case "vanished": // a good list without the role withdraws it, which is no failure
			faults = append(faults, refreshFault{answer + ",on=credentials", []string{credential}})
		case "empty", "status=204": // as a list that is no error, and withdraws nothing
			faults = append(faults, refreshFault{answer, []string{credential}},
				refreshFault{answer + ",on=credentials", []string{credential}}, refreshFault{text: answer + ",on=list"})
		default:
			faults = append(faults, refreshFault{answer, []string{list, credential}},
				refreshFault{answer + ",on=credentials", []string{credential}}, refreshFault{answer + ",on=list", []string{list}})
		}
	}
	return faults
}

// strike refreshes everything while the fault lasts, and makes sure that it was hit.
func (f refreshFault) strike(t *testing.T, mock *harness.Mock, agent *harness.Agent) {
	t.Helper()
	must(t, mock.SetFaults(f.text))
	before, err := mock.Requests()
	must(t, err)
	r, err := agent.Run("refresh")
	must(t, err)
	for _, name := range f.names {
		if r.Exit != 1 || !strings.Contains(r.Stderr, name) {
			t.Errorf("%s: the refresh exits with %d and does not name the %s: %q", f.text, r.Exit, name, r.Stderr)
		}
	}
	must(t, harness.Await(5*time.Second, func() error { // the mock counts when an answer has ended
		after, err := mock.Requests()
		lists, fetches := after.Lists-before.Lists, after.Fetches["test_role"]-before.Fetches["test_role"]
		if err == nil && (lists == 0 || fetches == 0) {
			err = fmt.Errorf("%s: the refresh asked %d times for the list and %d times for the credential", f.text, lists, fetches)
		}
		return err
	}))
}

func TestPromise4AFailureChangesNothing(t *testing.T) {
	mock := startMock(t)
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	m := newMetadata(t, agent)
	stock := m.document(t, "test_role")
	faults := refreshFaults()
	if len(faults) < 100 {
		t.Errorf("only %d faults are tried", len(faults))
	}
	for _, fault := range faults {
		fault.strike(t, mock, agent)
		_, list, err := m.get(securityCredentials)
		must(t, err)
		if list != "test_role" {
			t.Fatalf("%s changed the list to %q", fault.text, list)
		}
		got := m.document(t, "test_role")
		if strings.HasSuffix(fault.text, ",on=list") && parse(t, got).Code == "Success" {
			stock = got // the fetch itself is good
		}
		if got != stock {
			t.Fatalf("%s changed the document to %s", fault.text, got)
		}
	}
	must(t, mock.SetFaults())
	time.Sleep(1100 * time.Millisecond) // ends are whole seconds, and new keys must end later
	r, err := agent.Run("refresh")
	must(t, err)
	if got := m.document(t, "test_role"); r.Exit != 0 || got == stock || parse(t, got).Code != "Success" {
		t.Errorf("after %d faults a good refresh ends with %d and the document is %s", len(faults), r.Exit, got)
	}
}
