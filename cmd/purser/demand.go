package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/refresh"
)

// Allows implements policy.Demand: whether some upstream may be asked for a key that
// nobody configured ahead.
func (a *agent) Allows(key credential.Key) bool {
	for _, loop := range a.loops() {
		if loop.Allows(key) {
			return true
		}
	}
	return false
}

// Want implements policy.Demand. The upstream that allows the key is asked: there is
// one, see checkDemand.
func (a *agent) Want(ctx context.Context, key credential.Key, by caller.Identity) error {
	a.mu.Lock()
	wait := a.config.OnDemand.Wait
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for _, loop := range a.loops() {
		if loop.Allows(key) {
			return loop.Want(ctx, key, asker(by))
		}
	}
	return credential.ErrNotFound
}

// asker is a caller to whom a share of what is asked for in vain belongs. All that are not
// identified share one, and so do all uids of a user's own containers, of which he has
// thousands.
func asker(c caller.Identity) refresh.Asker {
	if !c.Known {
		return refresh.Asker{}
	}
	user := strconv.FormatUint(uint64(c.UID), 10)
	if owner, ok := strings.CutPrefix(c.Unit, "user@"); ok {
		user = strings.TrimSuffix(owner, ".service")
	}
	return refresh.Asker{User: user, Unit: c.Unit}
}

// checkDemand reports two upstreams that could both be asked for one role on demand:
// what it is assumed with would be a matter of chance.
func checkDemand(byName map[string]source) error {
	type owned struct {
		upstream string
		pattern  awsapi.RolePattern
	}
	var all []owned
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		s, ok := byName[name].(interface{ Patterns() []awsapi.RolePattern })
		if !ok {
			continue
		}
		for _, pattern := range s.Patterns() {
			for _, other := range all {
				if other.upstream != name && pattern.Overlaps(other.pattern) {
					return fmt.Errorf("upstreams %q and %q may both be asked for roles on demand that fit %q and %q; make the patterns exclude each other",
						other.upstream, name, other.pattern, pattern)
				}
			}
			all = append(all, owned{name, pattern})
		}
	}
	return nil
}
