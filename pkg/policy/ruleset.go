package policy

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/credential"
)

// A ruleset is one state of the rules, never changed but for the views it has made.
type ruleset struct {
	gate   *Gate
	grants []rule // in the order of a listing
	imdsV1 bool
	bases  map[string]struct{}
	// baseUpstreams are few, mostly none.
	baseUpstreams []string
	views         atomic.Pointer[map[caller.Identity]*view]
}

// A rule is a grant whose accounts are numbers.
type rule struct {
	Grant
	users   map[uint32]struct{} // nil without a condition on the user
	members map[uint32]struct{} // nil without a condition on the group
}

func newRuleset(g *Gate, rules Rules, known accounts) *ruleset {
	s := &ruleset{gate: g, imdsV1: rules.IMDSv1, bases: map[string]struct{}{}, baseUpstreams: rules.BaseUpstreams}
	for _, base := range rules.Bases {
		s.bases[base] = struct{}{}
	}
	for _, grant := range rules.Grants {
		r := rule{Grant: grant}
		if len(grant.Users) > 0 {
			r.users = map[uint32]struct{}{}
		}
		for _, user := range grant.Users {
			if uid, ok := known.users[user]; ok {
				r.users[uid] = struct{}{}
			}
		}
		if len(grant.Groups) > 0 {
			r.members = map[uint32]struct{}{}
		}
		for _, group := range grant.Groups {
			for _, uid := range known.members[group] {
				r.members[uid] = struct{}{}
			}
		}
		s.grants = append(s.grants, r)
	}
	slices.SortFunc(s.grants, func(a, b rule) int {
		return cmp.Or(
			cmp.Compare(b.specificity(), a.specificity()),
			cmp.Compare(b.conditions(), a.conditions()),
			strings.Compare(a.Name, b.Name))
	})
	return s
}

// isBase reports whether a credential serves as the base of others. It looks at the
// store as it is: an upstream whose keys are bases announces them together with its
// name, so that there is no moment at which a * covers one.
func (s *ruleset) isBase(key credential.Key) bool {
	if _, named := s.bases[key.Name]; named {
		return true
	}
	return len(s.baseUpstreams) > 0 && slices.Contains(s.baseUpstreams, s.gate.store.Upstream(key))
}

// specificity orders grants by their most specific condition.
func (g Grant) specificity() int {
	switch {
	case len(g.Units) > 0:
		return 3
	case len(g.Users) > 0:
		return 2
	case len(g.Groups) > 0:
		return 1
	default:
		return 0
	}
}

func (g Grant) conditions() (n int) {
	for _, condition := range [][]string{g.Units, g.Users, g.Groups} {
		if len(condition) > 0 {
			n++
		}
	}
	return n
}

// matches reports whether c meets every condition. An unknown caller meets none.
func (r rule) matches(c caller.Identity) bool {
	if r.conditions() > 0 && !c.Known {
		return false
	}
	if r.users != nil {
		if _, ok := r.users[c.UID]; !ok {
			return false
		}
	}
	if r.members != nil {
		if _, ok := r.members[c.UID]; !ok {
			return false
		}
	}
	return len(r.Units) == 0 || (c.Unit != "" && slices.ContainsFunc(r.Units, func(glob string) bool { return match(glob, c.Unit) }))
}

// match is path.Match for patterns that the configuration has checked.
func match(glob, name string) bool {
	ok, err := path.Match(glob, name)
	return ok && err == nil
}

func isGlob(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

// maxViews bounds how many callers' views are kept ready. Uids are few; units may
// be many where each job is a unit of its own.
const maxViews = 1024

// view returns the view of c, made anew only for a caller not seen before.
func (s *ruleset) view(c caller.Identity) *view {
	known := s.views.Load()
	if known != nil {
		if v, ok := (*known)[c]; ok {
			return v
		}
	}
	v := s.newView(c)
	next := map[caller.Identity]*view{}
	if known != nil && len(*known) < maxViews {
		next = maps.Clone(*known)
	}
	next[c] = v
	s.views.Store(&next) // a view lost to another writer is made again
	return v
}

func (s *ruleset) newView(c caller.Identity) *view {
	v := &view{rules: s, caller: c, imdsV1: s.imdsV1, literal: map[string]struct{}{}}
	if c.Self { // serving ourselves would be a loop
		return v
	}
	decided := false
	for _, r := range s.grants {
		if !r.matches(c) {
			continue
		}
		if r.IMDSv1 != nil && !decided {
			v.imdsV1, decided = *r.IMDSv1, true
		}
		for _, pattern := range r.Credentials {
			v.patterns = append(v.patterns, pattern)
			switch {
			case pattern == "*":
				v.all = true
			case isGlob(pattern):
				v.globs = append(v.globs, pattern)
			default:
				v.literal[pattern] = struct{}{}
			}
		}
	}
	return v
}
