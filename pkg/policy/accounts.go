package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/purser-agent/purser/pkg/caller"
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
