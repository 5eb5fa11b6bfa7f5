package main

import (
	"context"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/frontend"
	"github.com/purser-agent/purser/pkg/handover"
	"github.com/purser-agent/purser/pkg/policy"
	"github.com/purser-agent/purser/pkg/refresh"
	"github.com/purser-agent/purser/pkg/sandbox"
	"github.com/purser-agent/purser/pkg/server"
	"github.com/purser-agent/purser/pkg/status"
	"github.com/purser-agent/purser/pkg/store"
	"github.com/purser-agent/purser/pkg/telemetry"
	"github.com/purser-agent/purser/pkg/upstream"
)

// An agent is the line from upstreams to front ends:
//
//	source --> loop --> store --> gate --> front --> response
//
// Timers drive what is left of the store, requests what is right of it.
type agent struct {
	log        zerolog.Logger
	keys       *localKeys
	resolver   *caller.Resolver
	programs   upstream.Programs
	blind      error  // why callers cannot be identified, if so
	host       string // identity of this host, for its place in the fleet
	started    time.Time
	sandbox    *sandbox.Sandbox // nil outside of one
	helperless <-chan struct{}  // closed when a helper has ended that cannot be replaced
	depot      *handover.Depot  // nil where nothing is carried over a restart
	moved      chan struct{}    // something to carry has changed
	learned    chan struct{}    // it is known anew what there is to grant
	accounts   *caller.Accounts
	listeners  []*server.Listener

	store  store.Store
	claims refresh.Claims
	gate   *policy.Gate
	fronts atomic.Pointer[map[string]*front] // by name of the listener

	server    *server.Server
	telemetry *telemetry.Telemetry
	ready     *status.Readiness

	changing sync.Mutex // serialises reloads
	mu       sync.Mutex // guards all below
	config   *config.Config
	lines    map[string]*line // by name of the upstream
	reload   reloadOutcome
}

// A line is one upstream that is being asked.
type line struct {
	config config.Upstream
	source source
	givers []string // upstreams that may give its base; none if it needs no base
	loop   *refresh.Loop
	stop   context.CancelFunc
	ended  chan struct{}

	leaving    sync.Mutex        // guards identities
	identities map[string]string // of what was left last, by name: they never change
}

// A front is what answers on one listener.
type front struct {
	guard    *frontend.Guard
	dialects []frontend.Dialect
}

// newAgent puts the parts together. Nothing runs before run.
func newAgent(c *config.Config, log zerolog.Logger, keys *localKeys, listeners []*server.Listener, resolver *caller.Resolver, programs upstream.Programs) (*agent, error) {
	a := &agent{
		log: log, keys: keys, resolver: resolver, programs: programs, host: hostIdentity(), started: time.Now(), listeners: listeners,
		accounts: accountsBy(programs), config: c, lines: map[string]*line{}, moved: make(chan struct{}, 1), learned: make(chan struct{}, 1),
	}
	a.ready = status.NewReadiness(a.missing)
	a.telemetry = telemetry.New(a.telemetryOptions())
	sources, err := openSources(c.Upstreams, &a.store, a.surroundings())
	if err != nil {
		return nil, usageError{located(c, err)}
	}
	loops := map[string]*refresh.Loop{}
	for name, s := range sources.byName {
		if err := checkFiles(c, name, s); err != nil {
			return nil, usageError{err}
		}
		a.lines[name] = a.newLine(name, c.Upstreams[name], s, sources.givers[name])
		loops[name] = a.lines[name].loop
	}
	sources.connect(loops)
	a.gate = policy.NewGate(&a.store, a, a.accounts)
	fronts, err := a.newFronts(c)
	if err != nil {
		return nil, usageError{err}
	}
	a.fronts.Store(&fronts)
	a.server = server.New(server.Options{
		Resolver: resolver, Handler: a.answer, Log: log,
		Observe: func(access server.Access, took time.Duration) {
			a.telemetry.Requested(access.Dialect, access.Route, access.Status, access.Decision, took)
		},
		Most: c.Connections.Most, PerUser: c.Connections.PerUser,
	})
	return a, nil
}

// surroundings are what upstreams share.
func (a *agent) surroundings() surroundings { return surroundings{programs: a.programs, log: a.log} }

func (a *agent) newLine(name string, u config.Upstream, s source, givers []string) *line {
	loop := refresh.New(refresh.Options{
		Upstream: name, Source: s, Store: a.store.For(name), Claims: &a.claims,
		Schedule:  refresh.Schedule{Longest: u.Refresh.Longest},
		ListEvery: u.Refresh.ListEvery, Splay: u.Refresh.Splay,
		Host: a.host, Required: u.Required,
		Log:     a.log.With().Str("upstream", name).Logger(),
		Observe: func(class string, took time.Duration) { a.telemetry.Refreshed(name, class, took) },
		Settled: a.progress,
	})
	return &line{config: u, source: s, givers: givers, loop: loop, ended: make(chan struct{})}
}

// start runs a line until ctx or its own stop.
func (l *line) start(ctx context.Context) {
	ctx, l.stop = context.WithCancel(ctx)
	l.loop.Begin()
	go func() {
		defer close(l.ended)
		l.loop.Run(ctx)
	}()
}

// newFronts opens the dialects of every listener.
func (a *agent) newFronts(c *config.Config) (map[string]*front, error) {
	opened := map[string]frontend.Dialect{}
	for _, d := range dialects {
		dialect, err := d.open(c, a.keys)
		if err != nil {
			return nil, err
		}
		opened[d.name] = dialect
	}
	fronts := map[string]*front{}
	for _, l := range a.listeners {
		spec, f := c.Listen[l.Name], &front{}
		hosts := slices.Clone(spec.Hosts)
		for _, d := range dialects {
			if slices.Contains(spec.Dialects, d.name) {
				f.dialects = append(f.dialects, opened[d.name])
				hosts = append(hosts, d.hosts...)
			}
		}
		f.guard = frontend.NewGuard(l.Addr(), hosts...)
		fronts[l.Name] = f
	}
	return fronts, nil
}

