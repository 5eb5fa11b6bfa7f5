package main

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
	"github.com/purser-agent/purser/pkg/frontend/ecs"
	"github.com/purser-agent/purser/pkg/frontend/imds"
	"github.com/purser-agent/purser/pkg/refresh"
	"github.com/purser-agent/purser/pkg/store"
	"github.com/purser-agent/purser/pkg/upstream"
	"github.com/purser-agent/purser/pkg/upstream/files"
	"github.com/purser-agent/purser/pkg/upstream/ims"
	"github.com/purser-agent/purser/pkg/upstream/process"
	rolesanywhere "github.com/purser-agent/purser/pkg/upstream/roles-anywhere"
	"github.com/purser-agent/purser/pkg/upstream/static"
	"github.com/purser-agent/purser/pkg/upstream/sts"
	"github.com/purser-agent/purser/pkg/upstream/vault"
	webidentity "github.com/purser-agent/purser/pkg/upstream/web-identity"
)

// This file is the table of contents: every kind of upstream and every dialect that
// Purser knows. A new one is a folder and a line here; a test fails if either is
// missing.

// An upstreamKind is how the folder under pkg/upstream of the same name is used.
type upstreamKind struct {
	options func() any // a pointer to its options, filled with their defaults
	open    func(name string, options any, with surroundings) (source, error)
	// sessions says that whatever such an upstream gives is the session of a role, so
	// that AWS limits what can be assumed with it.
	sessions bool
}

// surroundings are what an upstream may need of the rest of Purser.
type surroundings struct {
	base     *base // the credential of another upstream that it works with
	programs upstream.Programs
	log      zerolog.Logger
}

// A source is what every kind of upstream offers.
type source interface {
	refresh.Source
	// Check reports which of the files that it depends on cannot be read by the
	// present account.
	Check() error
}

// A discarder is a source that may have left something at its upstream. Discard gives it
// back within seconds: what the source gave will not be used.
type discarder interface{ Discard() }

// discard gives back what some sources have fetched for nothing.
func discard(sources iter.Seq[source]) {
	var all sync.WaitGroup
	for s := range sources {
		if d, ok := s.(discarder); ok {
			all.Go(d.Discard)
		}
	}
	all.Wait()
}

var upstreamKinds = map[string]upstreamKind{
	"files": kind(files.Defaults, files.New),
	"ims":   kind(ims.Defaults, ims.New).ofSessions(),
	"process": kindWith(process.Defaults, func(name string, o *process.Options, with surroundings) (*process.Source, error) {
		return process.New(name, o, with.programs, with.log)
	}),
	"roles-anywhere": kind(rolesanywhere.Defaults, rolesanywhere.New).ofSessions(),
	"static":         kind(static.Defaults, static.New),
	"sts": kindWith(sts.Defaults, func(name string, o *sts.Options, with surroundings) (*sts.Source, error) {
		return sts.New(name, o, with.base, with.log)
	}).ofSessions(),
	// Not of sessions: some of what Vault gives is, and AWS has the last word.
	"vault": kindWith(vault.Defaults, func(name string, o *vault.Options, with surroundings) (*vault.Source, error) {
		return vault.New(name, o, with.base, with.programs, with.log)
	}),
	"web-identity": kindWith(webidentity.Defaults, func(name string, o *webidentity.Options, with surroundings) (*webidentity.Source, error) {
		return webidentity.New(name, o, with.base, with.log)
	}).ofSessions(),
}

func (k upstreamKind) ofSessions() upstreamKind {
	k.sessions = true
	return k
}

// kindWith is kind for one whose upstreams need more of their surroundings than a log.
func kindWith[O any, S source](defaults func() *O, open func(string, *O, surroundings) (S, error)) upstreamKind {
	return upstreamKind{
		options: func() any { return defaults() },
		open: func(name string, options any, with surroundings) (source, error) {
			return open(name, options.(*O), with)
		},
	}
}

// kind makes an entry of functions that know the type of their options.
func kind[O any, S source](defaults func() *O, open func(string, *O, zerolog.Logger) (S, error)) upstreamKind {
	return kindWith(defaults, func(name string, options *O, with surroundings) (S, error) {
		return open(name, options, with.log)
	})
}

