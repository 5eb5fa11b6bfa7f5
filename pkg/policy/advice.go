package policy

import (
	"fmt"
	"slices"

	"github.com/purser-agent/purser/pkg/credential"
)

// mostNear bounds for how many names near ones are looked for, as there may be thousands
// of both.
const mostNear = 20

// Gaps warn of what grants name and no upstream gives. There is none as long as some
// upstream has not said what it gives. near ends a message about a name that is not
// known.
func (g *Gate) Gaps(near func(name string, known []string) string) (warnings []string) {
	rules, names, complete := g.present()
	if !complete || len(rules.Declared)+len(rules.Listing) == 0 { // without any upstream there is more to say
		return nil
	}
	for _, grant := range rules.Grants {
		for _, pattern := range grant.Credentials {
			switch {
			case pattern == "*" || credential.IsRoleARN(pattern): // the latter is for on_demand to have
			case !isGlob(pattern):
				if _, found := slices.BinarySearch(names, pattern); found {
					continue
				}
				hint := ""
				if len(warnings) < mostNear {
					hint = near(pattern, names)
				}
				warnings = append(warnings, fmt.Sprintf("grant %q: no upstream gives %q%s", grant.Name, pattern, hint))
			case slices.ContainsFunc(names, func(name string) bool { return match(pattern, name) && !rules.knownBase(name, g.store) }):
			case !slices.ContainsFunc(names, func(name string) bool { return match(pattern, name) }):
				warnings = append(warnings, fmt.Sprintf("grant %q: no upstream gives anything like %q", grant.Name, pattern))
			default:
				warnings = append(warnings, fmt.Sprintf("grant %q: %q gives nothing, since all that it matches is the base of others; a grant must name that", grant.Name, pattern))
			}
		}
	}
	slices.Sort(warnings)
	return slices.Compact(warnings)
}

// Chances warn where it is left to the alphabet which credential a program gets that does
// not choose: a name that comes later may change it.
func (g *Gate) Chances() (warnings []string) {
	rules, names, complete := g.present()
	if !complete {
		return nil
	}
	for _, grant := range rules.Grants {
		for _, pattern := range grant.Credentials {
			given := rules.given(pattern, names, g.store)
			if len(given) == 0 {
				continue
			}
			if len(given) > 1 {
				warnings = append(warnings, fmt.Sprintf("grant %q: %q gives %d credentials, and programs that do not choose get the first by name, %q; to fix the choice name one first, such as credentials: [%q, %q]",
					grant.Name, pattern, len(given), given[0], given[0], pattern))
			}
			break // what follows comes later in the listing
		}
	}
	slices.Sort(warnings)
	return warnings
}

// present returns the present rules, the names that there are, sorted, and whether these
// are all.
func (g *Gate) present() (rules Rules, names []string, complete bool) {
	g.setting.Lock()
	defer g.setting.Unlock()
	return g.rules, g.rules.everyName(g.store), g.store.Complete() || len(g.rules.Listing) == 0
}

// given are those of names, which are sorted, that a pattern lists.
func (r Rules) given(pattern string, names []string, store Store) (given []string) {
	if !isGlob(pattern) {
		if _, found := slices.BinarySearch(names, pattern); found {
			given = []string{pattern}
		}
		return given
	}
	for _, name := range names {
		if match(pattern, name) && !r.knownBase(name, store) {
			given = append(given, name)
		}
	}
	return given
}
