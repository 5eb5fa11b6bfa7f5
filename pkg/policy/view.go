package policy

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/credential"
)

// A view is what the rules give to one caller.
type view struct {
	rules    *ruleset
	caller   caller.Identity
	imdsV1   bool
	patterns []string // in the order of a listing

	// The same patterns by kind, for Get.
	all     bool
	globs   []string
	literal map[string]struct{}

	listing atomic.Pointer[listing]
}

// A listing is the names that a view showed when the store had these.
type listing struct {
	stored   []string
	complete bool
	names    []string
}

// IMDSv1 implements View.
func (v *view) IMDSv1() bool { return v.imdsV1 }

// Pending implements View.
func (v *view) Pending() bool {
	return (v.all || len(v.globs) > 0) && !v.rules.gate.store.Complete()
}

// Names implements View: the names of the most specific grant first. Until every
// upstream has said what it grants, the literal names of the grants stand for what
// is to come.
func (v *view) Names() []string {
	store := v.rules.gate.store
	stored, complete := store.Names(), store.Complete()
	if l := v.listing.Load(); l != nil && same(l.stored, stored) && l.complete == complete {
		return l.names
	}
	l := &listing{stored: stored, complete: complete, names: v.list(stored, complete)}
	v.listing.Store(l)
	return l.names
}

// same reports whether two slices are one: the store makes a new one whenever a
// name comes or goes, and we hold on to the old one.
func same(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func (v *view) list(stored []string, complete bool) []string {
	var names []string
	seen := map[string]struct{}{}
	add := func(name string) {
		if _, ok := seen[name]; !ok {
			seen[name] = struct{}{}
			names = append(names, name)
		}
	}
	for _, pattern := range v.patterns {
		if credential.IsRoleARN(pattern) { // on demand: never listed
			continue
		}
		if !isGlob(pattern) {
			if _, found := slices.BinarySearch(stored, pattern); found || !complete {
				add(pattern)
			}
			continue
		}
		for _, name := range stored {
			if match(pattern, name) && !v.rules.isBase(credential.Key{Name: name}) {
				add(name)
			}
		}
	}
	return names
}

// Get implements View. What came into the store under new rules is never given by old
// ones: if they were replaced meanwhile, the answer is theirs.
func (v *view) Get(ctx context.Context, key credential.Key) (credential.Credential, error) {
	for {
		c, err := v.get(ctx, key)
		now := v.rules.gate.current.Load()
		if now == v.rules {
			return c, err
		}
		v = now.view(v.caller)
	}
}

func (v *view) get(ctx context.Context, key credential.Key) (credential.Credential, error) {
	gate := v.rules.gate
	_, named := v.literal[key.Name]
	if !named {
		if v.rules.isBase(key) {
			return nil, credential.ErrNotFound
		}
		named = slices.ContainsFunc(v.globs, func(glob string) bool { return match(glob, key.Name) })
	}
	if !named && !(v.all && gate.store.Listed(key)) {
		if v.all && !gate.store.Complete() && !credential.IsRoleARN(key.Name) {
			return nil, credential.ErrUnavailable // it may come yet
		}
		return nil, credential.ErrNotFound
	}
	c, err := gate.store.Get(key)
	if err == nil || !named {
		return c, err
	}
	if gate.demand != nil && !gate.store.Listed(key) && gate.demand.Allows(key) {
		if wanted := gate.demand.Want(ctx, key, v.caller); wanted != nil {
			return nil, wanted
		}
		if c, err = gate.store.Get(key); errors.Is(err, credential.ErrNotFound) {
			err = credential.ErrUnavailable // its upstream was replaced meanwhile
		}
		return c, err
	}
	if errors.Is(err, credential.ErrNotFound) && !gate.store.Complete() {
		return nil, credential.ErrUnavailable // it may come yet; if it is literal, Names shows it already
	}
	return nil, err
}