// answer is the right half of the line, for one request.
func (a *agent) answer(w http.ResponseWriter, r *http.Request, peer server.Peer) server.Access {
	f := (*a.fronts.Load())[peer.Listener]
	request := frontend.Request{Request: r, View: a.gate.View(peer.Identity), Refused: peer.Refused}
	if request.Refused == "" {
		request.Refused = f.guard.Check(r)
	}
	o := f.dialect(r).Answer(w, request)
	return server.Access{
		Dialect: o.Dialect, Route: o.Route, Status: o.Status,
		Decision: string(o.Decision), Credential: o.Credential, Reason: o.Reason,
	}
}

// dialect is the one whose words the request is in; the last answers the rest.
func (f *front) dialect(r *http.Request) frontend.Dialect {
	last := len(f.dialects) - 1
	for _, d := range f.dialects[:last] {
		if d.Owns(r) {
			return d
		}
	}
	return f.dialects[last]
}

// running are the lines of all upstreams, by name.
func (a *agent) running() []*line {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.SortedFunc(maps.Values(a.lines), func(x, y *line) int { return strings.Compare(x.loop.Upstream, y.loop.Upstream) })
}

// startLines starts all lines. Those that declare their keys come first, so that none
// finds what it has a right to in the hands of another, with that one's stock.
func (a *agent) startLines(ctx context.Context) {
	var rest []*line
	for _, l := range a.running() {
		a.handOver(l)
		if refresh.Declared(l.source) == nil {
			rest = append(rest, l)
			continue
		}
		l.start(ctx)
	}
	for _, l := range rest {
		l.start(ctx)
	}
}

// loops are those of all upstreams, by name.
func (a *agent) loops() []*refresh.Loop {
	lines := a.running()
	loops := make([]*refresh.Loop, len(lines))
	for i, l := range lines {
		loops[i] = l.loop
	}
	return loops
}

// progress tells the rest of the line that something came of an attempt: what waits
// for a base may have it now, names that are not in the store do not exist once every
// upstream has answered, and there may be something new to carry over a restart.
func (a *agent) progress() {
	a.storeSoon()
	for _, l := range a.running() {
		if len(l.givers) > 0 {
			l.loop.Look()
		}
	}
	complete := !slices.ContainsFunc(a.loops(), func(l *refresh.Loop) bool { return !l.Answered() })
	before := a.store.Complete()
	a.store.SetComplete(complete)
	if complete && !before {
		a.lookAtGrants()
	}
	a.ready.Changed()
}

// lookAtGrants has the grants compared with what there is.
func (a *agent) lookAtGrants() {
	select {
	case a.learned <- struct{}{}:
	default:
	}
}

// missing names what is required and not in stock.
func (a *agent) missing() (missing []string) {
	for _, loop := range a.loops() {
		missing = append(missing, loop.Missing()...)
	}
	return missing
}

// alive reports whether every loop looks after its credentials.
func (a *agent) alive() bool {
	return !slices.ContainsFunc(a.loops(), func(l *refresh.Loop) bool { return !l.Alive() })
}

// resolveEvery is how often the accounts of the grants are looked up.
const resolveEvery = 5 * time.Minute

// watchGrants follows the user database and what the upstreams give. Of what there is to
// warn about it says what is new only; accounts is what was said of these.
func (a *agent) watchGrants(ctx context.Context, accounts []string) {
	ticker := time.NewTicker(resolveEvery)
	defer ticker.Stop()
	said := accounts
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			accounts = a.gate.Resolve(ctx)
		case <-a.learned:
		}
		now := slices.Concat(accounts, a.gate.Gaps(config.DidYouMean))
		a.warn(slices.DeleteFunc(slices.Clone(now), func(w string) bool { return slices.Contains(said, w) }))
		said = now
	}
}

func (a *agent) warn(warnings []string) {
	for _, warning := range warnings {
		a.log.Warn().Msg(warning)
	}
}

// sources are those of all lines. It is for the time before run, and for reloads.
func (a *agent) sources() map[string]source {
	all := map[string]source{}
	for name, l := range a.lines {
		all[name] = l.source
	}
	return all
}

// grants turns the configured grants into the rules of the gate.
func grants(c *config.Config, byName map[string]source) policy.Rules {
	rules := policy.Rules{IMDSv1: c.AWS.IMDSv1, Declared: map[string]string{}}
	for name, s := range byName {
		keys := refresh.Declared(s)
		if keys == nil {
			rules.Listing = append(rules.Listing, name)
		}
		for _, key := range keys {
			rules.Declared[key.Name] = name
		}
	}
	for name, g := range c.Grants {
		rules.Grants = append(rules.Grants, policy.Grant{
			Name: name, Users: g.User, Groups: g.Group, Units: g.Unit,
			Credentials: g.Credentials, IMDSv1: g.IMDSv1,
		})
	}
	addBases(&rules, c.Upstreams)
	return rules
}

// hostIdentity is what tells this host from the rest of the fleet.
func hostIdentity() string {
	if id, err := os.ReadFile("/etc/machine-id"); err == nil && len(strings.TrimSpace(string(id))) > 0 {
		return strings.TrimSpace(string(id))
	}
	name, err := os.Hostname()
	if err != nil {
		return "unknown host"
	}
	return name
}
