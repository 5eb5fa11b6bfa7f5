package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A stand is an agent with its upstream and an API to call, for one way in which
// clients find the agent.
type stand struct {
	mock     *harness.Mock
	upstream *recorder
	agent    *harness.Agent
	api      *api
	inside   *harness.Namespace
}

const regionConfig = "aws: {metadata: {placement: {region: eu-central-1, availability-zone: eu-central-1a}}}\n"

func newStand(t *testing.T, inside *harness.Namespace, flags ...string) *stand {
	t.Helper()
	s := &stand{mock: startMock(t, flags...), inside: inside}
	s.upstream = newRecorder(t, loopback(t, inside), s.mock.Server())
	s.agent = startAgent(t, harness.AgentOptions{
		Namespace: inside,
		Config:    upstream(s.upstream.URL+"/latest") + everything + regionConfig,
	})
	s.api = newAPI(t, loopback(t, inside), s.upstream.keys)
	return s
}

// requests are those to the agent, from the n-th on, each "METHOD PATH".
func (s *stand) requests(from int) []string {
	var requests []string
	for _, access := range s.agent.Accesses()[from:] {
		requests = append(requests, access.Method+" "+access.Path)
	}
	return requests
}

// expect waits until the agent has logged these requests from the n-th on, and fails
// if there are others.
func (s *stand) expect(t *testing.T, from int, want []string) {
	t.Helper()
	err := harness.Await(3*time.Second, func() error {
		if got := s.requests(from); len(got) < len(want) {
			return fmt.Errorf("the agent was asked %q", got)
		}
		return nil
	})
	if got := s.requests(from); err != nil || !slices.Equal(got, want) {
		t.Errorf("the agent was asked %q, want %q", got, want)
	}
}

// expectOneConnection fails if the requests from the n-th on came over several.
func (s *stand) expectOneConnection(t *testing.T, from int) {
	t.Helper()
	connections := map[string]bool{}
	for _, access := range s.agent.Accesses()[from:] {
		connections[access.Peer] = true
	}
	if len(connections) != 1 {
		t.Errorf("the client needed %d connections", len(connections))
	}
}

const securityCredentials = "/latest/meta-data/iam/security-credentials/"

// A way is how a client finds the agent.
type way struct {
	name string
	env  func(t *testing.T, s *stand, p program) []string
	// asks are the requests of one client that needs credentials once, as the same
	// client would send them on EC2 or ECS.
	asks []string
	// redirected has no variable at all, and the rule in a network namespace.
	redirected bool
	// metadata says that the client can ask for the region, too.
	metadata bool
}

var imdsAsks = []string{"PUT /latest/api/token", "GET " + securityCredentials, "GET " + securityCredentials + "test_role"}

var ways = []way{
	{name: "endpoint variable", asks: imdsAsks, metadata: true, env: func(_ *testing.T, s *stand, p program) []string {
		endpoint := "http://" + s.agent.Address
		if p.name == "awscli" {
			endpoint += "/" // Debian's version glues host and path together
		}
		return []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + endpoint}
	}},
	{name: "container variables", asks: []string{"GET /v1/credentials"}, env: func(_ *testing.T, s *stand, p program) []string {
		token := "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + s.agent.Authorization()
		if p.name == "boto3" || p.name == "awscli" {
			// Debian's versions are from before the variable for the file.
			token = "AWS_CONTAINER_AUTHORIZATION_TOKEN=" + s.agent.AuthorizationToken()
		}
		return []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://" + s.agent.Address + "/v1/credentials", token}
	}},
	{name: "credential process", asks: nil, env: func(t *testing.T, s *stand, _ program) []string {
		purser, err := harness.Binary("purser")
		must(t, err)
		file := filepath.Join(t.TempDir(), "config")
		text := fmt.Sprintf("[default]\ncredential_process = %s credential-process test_role --url http://%s --token-file %s\n",
			purser, s.agent.Address, s.agent.Authorization())
		must(t, os.WriteFile(file, []byte(text), 0o644))
		return []string{"AWS_CONFIG_FILE=" + file}
	}},
	{name: "no variable", asks: imdsAsks, redirected: true, metadata: true,
		env: func(*testing.T, *stand, program) []string { return nil }},
}

// each runs a test with every client in every way, but for those that do not fit. The
// clients of one way share an agent; alone says that they must take turns there.
type each struct {
	flags []string // for the mock
	alone bool
	fits  func(w way, p program) bool
}

func (e each) run(t *testing.T, test func(t *testing.T, s *stand, w way, p program)) {
	for _, w := range ways {
		fitting := slices.DeleteFunc(programs(t), func(p program) bool { return e.fits != nil && !e.fits(w, p) })
		if len(fitting) == 0 {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			s := w.stand(t, e.flags)
			for _, p := range fitting {
				t.Run(p.name, func(t *testing.T) {
					if !e.alone {
						t.Parallel()
					}
					test(t, s, w, p)
				})
			}
		})
	}
}

