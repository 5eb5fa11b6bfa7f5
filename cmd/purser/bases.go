package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/policy"
	"github.com/purser-agent/purser/pkg/refresh"
	"github.com/purser-agent/purser/pkg/store"
)

// A dependent is the options of a kind whose upstreams work with the credential of
// another one, their base. Of both names one is set.
type dependent interface {
	BaseOf() (name, upstream string)
	// WantsToken tells a base that must be a token from one that must be AWS keys.
	WantsToken() bool
	// CheckChained reports what cannot work with a base that is itself the session of
	// a role.
	CheckChained() error
}

// baseOf tells what the base of an upstream is, nothing for one that needs none.
func baseOf(u config.Upstream) (name, upstream string) {
	if d, ok := u.Options.(dependent); ok {
		return d.BaseOf()
	}
	return "", ""
}

// baseKey is where the base of an upstream is configured.
func baseKey(u config.Upstream) string {
	if k, ok := u.Options.(interface{ BaseKey() string }); ok {
		return k.BaseKey()
	}
	return "base"
}

// A tokenGiver is the options of a kind whose upstreams give tokens that other upstreams
// present, and no program of this host.
type tokenGiver interface{ TokenNames() []string }

// addBases tells the policy which credentials are bases, or could only be that.
func addBases(rules *policy.Rules, upstreams map[string]config.Upstream) {
	for _, u := range upstreams {
		if g, ok := u.Options.(tokenGiver); ok {
			rules.Bases = append(rules.Bases, g.TokenNames()...)
		}
		name, upstream := baseOf(u)
		if name != "" {
			rules.Bases = append(rules.Bases, name)
		}
		if upstream != "" {
			rules.BaseUpstreams = append(rules.BaseUpstreams, upstream)
		}
	}
}

// A base is the stored credential that one upstream works with; it fits what the
// kinds on a base read. It looks at upstreams of the same configuration only: during a
// reload, what they have fetched on trial counts.
type base struct {
	name     string // of the credential; empty if upstream is set
	upstream string
	stock    *store.Store
	declared map[credential.Key]string // who declares what
	// loops are those of the upstreams that may give it. They are set before anything
	// runs, and never include one that depends on this base.
	loops []*refresh.Loop
}

// Get returns the credential and its key.
func (b *base) Get() (credential.Key, credential.Credential, error) {
	loop, key, err := b.find()
	if err != nil {
		return key, nil, b.explain(key, err)
	}
	if c, ok := loop.Fetched()[key]; ok {
		return key, c, nil
	}
	c, err := b.stock.Get(key)
	if absent(err) && loop.Tried() != nil {
		err = fmt.Errorf("%s cannot be had, because upstream %q failed", b.called(key), loop.Upstream)
	}
	return key, c, err
}

// explain says why nobody is known to give the base, if that is because upstreams failed
// on trial before they said what they give.
func (b *base) explain(key credential.Key, err error) error {
	var failed []string
	for _, loop := range b.loops {
		if _, known := loop.Keys(); !known && loop.Tried() != nil {
			failed = append(failed, fmt.Sprintf("%q", loop.Upstream))
		}
	}
	switch {
	case len(failed) == 0 || !absent(err):
		return err
	case len(b.loops) > 1:
		return fmt.Errorf("%s cannot be had: no upstream that answered gives it, and these failed: %s", b.called(key), strings.Join(failed, ", "))
	}
	return fmt.Errorf("%s cannot be had, because upstream %s failed", b.called(key), failed[0])
}

// absent reports whether an error says no more of a base than that it is not there.
func absent(err error) bool {
	return errors.Is(err, credential.ErrNotFound) || errors.Is(err, credential.ErrUnavailable)
}

// called is what the base is called in a message.
func (b *base) called(key credential.Key) string {
	if key.Name == "" {
		return fmt.Sprintf("the base from upstream %q", b.upstream)
	}
	return fmt.Sprintf("the base %q", key)
}

// Renew asks for a new one.
func (b *base) Renew() {
	if loop, key, err := b.find(); err == nil {
		loop.Renew(key)
	}
}

func (b *base) find() (*refresh.Loop, credential.Key, error) {
	if b.upstream != "" {
		return b.onlyOne()
	}
	key := credential.Key{Name: b.name}
	err := credential.ErrNotFound
	for _, loop := range b.loops {
		if loop.Grants(key) {
			return loop, key, nil
		}
		if _, known := loop.Keys(); !known {
			err = credential.ErrUnavailable
		}
	}
	return nil, key, err
}

