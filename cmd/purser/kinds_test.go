package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
)

// A scene is an upstream of one kind with a stand-in for what it asks. It gives one
// credential, by the name given.
type scene struct {
	upstreams string // in the configuration, each with two blanks in front
	given     string
	// fail makes everything that is asked go wrong, in the way that a fault of the mock
	// describes; without any all is well again.
	fail func(faults ...mock.Fault)
	// asked is how many questions came so far; nil for a kind that asks nobody.
	asked func() int
	// faults are those that this kind can meet.
	faults []mock.Fault
}

// count is asked, 0 for a kind that asks nobody.
func (s scene) count() int {
	if s.asked == nil {
		return 0
	}
	return s.asked()
}

func (s scene) config() string {
	return "upstreams:\n" + s.upstreams + "grants: {everyone: {credentials: [" + s.given + "]}}\n"
}

// scenes are how each kind is tried. What a kind is asked for differs, what Purser
// promises does not.
var scenes = map[string]func(t *testing.T) scene{
	"ims": func(t *testing.T) scene {
		ims, url := startIMS(t, "web")
		return scene{
			upstreams: fmt.Sprintf("  tried: {kind: ims, url: %q}\n", url), given: "web",
			fail: ims.SetFaults, asked: func() int { return ims.Requests().Total },
			faults: answers(mock.Incomplete, mock.Failed, mock.Empty),
		}
	},
	"process": processScene,
	"static":  staticScene,
	"files":   filesScene,
	"roles-anywhere": func(t *testing.T) scene {
		o := startOffice(t)
		return scene{
			upstreams: "  tried: " + o.section("web") + "\n", given: "web",
			fail: o.service.SetFaults, asked: func() int { return o.service.Requests().Total },
			faults: append(answers(mock.Incomplete, mock.Empty), mock.Fault{Kind: mock.Code, Code: "AccessDeniedException"}),
		}
	},
	"sts": func(t *testing.T) scene {
		c := startCloud(t)
		return scene{
			upstreams: fmt.Sprintf("  dc: {kind: ims, url: %q}\n", c.imsURL) + strings.Replace(c.hop("web", "upstream: dc"), "web-hop", "tried", 1), given: "web",
			fail: c.sts.SetFaults, asked: func() int { return c.sts.Requests().Total },
			faults: answers(mock.Incomplete, mock.Empty),
		}
	},
	"vault": func(t *testing.T) scene {
		vault := mock.NewVault(mock.VaultOptions{
			AWSRoles: []mock.VaultAWSRole{{Name: "web"}},
			AppRoles: []mock.VaultAppRole{{Name: "host", RoleID: "host", SecretIDs: []mock.VaultSecretID{{ID: mock.Marker + "-secret-id"}}}},
		})
		unlike := func(fault mock.Fault) bool { return fault.Kind == mock.Expired } // Vault says another end then, which is a life unknown
		return scene{
			upstreams: fmt.Sprintf("  tried: {kind: vault, address: %q, auth: {method: approle, role_id: host, secret_id: %q}, aws: {roles: {web: {}}}}\n",
				testkit.Serve(t, vault).URL, mock.Marker+"-secret-id"), given: "web",
			fail: vault.SetFaults, asked: func() int { return vault.Requests().Total },
			faults: slices.DeleteFunc(answers(mock.Incomplete, mock.Empty, mock.Sealed, mock.NoLeader, mock.Quota, mock.Forbidden), unlike),
		}
	},
	"web-identity": func(t *testing.T) scene {
		issuer := mock.NewIssuer()
		published := testkit.Serve(t, issuer).URL
		sts := mock.NewSTS(mock.STSOptions{Keys: &mock.Keys{}, Providers: []mock.Provider{{Issuer: published, Audience: "sts.amazonaws.com"}}})
		token := testkit.File(t, "token", issuer.Token(published, "web01", "sts.amazonaws.com", time.Now().Add(time.Hour)))
		return scene{
			upstreams: fmt.Sprintf("  tried: {kind: web-identity, token: {file: %q}, region: eu-central-1, endpoint: %q, roles: {web: {role_arn: %q}}}\n",
				token, testkit.Serve(t, sts).URL, "arn:aws:iam::123456789012:role/web"), given: "web",
			fail: sts.SetFaults, asked: func() int { return sts.Requests().Total },
			faults: answers(mock.Incomplete, mock.Empty),
		}
	},
}

// answers are faults that every kind over HTTP can meet, and some more.
func answers(more ...mock.Kind) (faults []mock.Fault) {
	for _, kind := range append(more, mock.Malformed, mock.HTML, mock.Huge, mock.Truncated, mock.Reset, mock.Garbage, mock.Redirect, mock.Expired) {
		faults = append(faults, mock.Fault{Kind: kind})
	}
	for _, status := range []int{400, 403, 404, 429, 500, 503} {
		faults = append(faults, mock.Fault{Kind: mock.Status, Status: status})
	}
	return faults
}

// broken is a fault that heals.
var broken = mock.Fault{Kind: mock.Status, Status: http.StatusInternalServerError}

