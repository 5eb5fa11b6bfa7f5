package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/purser-agent/purser/pkg/credential"
)

// overlaps warns where everyone may have by * what another grant names, so that the
// other grant protects nothing.
func overlaps(rules Rules, store Store) (warnings []string) {
	open := slices.ContainsFunc(rules.Grants, func(g Grant) bool {
		return g.conditions() == 0 && slices.Contains(g.Credentials, "*")
	})
	if !open {
		return nil
	}
	names := rules.everyName(store)
	known := make(map[string]bool, len(names)) // by name, whether it is that of a base
	for _, name := range names {               // once, as there may be thousands, and as many grants
		known[name] = rules.knownBase(name, store)
	}
	for _, g := range rules.Grants {
		if g.conditions() == 0 {
			continue
		}
		var covered []string
		for _, pattern := range g.Credentials {
			if rules.starCovers(pattern, known, store) {
				covered = append(covered, fmt.Sprintf("%q", pattern))
			}
		}
		switch {
		case len(covered) == 0:
		case len(covered) == len(g.Credentials):
			warnings = append(warnings, fmt.Sprintf("grant %q: what it names, everyone may have too, because grants.%s.credentials is [\"*\"]; delete that grant or list what everyone may have", g.Name, Everyone))
		default:
			warnings = append(warnings, fmt.Sprintf("grant %q: of what it names, everyone may have %s too, because grants.%s.credentials has \"*\"; list there what everyone may have", g.Name, strings.Join(covered, ", "), Everyone))
		}
	}
	slices.Sort(warnings)
	return warnings
}

// starCovers reports whether a * gives what pattern does, as far as it is known what
// there is. Names that nobody has told yet count as covered, unless they may turn out to
// be those of bases.
func (r Rules) starCovers(pattern string, known map[string]bool, store Store) bool {
	if pattern == "*" || credential.IsRoleARN(pattern) || slices.Contains(r.Bases, pattern) {
		return false
	}
	found := false
	if base, ok := known[pattern]; ok {
		if found = true; !base {
			return true
		}
	}
	if isGlob(pattern) {
		for name, base := range known {
			if !match(pattern, name) {
				continue
			}
			if found = true; !base {
				return true
			}
		}
	}
	if store.Complete() || found && !isGlob(pattern) {
		return false
	}
	isBase := func(upstream string) bool { return slices.Contains(r.BaseUpstreams, upstream) }
	return len(r.Listing) > 0 && !slices.ContainsFunc(r.Listing, isBase)
}

// everyName returns the names that are known, by configuration or by an upstream, sorted.
func (r Rules) everyName(store Store) []string {
	names := slices.AppendSeq(slices.Clone(store.Names()), maps.Keys(r.Declared))
	slices.Sort(names)
	return slices.Compact(names)
}

// knownBase reports whether a known name is that of a base.
func (r Rules) knownBase(name string, store Store) bool {
	upstream, declared := r.Declared[name]
	if !declared {
		upstream = store.Upstream(credential.Key{Name: name})
	}
	return slices.Contains(r.Bases, name) || slices.Contains(r.BaseUpstreams, upstream)
}
