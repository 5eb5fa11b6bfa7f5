package main

import (
	"fmt"
	"net/netip"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
	"github.com/purser-agent/purser/pkg/frontend/ecs"
	"github.com/purser-agent/purser/pkg/frontend/imds"
	"github.com/purser-agent/purser/pkg/refresh"
	"github.com/purser-agent/purser/pkg/upstream/ims"
)

// This file is the table of contents: every kind of upstream and every dialect that
// Purser knows. A new one is a folder and a line here; a test fails if either is
// missing.

// An upstreamKind is how the folder under pkg/upstream of the same name is used.
type upstreamKind struct {
	options func() any // a pointer to its options, filled with their defaults
	open    func(name string, options any, log zerolog.Logger) (source, error)
}

// A source is what every kind of upstream offers.
type source interface {
	refresh.Source
	// Check reports which of the files that it depends on cannot be read by the
	// present account.
	Check() error
}

var upstreamKinds = map[string]upstreamKind{
	"ims": kind(ims.Defaults, ims.New),
}

// kind makes an entry of functions that know the type of their options.
func kind[O any, S source](defaults func() *O, open func(string, *O, zerolog.Logger) (S, error)) upstreamKind {
	return upstreamKind{
		options: func() any { return defaults() },
		open: func(name string, options any, log zerolog.Logger) (source, error) {
			return open(name, options.(*O), log)
		},
	}
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

// openSources opens every upstream of a configuration. Two that declare the same
// name cannot both be right.
func openSources(upstreams map[string]config.Upstream, log zerolog.Logger) (map[string]source, error) {
	sources := map[string]source{}
	declared := map[credential.Key]string{}
	for name, u := range upstreams {
		s, err := upstreamKinds[u.Kind].open(name, u.Options, log)
		if err != nil {
			return nil, fmt.Errorf("upstream %q: %w", name, err)
		}
		for _, key := range refresh.Declared(s) {
			if other, twice := declared[key]; twice {
				return nil, fmt.Errorf("upstreams %q and %q both declare the credential %q; rename it in one of them", min(name, other), max(name, other), key)
			}
			declared[key] = name
		}
		sources[name] = s
	}
	return sources, nil
}
