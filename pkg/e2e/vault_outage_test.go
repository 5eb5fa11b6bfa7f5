package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
	"github.com/purser-agent/purser/pkg/mock"
)

// untilRefreshed is refreshed until that works. Between two logins there are 10 s.
func untilRefreshed(t *testing.T, agent *harness.Agent, role string) {
	t.Helper()
	must(t, harness.Await(30*time.Second, func() error { return refreshed(t, agent, role) }))
}

// refreshed asks the agent to fetch the role anew, and returns what it says.
func refreshed(t *testing.T, agent *harness.Agent, role string) error {
	t.Helper()
	r, err := agent.Run("refresh", role)
	must(t, err)
	if r.Exit != 0 {
		return errors.New(r.Stdout + r.Stderr)
	}
	return nil
}

// An eager client asks for one role all the time.
type eager struct {
	asked atomic.Int64
	ended atomic.Bool
	asks  sync.WaitGroup
}

// keepAsking starts one. Each answer has to be keys that have not ended.
func keepAsking(t *testing.T, m *metadata, role string) *eager {
	e := &eager{}
	e.asks.Go(func() {
		for ; !e.ended.Load(); time.Sleep(5 * time.Millisecond) {
			status, body, err := m.get(securityCredentials + role)
			var d document
			if err == nil {
				err = json.Unmarshal([]byte(body), &d)
			}
			if err != nil || status != http.StatusOK || d.Code != "Success" || !d.Expiration.After(time.Now()) {
				t.Errorf("a client got %d %s until %v, %v", status, d.Code, d.Expiration, err)
				return
			}
			e.asked.Add(1)
		}
	})
	return e
}

// stop returns how often it asked.
func (e *eager) stop() int64 {
	e.ended.Store(true)
	e.asks.Wait()
	return e.asked.Load()
}

// startSite is a Vault with one AppRole, and an agent that reads test_role by it.
func startSite(t *testing.T) (*vaultSite, *harness.Agent) {
	t.Helper()
	site := newVaultSite(t, 1, mock.VaultOptions{AppRoles: []mock.VaultAppRole{purserRole}})
	return site, startAgent(t, harness.AgentOptions{Config: site.config(site.appRole(t), "test_role", "")})
}

// TestSealedOrRestartedVaultIsNoOutage: what is in stock is served, a refresh says what
// is wrong, and afterwards it succeeds without anybody's doing.
func TestSealedOrRestartedVaultIsNoOutage(t *testing.T) {
	t.Parallel()
	site, agent := startSite(t)
	m := newMetadata(t, agent)
	before := parse(t, m.document(t, "test_role"))
	vault := site.vault.Nodes[0]
	for _, outage := range []struct {
		name  string
		begin func() error
		says  string
	}{
		{"sealed", vault.Seal, "sealed"},
		{"dead", func() error { vault.Kill(); return nil }, "connection refused"},
		{"sealed after its start", vault.Restart, "sealed"},
	} {
		must(t, outage.begin())
		if err := refreshed(t, agent, "test_role"); err == nil || !strings.Contains(err.Error(), outage.says) {
			t.Errorf("%s: a refresh says %v", outage.name, err)
		}
		if d := parse(t, m.document(t, "test_role")); d != before {
			t.Errorf("%s: the document is %+v, before it was %+v", outage.name, d, before)
		}
	}
	must(t, vault.Unseal())
	must(t, harness.Await(30*time.Second, func() error {
		if d := parse(t, m.document(t, "test_role")); d.AccessKeyID == before.AccessKeyID {
			return errors.New("Vault is back, and the keys are the same")
		}
		return nil
	}))
}

// TestRevokedTokenIsReplacedOnce: a token that an operator took away costs one login,
// and no client sees it.
func TestRevokedTokenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	site, agent := startSite(t)
	m := newMetadata(t, agent)
	before := parse(t, m.document(t, "test_role"))
	must(t, site.vault.Write("sys/leases/revoke-prefix/auth/approle/login", map[string]bool{"sync": true}, nil))
	untilRefreshed(t, agent, "test_role")
	if d := parse(t, m.document(t, "test_role")); d.AccessKeyID == before.AccessKeyID || d.Code != "Success" {
		t.Errorf("got %+v after %+v", d, before)
	}
	must(t, refreshed(t, agent, "test_role"))
	if n := site.tokens(t); n != 1 {
		t.Errorf("the agent has %d tokens", n)
	}
}

// tokens is how many of them logins by AppRole have made and nobody revoked.
func (s *vaultSite) tokens(t *testing.T) int {
	t.Helper()
	var list struct{ Data struct{ Keys []string } }
	must(t, s.vault.List("sys/leases/lookup/auth/approle/login", &list))
	return len(list.Data.Keys)
}

