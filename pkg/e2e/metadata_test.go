package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

const (
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
)

// A metadata asks the AWS metadata service of an agent from this process.
type metadata struct {
	client *http.Client
	base   string
	token  string
}

func newMetadata(t *testing.T, agent *harness.Agent) *metadata {
	t.Helper()
	m := &metadata{client: (*harness.Namespace)(nil).HTTP(), base: "http://" + agent.Address}
	t.Cleanup(m.client.CloseIdleConnections)
	status, token, err := m.do(http.MethodPut, "/latest/api/token", ttlHeader, "21600")
	must(t, err)
	if status != http.StatusOK {
		t.Fatalf("a session token: %d %q", status, token)
	}
	m.token = token
	return m
}

func (m *metadata) do(method, path string, header ...string) (int, string, error) {
	request, err := http.NewRequest(method, m.base+path, nil)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := m.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func (m *metadata) get(path string) (int, string, error) {
	return m.do(http.MethodGet, path, tokenHeader, m.token)
}

// document is a role's document as it was sent.
func (m *metadata) document(t *testing.T, role string) string {
	t.Helper()
	status, body, err := m.get(securityCredentials + role)
	must(t, err)
	if status != http.StatusOK {
		t.Fatalf("the document of %s: %d %q", role, status, body)
	}
	return body
}

// A document is what the tests look at in one.
type document struct {
	Code, Message string
	keys
}

func parse(t *testing.T, text string) document {
	t.Helper()
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatalf("the document %q: %v", text, err)
	}
	return d
}

// A caller is a local account that runs curl.
type caller struct {
	uid    int
	inside *harness.Namespace
}

// Accounts that every Debian has.
const (
	daemonUID = 1
	binUID    = 2
	gamesUID  = 5
	backupUID = 34
	nobodyUID = 65534
)

// curl returns the status and body of one request, or 0 and curl's message.
func (c caller) curl(t *testing.T, args ...string) (int, string) {
	t.Helper()
	r, err := harness.Command{Path: "/usr/bin/curl", UID: c.uid, GID: c.uid, Namespace: c.inside,
		Args: append([]string{"-sS", "-m", "10", "-w", "\n%{http_code}"}, args...)}.Run()
	must(t, err)
	if r.Exit != 0 {
		return 0, r.Stderr
	}
	at := strings.LastIndex(r.Stdout, "\n")
	status, err := strconv.Atoi(r.Stdout[at+1:])
	must(t, err)
	return status, r.Stdout[:at]
}

// role asks for a session token and the list, each on a connection of its own, and
// then for the document of the listed role. It returns the role, or how it was
// refused.
func (c caller) role(t *testing.T, base string, args ...string) string {
	t.Helper()
	status, token := c.curl(t, append(args, "-X", "PUT", "-H", ttlHeader+": 60", base+"/latest/api/token")...)
	if status != http.StatusOK {
		return fmt.Sprint("status ", status)
	}
	args = append(args, "-H", tokenHeader+": "+token)
	status, list := c.curl(t, append(args, base+securityCredentials)...)
	if status != http.StatusOK {
		return fmt.Sprint("status ", status)
	}
	status, body := c.curl(t, append(args, base+securityCredentials+list)...)
	if status != http.StatusOK || parse(t, body).SecretAccessKey == "" {
		t.Errorf("uid %d: %q is listed, and its document is %d %q", c.uid, list, status, body)
	}
	return list
}