// eachKind runs a test with the scene of every kind that Purser knows.
func eachKind(t *testing.T, test func(t *testing.T, s scene)) {
	for _, kind := range slices.Sorted(maps.Keys(upstreamKinds)) {
		set, ok := scenes[kind]
		if !ok {
			t.Errorf("the kind %q has no scene, so nothing shows that the promises hold for it", kind)
			continue
		}
		t.Run(kind, func(t *testing.T) { t.Parallel(); test(t, set(t)) })
	}
}

func TestPromise1EveryKindIsWarmBeforeReady(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		s.fail(broken)
		r := startAgent(t, s.config())
		if s.asked != nil {
			awaitAsked(t, s, 1)
		}
		select {
		case <-r.agent.ready.Reached():
			t.Fatal("ready with nothing in stock")
		case <-time.After(100 * time.Millisecond):
		}
		s.fail()
		heal(t, r)
		r.waitReady()
		r.keysOf(s.given)
	})
}

// heal refreshes until that works: a kind that logs in leaves ten seconds between two
// logins.
func heal(t *testing.T, r *running) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := r.client().Refresh(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("all is well again, but for the refresh: %v", err)
		}
	}
}

func awaitAsked(t *testing.T, s scene, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); s.asked() < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("asked %d times in ten seconds, want %d", s.asked(), n)
		}
	}
}

func TestPromise2NoRequestWaitsForAnyKind(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		if s.asked == nil {
			t.Skip("this kind asks nobody")
		}
		r := startAgent(t, s.config())
		r.waitReady()
		s.fail(mock.Fault{Kind: mock.Hang})
		refreshed := make(chan error, 1)
		go func() { refreshed <- r.client().Refresh(t.Context()) }()
		time.Sleep(200 * time.Millisecond) // enough for a refresh that does not hang
		began := time.Now()
		for range 20 {
			r.keysOf(s.given)
		}
		if took := time.Since(began); took > 8*time.Second { // one that waits takes as long as a time-out of an upstream
			t.Errorf("20 requests took %v while the upstream hung", took)
		}
		select {
		case err := <-refreshed:
			t.Errorf("the upstream did not hang: %v", err)
		default:
		}
		s.fail()
	})
}

func TestPromise4NoFailureOfAnyKindChangesWhatIsInStock(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		r := startAgent(t, s.config())
		r.waitReady()
		before := withoutEnd(r.keysOf(s.given))
		for _, fault := range s.faults {
			s.fail(fault)
			asked := s.count()
			if err := r.client().Refresh(t.Context()); err == nil {
				t.Errorf("%v: the refresh says that all went well", fault)
			}
			if s.asked != nil {
				awaitAsked(t, s, asked+1)
			}
			if withoutEnd(r.keysOf(s.given)) != before {
				t.Errorf("%v: what is in stock has changed", fault)
			}
		}
		s.fail()
		heal(t, r)
	})
}

var end = regexp.MustCompile(`"Expiration" : "[^"]*"`)

// withoutEnd is a document without its Expiration: for keys that have none, it only says
// when to ask again.
func withoutEnd(document string) string { return end.ReplaceAllString(document, "") }

func TestPromise6NoKindShowsASecret(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		var said testkit.Log
		r := startAgentThatLogs(t, s.config(), zerolog.New(&said).Level(zerolog.TraceLevel))
		r.waitReady()
		if !strings.Contains(r.keysOf(s.given), mock.Marker) {
			t.Fatal("the marker is not even in the credential, so searching for it proves nothing")
		}
		for _, fault := range s.faults {
			s.fail(fault)
			if err := r.client().Refresh(t.Context()); err != nil {
				fmt.Fprintln(&said, err)
			}
		}
		report, err := r.client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		if all := said.String() + string(text); strings.Contains(all, mock.Marker) {
			t.Errorf("a secret shows in\n%s", all)
		}
	})
}

func TestPromise8NoKindIsTakenOverThatCannotFetch(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		_, url := startIMS(t, "old")
		r := startAgent(t, fmt.Sprintf("upstreams: {present: {kind: ims, url: %q}}\ngrants: {everyone: {credentials: ['*']}}\n", url))
		r.waitReady()
		before := r.keysOf("old")
		s.fail(broken)
		r.write(s.config())
		if err := r.reload(); err == nil || !strings.Contains(err.Error(), `upstream "tried"`) {
			t.Errorf("got error %v, want one of the upstream that cannot fetch", err)
		}
		if r.keysOf("old") != before {
			t.Error("a reload that was refused has changed what is served")
		}
		s.fail()
		if err := r.reload(); err != nil {
			t.Fatal(err)
		}
		r.keysOf(s.given)
	})
}

func TestPromise9ClientsOfAnyKindCauseNoAttempts(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		if s.asked == nil {
			t.Skip("this kind asks nobody")
		}
		r := startAgent(t, s.config())
		r.waitReady()
		before := s.asked()
		var clients sync.WaitGroup
		var failed atomic.Int32
		for range 20 {
			clients.Go(func() {
				for range 50 {
					if answer, err := http.Get(r.url + "/latest/meta-data/iam/security-credentials/" + s.given); err != nil || answer.Body.Close() != nil {
						failed.Add(1)
					}
				}
			})
		}
		clients.Wait()
		if n := failed.Load(); n > 0 {
			t.Errorf("%d requests failed", n)
		}
		if more := s.asked() - before; more > 2 { // the second fetch may fall due
			t.Errorf("1000 requests led to %d questions", more)
		}
	})
}