// onlyOne is the credential of an upstream that gives no other.
func (b *base) onlyOne() (*refresh.Loop, credential.Key, error) {
	for _, loop := range b.loops {
		switch keys, known := loop.Keys(); {
		case !known:
			return nil, credential.Key{}, credential.ErrUnavailable
		case len(keys) == 1 && b.takenBy(keys[0]) == "":
			return loop, keys[0], nil
		case len(keys) == 1:
			return nil, keys[0], b.sameName(keys[0], b.takenBy(keys[0]))
		case len(keys) == 0:
			for _, row := range loop.Rows() {
				if row.Holder != "" {
					return nil, row.Key, b.sameName(row.Key, row.Holder)
				}
			}
		default:
			slices.SortFunc(keys, func(x, y credential.Key) int { return strings.Compare(x.String(), y.String()) })
			return nil, credential.Key{}, fmt.Errorf("upstream %q gives %d credentials, such as %q; choose the base by base.credential instead of base.upstream", b.upstream, len(keys), keys[0])
		}
	}
	return nil, credential.Key{}, credential.ErrNotFound
}

// takenBy is another upstream that declares what the base's upstream lists.
func (b *base) takenBy(key credential.Key) string {
	if holder := b.declared[key]; holder != b.upstream {
		return holder
	}
	return ""
}

func (b *base) sameName(key credential.Key, holder string) error {
	return fmt.Errorf("upstream %q gives the base by the name %q, which upstream %q gives too; choose another name there", b.upstream, key, holder)
}

// givers lists for each upstream those that may give its base, sorted: the one that
// is named, the one that declares the credential, or else all that have to be asked
// what they give. What cannot work is an error.
func givers(upstreams map[string]config.Upstream, declared map[credential.Key]string, listing []string) (map[string][]string, error) {
	found := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(upstreams)) {
		wanted, from := baseOf(upstreams[name])
		switch holder := declared[credential.Key{Name: wanted}]; {
		case wanted == "" && from == "":
			continue
		case from != "":
			if _, ok := upstreams[from]; !ok {
				near := config.DidYouMean(from, slices.Collect(maps.Keys(upstreams)))
				return nil, baseError(upstreams, name, ".upstream", "there is no upstream %q%s", from, near)
			}
			found[name] = []string{from}
		case holder != "":
			if err := checkType(upstreams, name, wanted, holder); err != nil {
				return nil, err
			}
			found[name] = []string{holder}
		case len(listing) == 0:
			return nil, baseError(upstreams, name, ".credential", "no upstream gives a credential %q%s", wanted, config.DidYouMean(wanted, names(declared)))
		default:
			found[name] = listing
		}
		if err := checkChain(upstreams, name, found[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if round := circle(found, name, nil); round != nil {
			return nil, baseError(upstreams, name, "", "it is its own base, by way of %s", strings.Join(round, ", "))
		}
	}
	return found, nil
}

// names are those of some keys.
func names(declared map[credential.Key]string) (all []string) {
	for key := range declared {
		all = append(all, key.Name)
	}
	return all
}

// checkType looks whether a declared base is what the upstream of a name works with.
func checkType(upstreams map[string]config.Upstream, name, base, holder string) error {
	giver, ok := upstreams[holder].Options.(tokenGiver)
	isToken := ok && slices.Contains(giver.TokenNames(), base)
	switch wantsToken := upstreams[name].Options.(dependent).WantsToken(); {
	case wantsToken && !isToken:
		return baseError(upstreams, name, ".credential", "%q of upstream %q are AWS keys, and a token is needed, such as one of identity_tokens of kind vault", base, holder)
	case isToken && !wantsToken:
		return baseError(upstreams, name, ".credential", "%q of upstream %q is a token, and AWS keys are needed", base, holder)
	}
	return nil
}

// checkChain looks whether an upstream can work with the sessions of a role, if that
// is what its base must be.
func checkChain(upstreams map[string]config.Upstream, name string, givers []string) error {
	for _, giver := range givers {
		if !upstreamKinds[upstreams[giver].Kind].sessions {
			return nil
		}
	}
	if err := upstreams[name].Options.(dependent).CheckChained(); err != nil {
		return fmt.Errorf("upstream %q: %w", name, err)
	}
	return nil
}

// circle follows the bases of an upstream and returns the way back to it, if there is
// one.
func circle(givers map[string][]string, from string, way []string) []string {
	at := from
	if len(way) > 0 {
		at = way[len(way)-1]
	}
	for _, next := range givers[at] {
		if next == from {
			return append(way, next)
		}
		if slices.Contains(way, next) {
			continue
		}
		if round := circle(givers, from, append(slices.Clone(way), next)); round != nil {
			return round
		}
	}
	return nil
}

// inOrder sorts names of upstreams: the givers of a base come before those that need
// it, otherwise by name.
func inOrder(givers map[string][]string, names []string) []string {
	ordered := make([]string, 0, len(names))
	var add func(name string)
	add = func(name string) {
		if slices.Contains(ordered, name) || !slices.Contains(names, name) {
			return
		}
		for _, giver := range givers[name] {
			add(giver)
		}
		ordered = append(ordered, name)
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		add(name)
	}
	return ordered
}
