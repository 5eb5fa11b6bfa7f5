package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/refresh"
	"github.com/purser-agent/purser/pkg/store"
	"github.com/purser-agent/purser/pkg/testkit"
)

// A cloud is an IMS, and an STS that knows its keys.
type cloud struct {
	keys   *mock.Keys
	ims    *mock.IMS
	sts    *mock.STS
	imsURL string
	stsURL string
}

func startCloud(t *testing.T, roles ...mock.STSRole) *cloud {
	t.Helper()
	c := &cloud{keys: &mock.Keys{}}
	c.ims = mock.NewIMS(mock.IMSOptions{Keys: c.keys})
	c.sts = mock.NewSTS(mock.STSOptions{Keys: c.keys, Roles: roles})
	c.imsURL, c.stsURL = c.ims.URL(testkit.Serve(t, c.ims).URL), testkit.Serve(t, c.sts).URL
	return c
}

// hop is an upstream of kind sts with one role, which has the hop's own name.
func (c *cloud) hop(name, base string) string {
	return fmt.Sprintf("  %s-hop: {kind: sts, base: {%s}, region: eu-central-1, endpoint: %q, roles: {%s: {role_arn: \"arn:aws:iam::123456789012:role/%s\"}}}\n", name, base, c.stsURL, name, name)
}

func (c *cloud) config(hops ...string) string {
	return fmt.Sprintf("upstreams:\n  dc: {kind: ims, url: %q}\n", c.imsURL) + strings.Join(hops, "") + "grants: {everyone: {credentials: ['*']}}\n"
}

// metrics is what a scrape shows.
func (r *running) metrics() string {
	r.t.Helper()
	shown := httptest.NewRecorder()
	r.agent.telemetry.Handler().ServeHTTP(shown, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return shown.Body.String()
}

// signers are who asked STS, the oldest first.
func (c *cloud) signers() (signers []string) {
	for _, call := range c.sts.Assumptions() {
		signers = append(signers, call.By+" for "+path.Base(call.Form.Get("RoleArn")))
	}
	return signers
}

func TestAChainOfThreeHopsStartsWarmAndShowsItsEndOnly(t *testing.T) {
	c := startCloud(t)
	var said testkit.Log
	r := startAgentThatLogs(t, c.config(c.hop("c", "credential: b"), c.hop("a", "upstream: dc"), c.hop("b", "credential: a")), zerolog.New(&said))
	begin := time.Now()
	r.waitReady()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("ready after %v", took)
	}
	if got, want := c.signers(), []string{"test_role for a", "a for b", "b for c"}; !slices.Equal(got, want) {
		t.Errorf("STS was asked by %q, want %q", got, want)
	}
	if text := r.metrics(); strings.Contains(text, `class="base"`) || !strings.Contains(text, `purser_refresh_total{class="ok",upstream="c-hop"} 1`) {
		t.Errorf("the wait for the bases counts: %s", text)
	}
	if log := said.String(); strings.Contains(log, `"level":"warn"`) || strings.Contains(log, "trying again") {
		t.Errorf("the wait for the bases is logged: %s", log)
	}
	if _, list := r.get(""); list != "c" {
		t.Errorf("everyone is shown %q, want only what is no base", list)
	}
	for name, want := range map[string]int{"c": 200, "a": 404, "b": 404, "test_role": 404} {
		if code, _ := r.get(name); code != want {
			t.Errorf("%s: got %d, want %d", name, code, want)
		}
	}
}

func TestABaseCanBeGrantedByItsName(t *testing.T) {
	c := startCloud(t)
	r := startAgent(t, strings.Replace(c.config(c.hop("a", "upstream: dc")), "['*']", "['*', test_role]", 1))
	r.waitReady()
	r.keysOf("test_role")
	r.keysOf("a")
}

