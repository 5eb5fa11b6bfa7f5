package vault

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purser-agent/purser/pkg/mock"
)

// case 73: a server that does not know the namespace, or knows none at all.
func TestANamespaceThatIsNotThere(t *testing.T) {
	t.Run("OpenBao", func(t *testing.T) {
		g := newGate(t, setting{vault: mock.VaultOptions{OpenBao: true, Namespaces: []string{"team-b"}}, namespace: "team-a"})
		_, got := says(t, g.keys(t))
		if want := `answered 404: this server has no such namespace (namespace "team-a"); correct namespace or auth.namespace`; got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
	for name, c := range map[string]struct {
		vault mock.VaultOptions
		warns bool
	}{
		"OpenBao with it":           {mock.VaultOptions{OpenBao: true, Namespaces: []string{"team-a"}, AppRoles: roleIn("team-a/"), AWSRoles: []mock.VaultAWSRole{{Mount: "team-a/aws", Name: "test_role"}}, Policies: map[string][]mock.VaultRule{"purser": {{Path: "*", Capabilities: []string{"read", "update"}}}}}, false},
		"the community's edition":   {mock.VaultOptions{}, true},
		"newer community's edition": {mock.VaultOptions{Newer: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, setting{vault: c.vault, namespace: "team-a"})
			if err := g.keys(t); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { g.run(ctx) })
			for !g.surveyed.Load() {
				select {
				case <-t.Context().Done():
					t.Fatal("the server is not looked at")
				case <-time.After(time.Millisecond):
				}
			}
			cancel()
			running.Wait()
			if got := strings.Contains(g.said.String(), "this server has no namespaces and ignores the setting"); got != c.warns {
				t.Errorf("warns: %v, want %v", got, c.warns)
			}
			for _, r := range g.vault.Record().Latest { // case 74
				if r.Path != "sys/health" && r.Namespace != "team-a" || !r.Marked {
					t.Errorf("%s %s went to namespace %q", r.Method, r.Path, r.Namespace)
				}
			}
		})
	}
}

func roleIn(namespace string) []mock.VaultAppRole {
	return []mock.VaultAppRole{{Mount: namespace + "auth/approle", Name: "web", RoleID: roleID, SecretIDs: []mock.VaultSecretID{{ID: secretID}}}}
}

// case 74: the login is in one namespace, what is read in another.
func TestLoginAndSecretsInTwoNamespaces(t *testing.T) {
	a := byAppRole(t)
	a.Namespace = "root"
	g := newGate(t, setting{auth: a, namespace: "team-a", vault: mock.VaultOptions{
		OpenBao: true, Namespaces: []string{"team-a"}, AppRoles: roleIn(""), AWSRoles: []mock.VaultAWSRole{{Mount: "team-a/aws", Name: "test_role"}},
		Policies: map[string][]mock.VaultRule{"purser": {{Path: "team-a/aws/*", Capabilities: []string{"read"}}}},
	}})
	if err := g.keys(t); err != nil {
		t.Fatal(err)
	}
	g.renew(t.Context(), g.present())
	g.server.close(t.Context())
	for _, r := range g.vault.Record().Latest {
		want := "root"
		if strings.HasPrefix(r.Path, "aws/") {
			want = "team-a"
		}
		if r.Namespace != want || r.Status >= 300 {
			t.Errorf("%s %s in %q answered %d, want %q", r.Method, r.Path, r.Namespace, r.Status, want)
		}
	}
}

func TestHasNamespaces(t *testing.T) {
	for health, want := range map[string]bool{
		`{"version": "1.14.1", "performance_standby": false}`:                         false,
		`{"version": "1.21.4", "performance_standby": false, "enterprise": false}`:    false,
		`{"version": "1.21.4+ent", "performance_standby": false, "enterprise": true}`: true,
		`{"version": "1.14.1+ent.hsm", "performance_standby": true}`:                  true,
		`{"version": "2.6.2"}`:           true,
		`{"performance_standby": false}`: false,
		`<html>`:                         true,
	} {
		if got := hasNamespaces([]byte(health)); got != want {
			t.Errorf("%s: got %v, want %v", health, got, want)
		}
	}
}

// case 32: sys/health is asked for what the server is, which it says with any status; of
// one that is sealed or not initialised nobody knows yet.
func TestSurveyLooksAtWhatTheServerIsAndNotHowItIs(t *testing.T) {
	for status, want := range map[int]struct{ surveyed, warned bool }{
		200: {true, true}, 429: {true, true}, 473: {true, true}, // any standby will do
		472: {true, false}, 474: {true, false},
		501: {false, false}, 503: {false, false}, 530: {false, false},
	} {
		g := newGate(t, setting{namespace: "team-a"})
		g.vault.SetHealth(status)
		g.survey(t.Context())
		g.survey(t.Context())
		if got := g.surveyed.Load(); got != want.surveyed {
			t.Errorf("%d: surveyed %v, want %v", status, got, want.surveyed)
		}
		if got := strings.Contains(g.said.String(), "this server has no namespaces"); got != want.warned {
			t.Errorf("%d: warned %v, want %v", status, got, want.warned)
		}
		if looks := len(g.vault.Record().Latest); (looks == 1) != want.surveyed {
			t.Errorf("%d: %d looks", status, looks)
		}
	}
}

func TestSurveyAsksOnceWhereTheAnswerIsANo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.forbidden["sys/health"] = true
		s := sessionOn(t, f)
		s.auth.Namespace = "team-a"
		asking(t, s, billing, time.Hour)
		if got := f.count("sys/health"); got != 1 {
			t.Errorf("got %d looks, want 1", got)
		}
	})
}
