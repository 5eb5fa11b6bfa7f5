package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/policy"
	"github.com/purser-agent/purser/pkg/store"
)

// grantWarnings are what an operator should know about the grants, by what is known of
// the upstreams.
func grantWarnings(ctx context.Context, c *config.Config, sources *sources, known *store.Store) []string {
	if len(c.Grants) == 0 {
		return []string{fmt.Sprintf("no grant, so nobody gets anything; add one to grants in %s, such as everyone: {credentials: [\"*\"]}", firstFile(c))}
	}
	gate := policy.NewGate(known, nil, caller.Accounts{})
	rules := gate.Prepare(ctx, grants(c, sources.byName))
	gate.Commit(rules)
	return slices.Concat(rules.Warnings, unmet(c, sources.byName), gate.Gaps(config.DidYouMean), gate.Chances())
}

// firstFile is where an operator may add something.
func firstFile(c *config.Config) string { return append(c.Files, config.DefaultFile)[0] }

// adminWarnings say what serve will say of the admin socket's group.
func adminWarnings(ctx context.Context, c *config.Config) []string {
	if c.Admin.Group == "" {
		return nil
	}
	if _, err := (caller.Accounts{}).GID(ctx, c.Admin.Group); err != nil {
		return []string{fmt.Sprintf("admin.group: %v; only root may use all commands", err)}
	}
	return nil
}

// unmet are the grants of roles on demand that no upstream may be asked for.
func unmet(c *config.Config, byName map[string]source) (warnings []string) {
	var patterns []awsapi.RolePattern
	for _, s := range byName {
		if d, ok := s.(interface{ Patterns() []awsapi.RolePattern }); ok {
			patterns = append(patterns, d.Patterns()...)
		}
	}
	for _, grant := range slices.Sorted(maps.Keys(c.Grants)) {
		for _, role := range c.Grants[grant].Credentials {
			met := func(p awsapi.RolePattern) bool { return p.Overlaps(awsapi.RolePattern(role)) }
			if credential.IsRoleARN(role) && !strings.ContainsAny(role, `[\`) && !slices.ContainsFunc(patterns, met) {
				warnings = append(warnings, fmt.Sprintf("grant %q: %s gives nothing: no upstream has it in on_demand", grant, role))
			}
		}
	}
	return warnings
}