func (w way) stand(t *testing.T, flags []string) *stand {
	t.Helper()
	if !w.redirected {
		return newStand(t, nil, flags...)
	}
	s := newStand(t, namespace(t), flags...)
	agent, err := netip.ParseAddrPort(s.agent.Address)
	must(t, err)
	must(t, s.inside.Redirect(int(agent.Port())))
	return s
}

// TestClientsFindCredentialsAndAskNoMoreOftenThanOnEC2 makes several signed calls per
// client. Keys of an hour are fetched once, with the requests and in the order of the
// SDK's own tests.
func TestClientsFindCredentialsAndAskNoMoreOftenThanOnEC2(t *testing.T) {
	each{alone: true}.run(t, func(t *testing.T, s *stand, w way, p program) {
		before := len(s.agent.Accesses())
		client := p.start(t, s.inside, s.api, w.env(t, s, p)...)
		calls := 20
		if p.once {
			calls = 1
		}
		first := client.call("call")
		for range calls - 1 {
			if again := client.call("call"); again != first {
				t.Errorf("a call was signed with %s, the first one with %s", again, first)
			}
		}
		if w.asks != nil {
			s.expect(t, before, w.asks)
			s.expectOneConnection(t, before)
			return
		}
		served := 0
		for _, access := range s.agent.Accesses()[before:] {
			if access.Decision == "served" {
				served++
			}
		}
		if served != 1 {
			t.Errorf("keys were handed out %d times for %d calls: %q", served, calls, s.requests(before))
		}
	})
}

func TestClientsFindTheRegion(t *testing.T) {
	onMetadata := func(w way, _ program) bool { return w.metadata } // elsewhere no client looks for it
	each{fits: onMetadata}.run(t, func(t *testing.T, s *stand, w way, p program) {
		client := p.start(t, s.inside, s.api, w.env(t, s, p)...)
		if got := client.tell("region"); got != "eu-central-1" {
			t.Errorf("the region is %q", got)
		}
	})
}

// TestClientsSurviveARotation: keys that were handed out stay good, and whoever asks
// after the rotation gets the new ones.
func TestClientsSurviveARotation(t *testing.T) {
	each{}.run(t, func(t *testing.T, s *stand, w way, p program) {
		client := p.start(t, s.inside, s.api, w.env(t, s, p)...)
		old := client.call("call")
		rotate(t, s)
		if got := client.call("call"); got != old && !p.once {
			t.Errorf("a client with good keys asked for others: %s, then %s", old, got)
		}
		if got := client.call("new"); got == old {
			t.Errorf("a new client still gets %s", got)
		}
	})
}

// rotate makes the agent fetch new keys. Their end is given in whole seconds, and what
// ends no later than the stock is nothing new: so it waits a second first.
func rotate(t *testing.T, s *stand) {
	t.Helper()
	time.Sleep(1100 * time.Millisecond)
	r, err := s.agent.Run("refresh")
	must(t, err)
	if r.Exit != 0 {
		t.Fatalf("purser refresh: %d %s%s", r.Exit, r.Stdout, r.Stderr)
	}
}

// TestClientsFollowShortKeys lets keys of some seconds run out while clients work.
// botocore is missing by its own nature: it goes on with keys from the metadata
// service that have less than ten minutes left.
func TestClientsFollowShortKeys(t *testing.T) {
	follows := func(w way, p program) bool { return !p.once && (p.name != "boto3" || !w.metadata) }
	each{flags: []string{"--lifetime", "6s"}, fits: follows}.run(t, func(t *testing.T, s *stand, w way, p program) {
		client := p.start(t, s.inside, s.api, w.env(t, s, p)...)
		seen := map[string]bool{}
		for end := time.Now().Add(9 * time.Second); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
			seen[client.call("call")] = true
		}
		if len(seen) < 2 {
			t.Errorf("nine seconds with keys of six, and only %d of them was used", len(seen))
		}
	})
}

// TestClientsAskAgainBeforeTheirKeysEnd moves the clock of clients that take theirs
// from the C library: an hour's keys have three minutes left then.
func TestClientsAskAgainBeforeTheirKeysEnd(t *testing.T) {
	libraries, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	must(t, err)
	needs(t, "faketime", len(libraries) == 1)
	usesLibrary := func(_ way, p program) bool { return p.name == "boto3" || p.name == "js" }
	each{fits: usesLibrary}.run(t, func(t *testing.T, s *stand, w way, p program) {
		clock := filepath.Join(t.TempDir(), "clock")
		must(t, os.WriteFile(clock, []byte("+0"), 0o644))
		env := append(w.env(t, s, p), "LD_PRELOAD="+libraries[0], "FAKETIME_TIMESTAMP_FILE="+clock,
			"FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")
		client := p.start(t, s.inside, s.api, env...)
		old := client.call("call")
		rotate(t, s)
		must(t, os.WriteFile(clock, []byte("+57m"), 0o644))
		err := harness.Await(5*time.Second, func() error {
			if client.call("call") == old {
				return fmt.Errorf("still signs with %s", old)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
