package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/credential"
)

// accounts is what the user database said of the names in the grants.
type accounts struct {
	users   map[string]uint32
	members map[string][]uint32
}

// resolve looks up every account that the grants name. One that does not exist
// matches nobody; where the database does not answer, before stays in force.
func resolve(ctx context.Context, database Accounts, grants []Grant, before accounts) (accounts, []string) {
	now := accounts{users: map[string]uint32{}, members: map[string][]uint32{}}
	var warnings []string
	for _, grant := range grants {
		for _, user := range grant.Users {
			warnings = append(warnings, look(ctx, grant.Name, "user", user, now.users, before.users, database.UID)...)
		}
		for _, group := range grant.Groups {
			warnings = append(warnings, look(ctx, grant.Name, "group", group, now.members, before.members, database.Members)...)
		}
	}
	slices.Sort(warnings)
	return now, slices.Compact(warnings)
}

func look[T any](ctx context.Context, grant, kind, name string, now, before map[string]T, find func(context.Context, string) (T, error)) []string {
	if _, done := now[name]; done {
		return nil
	}
	found, err := find(ctx, name)
	if err == nil {
		now[name] = found
		return nil
	}
	if errors.Is(err, caller.ErrUnknownAccount) {
		return []string{fmt.Sprintf("grant %q: there is no %s %q on this host, the condition matches nobody", grant, kind, name)}
	}
	if old, ok := before[name]; ok {
		now[name] = old
		return []string{fmt.Sprintf("grant %q: looking up the %s %q: %v; using what was known before", grant, kind, name, err)}
	}
	return []string{fmt.Sprintf("grant %q: looking up the %s %q: %v; the condition matches nobody until it can be looked up", grant, kind, name, err)}
}

// overlaps warns where everyone may have by * what another grant names, so that the
// other grant protects nothing.
func overlaps(rules Rules) []string {
	open := slices.ContainsFunc(rules.Grants, func(g Grant) bool {
		return g.conditions() == 0 && slices.Contains(g.Credentials, "*")
	})
	if !open {
		return nil
	}
	var warnings []string
	covered := func(name string) bool {
		return name != "*" && !credential.IsRoleARN(name) && !slices.Contains(rules.Bases, name)
	}
	for _, g := range rules.Grants {
		if g.conditions() > 0 && slices.ContainsFunc(g.Credentials, covered) {
			warnings = append(warnings, fmt.Sprintf("grant %q: what it names, everyone may have too, because grants.%s.credentials is [\"*\"]; delete that grant or list what everyone may have", g.Name, Everyone))
		}
	}
	slices.Sort(warnings)
	return warnings
}