// A dialectSetup is how the folder under pkg/frontend is used for a listener that
// names it in `dialects`.
type dialectSetup struct {
	name string
	open func(c *config.Config, keys *localKeys) (frontend.Dialect, error)
	// hosts are the names and addresses of the metadata service that the dialect's
	// clients look for.
	hosts []string
}

// dialects are asked in this order whether a request is theirs; the last of those
// that a listener speaks answers the rest.
var dialects = []dialectSetup{
	{"ecs", openECS, ecs.Hosts()},
	{"aws", openIMDS, imds.Hosts()},
}

// destinations are where the dialect's clients may have sent what a DNAT rule led
// here: port 80 of the addresses among its hosts.
func (d dialectSetup) destinations() (all []netip.AddrPort) {
	for _, host := range d.hosts {
		if address, err := netip.ParseAddr(host); err == nil {
			all = append(all, netip.AddrPortFrom(address, 80))
		}
	}
	return all
}

func openIMDS(c *config.Config, keys *localKeys) (frontend.Dialect, error) {
	d, err := imds.New(imds.Options{
		TokenKey:        keys.sessionTokens,
		Metadata:        c.AWS.Metadata,
		InstanceProfile: imds.InstanceProfile(c.AWS.InstanceProfile),
		UserData:        c.AWS.UserData,
	})
	if err != nil {
		return nil, fmt.Errorf("aws.%w", err)
	}
	return d, nil
}

func openECS(c *config.Config, keys *localKeys) (frontend.Dialect, error) {
	var o ecs.Options
	if c.ECS.Authorization {
		o.Authorization = keys.authorization
	}
	return ecs.New(o)
}

// checkDialects opens every dialect, so that none can refuse a configuration that
// was loaded.
func checkDialects(c *config.Config) error {
	keys := &localKeys{sessionTokens: imds.NewTokenKey()}
	for _, d := range dialects {
		if _, err := d.open(c, keys); err != nil {
			return err
		}
	}
	return nil
}

// configOptions tell pkg/config what there is to configure.
func configOptions(paths, environ []string) config.Options {
	o := config.Options{Paths: paths, Environ: environ, Kinds: map[string]func() any{}, Check: checkDialects}
	for name, k := range upstreamKinds {
		o.Kinds[name] = k.options
	}
	for _, d := range dialects {
		o.Dialects = append(o.Dialects, d.name)
	}
	return o
}

// sources are all upstreams of one configuration.
type sources struct {
	byName map[string]source
	givers map[string][]string // of each upstream on a base, see givers
	bases  map[string]*base
}

// openSources opens every upstream of a configuration. Two that declare the same
// name cannot both be right. Bases are read from stock; with is the rest of what they
// may need.
func openSources(upstreams map[string]config.Upstream, stock *store.Store, with surroundings) (*sources, error) {
	all := &sources{byName: map[string]source{}, bases: map[string]*base{}}
	declared := map[credential.Key]string{}
	var listing []string // upstreams that have to be asked what they give
	for _, name := range slices.Sorted(maps.Keys(upstreams)) {
		u := upstreams[name]
		on := &base{stock: stock, declared: declared}
		on.name, on.upstream = baseOf(u)
		with.base = on
		s, err := upstreamKinds[u.Kind].open(name, u.Options, with)
		if err != nil {
			return nil, fmt.Errorf("upstream %q: %w", name, err)
		}
		keys := refresh.Declared(s)
		for _, key := range keys {
			if other, twice := declared[key]; twice {
				return nil, fmt.Errorf("upstreams %q and %q both declare the credential %q; rename it in one of them", other, name, key)
			}
			declared[key] = name
		}
		if keys == nil {
			listing = append(listing, name)
		}
		all.byName[name], all.bases[name] = s, on
	}
	err := checkDemand(all.byName)
	if err != nil {
		return nil, err
	}
	all.givers, err = givers(upstreams, declared, listing)
	return all, err
}

// connect lets each base be read from those of the loops that may give it. It is
// called once, before any of them asks.
func (s *sources) connect(loops map[string]*refresh.Loop) {
	for name, givers := range s.givers {
		for _, giver := range givers {
			s.bases[name].loops = append(s.bases[name].loops, loops[giver])
		}
	}
}

// names are those of all upstreams, the givers of bases first.
func (s *sources) names() []string {
	return inOrder(s.givers, slices.Collect(maps.Keys(s.byName)))
}
