package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
	"github.com/purser-agent/purser/pkg/mock"
)

// TestATokenInAFileBecomesARole is the kind web-identity through the real binaries: the
// token is in a file that systemd provides, STS verifies it by the keys that its issuer
// publishes, and a new one is used as soon as it is there.
func TestATokenInAFileBecomesARole(t *testing.T) {
	const audience = "sts.amazonaws.com"
	issuer, listener := mock.NewIssuer(), loopback(t, nil)
	url := "http://" + listener.Addr().String()
	serve(t, listener, issuer)
	sts, err := harness.StartMockWithSTS("--sts-provider", url+","+audience, "--sts-role", demoRole)
	must(t, err)
	t.Cleanup(func() { _, _ = sts.Stop() })

	folder := openFolder(t)
	var tokens []string
	write := func(ends time.Time) {
		tokens = append(tokens, issuer.Token(url, "web01", audience, ends))
		must(t, os.WriteFile(filepath.Join(folder, "token.new"), []byte(tokens[len(tokens)-1]), 0o644))
		must(t, os.Rename(filepath.Join(folder, "token.new"), filepath.Join(folder, "token")))
	}
	write(time.Now().Add(-time.Minute))
	agent := startAgent(t, harness.AgentOptions{NotReady: true, Env: []string{"CREDENTIALS_DIRECTORY=" + folder}, Config: fmt.Sprintf(`upstreams:
  cluster:
    kind: web-identity
    token: {file: "${CREDENTIALS_DIRECTORY}/token"}
    region: eu-central-1
    endpoint: "http://%s"
    roles: {demo: {role_arn: %q}}
`, sts.STS, demoRole) + everything})
	must(t, harness.Await(5*time.Second, func() error {
		if !strings.Contains(agent.Output(), "ExpiredTokenException: the token in "+folder+"/token has ended by the clock of STS") {
			return fmt.Errorf("the log does not say that the token is over")
		}
		return nil
	}))
	write(time.Now().Add(time.Hour))
	r, err := agent.Run("wait", "demo")
	must(t, err)
	if r.Exit != 0 {
		t.Fatalf("a new token does not help: %d %s", r.Exit, r.Stderr)
	}
	checked, err := agent.Run("check")
	must(t, err)
	if checked.Exit != 0 || !strings.Contains(checked.Stdout, "upstream cluster: ok, 1 credential") {
		t.Errorf("check ended with %d and said\n%s%s", checked.Exit, checked.Stdout, checked.Stderr)
	}
	for _, token := range tokens {
		for part := range strings.SplitSeq(token, ".") {
			if strings.Contains(agent.Said()+agent.Output(), part) {
				t.Error("a part of a token was printed")
			}
		}
	}
}

// TestARoleOnDemandThroughTheRealBinary: a grant names roles by a pattern, a caller asks
// for one by its ARN in either dialect.
func TestARoleOnDemandThroughTheRealBinary(t *testing.T) {
	needsRoot(t) // to be another user
	sts, err := harness.StartMockWithSTS()
	must(t, err)
	t.Cleanup(func() { _, _ = sts.Stop() })
	recorded := newRecorder(t, loopback(t, nil), "http://"+sts.STS)
	agent := startAgent(t, harness.AgentOptions{Config: fmt.Sprintf(`upstreams:
  dc: {kind: ims, url: %q}
  containers:
    kind: sts
    base: {upstream: dc}
    region: eu-central-1
    endpoint: %q
    on_demand: {apps: {role_arn: "arn:aws:iam::123456789012:role/team/app-*"}}
aws: {imds_v1: true}
grants:
  everyone: {credentials: ["*"]}
  daemon: {user: daemon, credentials: ["arn:aws:iam::123456789012:role/team/app-*"]}
`, sts.URL(), recorded.URL)})

	const web = "arn:aws:iam::123456789012:role%2Fteam%2Fapp-web"
	imds := func(name string) string { return "http://" + agent.Address + securityCredentials + name }
	ecs := func(name string) []string {
		return []string{"-H", "Authorization: " + agent.AuthorizationToken(), "http://" + agent.Address + "/v2/credentials/" + name}
	}
	daemon, bin := caller{daemonUID, nil}, caller{binUID, nil}
	for _, other := range []string{imds(web), imds("arn:aws:iam::123456789012:role%2Fteam%2Fapp-db")} {
		if status, body := bin.curl(t, other); status != 404 {
			t.Errorf("a caller without the grant got %d %s", status, body)
		}
	}
	if status, body := daemon.curl(t, imds("arn:aws:iam::123456789012:role%2Fteam%2Fadmin")); status != 404 {
		t.Errorf("a role that no pattern allows: %d %s", status, body)
	}
	if asked := recorded.requests(); len(asked) != 0 {
		t.Errorf("STS was asked %d times before both allowed a role", len(asked))
	}
	for range 5 {
		if status, body := daemon.curl(t, ecs(web)...); status != 200 || !strings.Contains(body, `"RoleArn":"arn:aws:iam::123456789012:role/team/app-web"`) {
			t.Errorf("got %d %s", status, body)
		}
		if status, body := daemon.curl(t, imds(web)); status != 200 || !strings.Contains(body, `"Code" : "Success"`) {
			t.Errorf("got %d %s", status, body)
		}
	}
	if status, body := bin.curl(t, imds(web)); status != 404 {
		t.Errorf("a caller without the grant got what another has in stock: %d %s", status, body)
	}
	if asked := recorded.requests(); len(asked) != 1 {
		t.Errorf("STS was asked %d times for one role", len(asked))
	}
	fetchByClients(t, agent, web, recorded)
}