func TestARefreshSignsWithTheBaseThatIsInStock(t *testing.T) {
	c := startCloud(t)
	r := startAgent(t, strings.Replace(c.config(c.hop("a", "credential: test_role")), "['*']", "[a, test_role]", 1))
	r.waitReady()
	before := r.keysOf("test_role")
	c.ims.SetRoles(mock.Role{Name: "test_role", Lifetime: 2 * time.Hour}) // one that ends later is taken
	if err := r.client().Refresh(t.Context(), "test_role"); err != nil {
		t.Fatal(err)
	}
	after := r.keysOf("test_role")
	if err := r.client().Refresh(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	calls := c.sts.Assumptions()
	first, last := calls[0].Key, calls[len(calls)-1].Key
	if !strings.Contains(before, first) || strings.Contains(before, last) || !strings.Contains(after, last) {
		t.Errorf("the first call was signed with %s, the last with %s", first, last)
	}
}

func TestReloadTriesAChainInItsOrder(t *testing.T) {
	c := startCloud(t, mock.STSRole{ARN: "arn:aws:iam::123456789012:role/a", By: []string{"test_role"}}, mock.STSRole{ARN: "arn:aws:iam::123456789012:role/b", By: []string{"a"}})
	other := startCloud(t)
	r := startAgent(t, "grants: {everyone: {credentials: ['*']}}\n")
	r.waitReady()
	chain := c.config(c.hop("b", "credential: a"), c.hop("a", "upstream: dc"))
	for _, step := range []struct{ name, text, want string }{
		{"all at once", chain, ""},
		{"a role that does not trust us", c.config(c.hop("b", "upstream: dc"), c.hop("a", "upstream: dc")), `upstream "b-hop", credential "b": POST ` + c.stsURL + `/: AccessDenied: the base "test_role" may not assume`},
		{"a base that STS does not know", strings.Replace(chain, c.imsURL, other.imsURL, 1), "InvalidClientTokenId"},
		{"a base that nobody has", strings.Replace(chain, "upstream: dc", "credential: ghost", 1), `upstream "a-hop", credential "a": the base "ghost" is not among what the upstreams give`},
	} {
		r.write(step.text)
		err := r.reload()
		if (err == nil) != (step.want == "") || err != nil && !strings.Contains(err.Error(), step.want) {
			t.Errorf("%s: got %v, want %s", step.name, err, step.want)
		}
		r.keysOf("b")
	}
	if code, _ := r.get("test_role"); code != http.StatusNotFound {
		t.Errorf("got %d for a base after all this", code)
	}
}

func TestReloadAssumesAnewWhatDependsOnAChangedUpstream(t *testing.T) {
	c := startCloud(t)
	text := c.config(c.hop("a", "upstream: dc"), c.hop("b", "credential: a"))
	r := startAgent(t, text)
	r.waitReady()
	before := r.keysOf("b")
	r.write(text + "log: {level: debug}\n")
	if err := r.reload(); err != nil || r.keysOf("b") != before || len(c.sts.Assumptions()) != 2 {
		t.Errorf("after a change elsewhere (%v), STS was asked %q", err, c.signers())
	}
	r.write(strings.Replace(text, "kind: ims", "kind: ims, account_id: '123456789012'", 1))
	if err := r.reload(); err != nil || r.keysOf("b") == before || len(c.sts.Assumptions()) != 4 {
		t.Errorf("after a change of the base (%v), STS was asked %q", err, c.signers())
	}
}

func TestWhatCannotBeABaseIsAnErrorOfTheConfiguration(t *testing.T) {
	hop := func(name, base, more string) string {
		return fmt.Sprintf("  %s-hop: {kind: sts, base: {%s}, region: eu-central-1, roles: {%s: {role_arn: \"arn:aws:iam::123456789012:role/x\"%s}}}\n", name, base, name, more)
	}
	const ims = "  dc: {kind: ims, url: 'http://127.0.0.1:1'}\n"
	const vault = "  v: {kind: vault, address: 'http://127.0.0.1:1', auth: {method: token, token: x}, aws: {roles: {web: {}}}, identity_tokens: {ci: {}}}\n"
	identity := func(base string) string {
		return fmt.Sprintf("  w: {kind: web-identity, base: {credential: %s}, region: eu-central-1, roles: {w: {role_arn: \"arn:aws:iam::123456789012:role/x\"}}}\n", base)
	}
	for name, c := range map[string]struct{ text, want string }{
		"unknown upstream":  {ims + hop("a", "upstream: cd", ""), `upstream "a-hop": base.upstream: there is no upstream "cd"`},
		"nobody gives it":   {hop("a", "credential: ghost", ""), `upstream "a-hop": base.credential: no upstream gives a credential "ghost"`},
		"a circle":          {hop("a", "credential: b", "") + hop("b", "credential: c", "") + hop("c", "upstream: a-hop", ""), `upstream "a-hop": base: it is its own base, by way of b-hop, c-hop, a-hop`},
		"itself":            {hop("a", "upstream: a-hop", ""), `upstream "a-hop": base: it is its own base, by way of a-hop`},
		"keys for a token":  {vault + identity("web"), `upstream "w": base.credential: "web" of upstream "v" are AWS keys, and a token is needed, such as one of identity_tokens of kind vault`},
		"a token for keys":  {vault + hop("a", "credential: ci", ""), `upstream "a-hop": base.credential: "ci" of upstream "v" is a token, and AWS keys are needed`},
		"a token to log in": {vault + "  x: {kind: vault, address: 'http://127.0.0.1:1', auth: {method: aws, base: {credential: ci}}, aws: {roles: {x: {}}}}\n", `upstream "x": auth.base.credential: "ci" of upstream "v" is a token, and AWS keys are needed`},
		"a long chain":      {ims + hop("a", "upstream: dc", ", duration: 12h"), `upstream "a-hop": roles.a.duration: 12h0m0s is too long: the base is the session of a role itself`},
	} {
		t.Run(name, func(t *testing.T) {
			r := &running{t: t, file: t.TempDir() + "/purser.yaml"}
			r.write("upstreams:\n" + c.text)
			loaded, err := config.Load(configOptions([]string{r.file}, nil))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := openSources(loaded.Upstreams, &store.Store{}, surroundings{log: zerolog.Nop()}); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestABaseOfAnUpstreamMustBeTheOnlyOne(t *testing.T) {
	c := startCloud(t)
	c.ims.SetRoles(mock.Role{Name: "web"}, mock.Role{Name: "db"})
	r := startAgent(t, c.config(c.hop("a", "upstream: dc")))
	r.awaitStatus(`upstream "dc" gives 2 credentials, such as "db"; choose the base by base.credential instead of base.upstream`)
	for _, name := range []string{"web", "db"} {
		if code, _ := r.get(name); code != http.StatusNotFound {
			t.Errorf("got %d for %s, which may be a base", code, name)
		}
	}
}

// TestARoleThatIsCalledLikeItsBaseIsNamed: a declared name beats a listed one, and
// the base would be gone.
func TestARoleThatIsCalledLikeItsBaseIsNamed(t *testing.T) {
	c := startCloud(t)
	const want = `upstream "dc" gives the base by the name "test_role", which upstream "test_role-hop" gives too; choose another name there`
	r := startAgent(t, "grants: {everyone: {credentials: ['*']}}\n")
	r.write(c.config(c.hop("test_role", "upstream: dc")))
	if err := r.reload(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a reload ends with %v", err)
	}
	r = startAgent(t, c.config(c.hop("test_role", "upstream: dc")))
	r.awaitStatus(want)
}

// awaitStatus waits until the status has a text in it.
func (r *running) awaitStatus(want string) {
	r.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		report, err := r.client().Status(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		if strings.Contains(fmt.Sprintf("%+v", report), want) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("status does not say %s: %+v", want, report)
		}
	}
}

// An hour gives keys of an hour, each with a number, and counts.
type hour struct {
	name  string
	base  *base // of those that it is asked with; may be nil
	made  atomic.Int64
	asked []string // with which base
}

func (h *hour) Declared() []credential.Key                     { return []credential.Key{{Name: h.name}} }
func (h *hour) List(context.Context) ([]credential.Key, error) { return h.Declared(), nil }
func (h *hour) Fetch(_ context.Context, _ credential.Key) (credential.Credential, error) {
	if h.base != nil {
		_, c, err := h.base.Get()
		if err != nil {
			return nil, err
		}
		keys := c.(*credential.AWS)
		if !time.Now().Before(keys.Expires) {
			return nil, errors.New("ExpiredToken")
		}
		h.asked = append(h.asked, keys.AccessKeyID)
	}
	now := time.Now()
	return &credential.AWS{AccessKeyID: fmt.Sprint(h.name, h.made.Add(1)), Issued: now, Expires: now.Add(time.Hour)}, nil
}

// TestARotatingBaseNeverLetsAChainRunLow simulates two days of three hops, each of an
// hour.
func TestARotatingBaseNeverLetsAChainRunLow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stock store.Store
		var claims refresh.Claims
		ctx, stop := context.WithCancel(t.Context())
		var below *refresh.Loop
		hops := []*hour{{name: "first"}, {name: "second"}, {name: "third"}}
		ended := make(chan struct{}, len(hops))
		for i, h := range hops {
			if i > 0 {
				h.base = &base{name: hops[i-1].name, stock: &stock, loops: []*refresh.Loop{below}}
			}
			loop := refresh.New(refresh.Options{Upstream: h.name, Source: h, Store: stock.For(h.name), Claims: &claims, Host: "host", Log: zerolog.Nop()})
			go func() { loop.Run(ctx); ended <- struct{}{} }()
			below = loop
			time.Sleep(2 * time.Second)
		}
		for range 2 * 24 * 60 {
			time.Sleep(time.Minute)
			c, err := stock.Get(credential.Key{Name: "third"})
			if err != nil {
				t.Fatal(err)
			}
			if _, expires := c.Lifetime(); time.Until(expires) < 25*time.Minute {
				t.Fatalf("%v are left", time.Until(expires))
			}
		}
		stop()
		for range hops {
			<-ended
		}
		if third := hops[2]; len(slices.Compact(slices.Clone(third.asked))) < 40 || !strings.HasPrefix(third.asked[0], "second") {
			t.Errorf("the third hop was asked with %q", third.asked)
		}
	})
}