// TestPolicyTakenAwayIsSaidAndNotHammered: the new token is refused, too; the agent
// says so, keeps what it has and does not log in again and again.
func TestPolicyTakenAwayIsSaidAndNotHammered(t *testing.T) {
	t.Parallel()
	site, agent := startSite(t)
	m := newMetadata(t, agent)
	before := parse(t, m.document(t, "test_role"))
	must(t, site.vault.Write("sys/policies/acl/purser", map[string]string{"policy": "path \"aws/creds/other\" { capabilities = [\"read\"] }"}, nil))
	for range 5 {
		if err := refreshed(t, agent, "test_role"); err == nil || !strings.Contains(err.Error(), "policy") {
			t.Errorf("a refresh says %v", err)
		}
	}
	if n := site.tokens(t); n > 2 {
		t.Errorf("the agent logged in until it had %d tokens", n)
	}
	if d := parse(t, m.document(t, "test_role")); d != before {
		t.Errorf("the document is %+v, before it was %+v", d, before)
	}
	site.policies(mock.VaultOptions{})
	untilRefreshed(t, agent, "test_role")
}

// TestUsersOfIAMGoWithTheAgent: Vault deletes the users that it made for an agent when
// that stops and gives back all it has, and a lease that an operator revokes takes its
// user along.
func TestUsersOfIAMGoWithTheAgent(t *testing.T) {
	t.Parallel()
	site := newVaultSite(t, 1, mock.VaultOptions{
		AppRoles: []mock.VaultAppRole{purserRole},
		AWSRoles: []mock.VaultAWSRole{{Name: "test_role", Type: mock.IAMUser}},
	})
	site.write("aws/config/lease", map[string]string{"lease": "1h", "lease_max": "24h"})
	config := site.config(site.appRole(t), "test_role", ", allow_iam_user: true")
	agent := startAgent(t, harness.AgentOptions{Config: strings.Replace(config, "    kind: vault\n", "    kind: vault\n    revoke_on_stop: true\n", 1)})
	m := newMetadata(t, agent)
	before := parse(t, m.document(t, "test_role"))
	if users := site.iam.Users(); len(users) != 1 || !strings.HasPrefix(before.AccessKeyID, "AKIA") {
		t.Fatalf("the users are %q, and the key %s", users, before.AccessKeyID)
	}
	must(t, site.vault.Write("sys/leases/revoke-prefix/aws/creds/test_role", map[string]bool{"sync": true}, nil))
	if users := site.iam.Users(); len(users) != 0 {
		t.Fatalf("a revoked lease leaves %q", users)
	}
	must(t, refreshed(t, agent, "test_role"))
	if d := parse(t, m.document(t, "test_role")); d.AccessKeyID == before.AccessKeyID || len(site.iam.Users()) != 1 {
		t.Errorf("got the key %s, and the users are %q", d.AccessKeyID, site.iam.Users())
	}
	_, err := agent.Stop()
	must(t, err)
	must(t, harness.Await(10*time.Second, func() error {
		if users, n := site.iam.Users(), site.tokens(t); len(users) != 0 || n != 0 {
			return fmt.Errorf("the users %q and %d tokens outlive the agent", users, n)
		}
		return nil
	}))
}

// TestClusterLosesItsLeader has one of three servers sealed, the next one frozen and
// the last leader killed, while keys live for a minute only. A client that asks all the
// time sees none of it.
func TestClusterLosesItsLeader(t *testing.T) {
	t.Parallel()
	site := newVaultSite(t, 3, mock.VaultOptions{AppRoles: []mock.VaultAppRole{purserRole}})
	site.sts.SetFaults(mock.Fault{Kind: mock.Short, Time: time.Minute})
	agent := startAgent(t, harness.AgentOptions{Config: site.config(site.appRole(t), "test_role", "")})
	m := newMetadata(t, agent)
	client := keepAsking(t, m, "test_role")
	defer client.stop()
	for _, loss := range []struct {
		name string
		lose func(*harness.VaultNode) error
		mend func(*harness.VaultNode) error
	}{
		{"sealed", (*harness.VaultNode).Seal, (*harness.VaultNode).Unseal},
		{"frozen", (*harness.VaultNode).Freeze, (*harness.VaultNode).Thaw},
		{"killed", func(n *harness.VaultNode) error { n.Kill(); return nil }, func(n *harness.VaultNode) error { return errors.Join(n.Restart(), n.Unseal()) }},
	} {
		leader, err := site.vault.Leader()
		must(t, err)
		made := len(site.sts.Assumptions())
		must(t, loss.lose(leader))
		lost := time.Now()
		must(t, harness.Await(time.Minute, func() error {
			if len(site.sts.Assumptions()) == made {
				return errors.New("the agent got nothing new from the others")
			}
			return nil
		}))
		t.Logf("%s: new keys after %v", loss.name, time.Since(lost).Round(time.Millisecond))
		must(t, loss.mend(leader))
	}
}