// fetchByClients has a real SDK and Purser's own command fetch a role on demand.
func fetchByClients(t *testing.T, agent *harness.Agent, escaped string, recorded *recorder) {
	t.Helper()
	boto3, err := harness.Command{Path: "/usr/bin/python3", UID: daemonUID, GID: daemonUID,
		Args: []string{"-c", "import boto3; print(boto3.Session().get_credentials().access_key)"},
		Env:  []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://" + agent.Address + "/v2/credentials/" + escaped, "AWS_CONTAINER_AUTHORIZATION_TOKEN=" + agent.AuthorizationToken()}}.Run()
	must(t, err)
	if _, known := recorded.keys(strings.TrimSpace(boto3.Stdout)); !known {
		t.Errorf("boto3 got %q, %s", boto3.Stdout, boto3.Stderr)
	}
	process, err := harness.Command{Path: agent.Command("x").Path, UID: daemonUID, GID: daemonUID, Args: []string{"credential-process", "--url", "http://" + agent.Address,
		"--token-file", agent.Authorization(), "arn:aws:iam::123456789012:role/team/app-web"}}.Run()
	must(t, err)
	if process.Exit != 0 || !strings.Contains(process.Stdout, `"Version":1`) {
		t.Errorf("credential-process ended with %d: %s", process.Exit, process.Stderr)
	}
}

// TestTheDefaultChainAsABase: the keys are in a file by a profile. Without them one
// sentence says what to do, and nobody at the address of the metadata service is asked.
func TestTheDefaultChainAsABase(t *testing.T) {
	sts, err := harness.StartMockWithSTS()
	must(t, err)
	t.Cleanup(func() { _, _ = sts.Stop() })
	trap := newRecorder(t, loopback(t, nil), sts.Server())
	folder := openFolder(t)
	credentials := filepath.Join(folder, "credentials")
	must(t, os.WriteFile(credentials, []byte("[other]\n"), 0o644))
	agent := startAgent(t, harness.AgentOptions{NotReady: true, Config: fmt.Sprintf(`upstreams:
  partner:
    kind: sts
    base: {chain: default, profile: partner, config_file: %[1]s, credentials_file: %[1]s}
    region: eu-central-1
    endpoint: "http://%[2]s"
    roles: {demo: {role_arn: %[3]q}}
`, credentials, sts.STS, demoRole) + everything, Env: []string{
		"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + trap.URL, "AWS_CONTAINER_CREDENTIALS_FULL_URI=" + trap.URL + "/v1/credentials",
	}})
	check := func() (exit int, said string) {
		r, err := agent.Run("check")
		must(t, err)
		return r.Exit, r.Stdout
	}
	if exit, said := check(); exit != 1 || !strings.Contains(said, fmt.Sprintf("the base, the SDK's default chain, has no profile \"partner\": it is neither in %[1]s nor in %[1]s", credentials)) {
		t.Errorf("check ended with %d and said\n%s", exit, said)
	}
	must(t, os.WriteFile(credentials, []byte("[partner]\nregion = eu-central-1\n"), 0o644))
	if exit, said := check(); exit != 1 || !strings.Contains(said, "the base, the SDK's default chain, is empty: there are no keys in Purser's environment (AWS_ACCESS_KEY_ID), and none by the profile \"partner\"") {
		t.Errorf("check ended with %d and said\n%s", exit, said)
	}
	if asked := trap.requests(); len(asked) != 0 {
		t.Errorf("the metadata service was asked %d times", len(asked))
	}

	_, document := caller{daemonUID, nil}.curl(t, sts.Server()+securityCredentials+"test_role")
	var k keys
	must(t, json.Unmarshal([]byte(document), &k))
	must(t, os.WriteFile(credentials, fmt.Appendf(nil, "[partner]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n",
		k.AccessKeyID, k.SecretAccessKey, k.Token), 0o644))
	r, err := agent.Run("wait", "demo")
	must(t, err)
	if r.Exit != 0 {
		t.Errorf("keys in the file do not help: %d %s", r.Exit, r.Stderr)
	}
}
