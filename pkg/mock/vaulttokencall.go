package mock

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A VaultTokenRole is a role below auth/token/create/. Its grant is what the tokens
// get, within what the caller asks for.
type VaultTokenRole struct {
	Name    string
	Allowed []string // the policies that may be asked for
	Orphan  bool
	VaultGrant
}

// tokenCall answers below auth/token/.
func (v *Vault) tokenCall(c *vaultCall) (*envelope, *vaultError) {
	if name, ok := strings.CutPrefix(c.below, "create"); ok && (name == "" || name == "-orphan" || name[0] == '/') {
		return v.createToken(c, strings.TrimPrefix(name, "/"))
	}
	target := c.token
	switch c.below {
	case "lookup-self":
		if refusal := c.only(canRead, canUpdate); refusal != nil {
			return nil, refusal
		}
		return with(v.shown(c.token, c.now)), nil
	case "lookup", "renew", "revoke":
		target = v.alive(c.text("token"), c.now)
	case "lookup-accessor", "revoke-accessor":
		target = v.byAccessor(c.text("accessor"))
	case "renew-self", "revoke-self":
	default:
		return nil, errPath
	}
	if refusal := c.only(canUpdate); refusal != nil {
		return nil, refusal
	}
	switch {
	case target == nil && c.below == "revoke-accessor":
		env := with(nil)
		env.Warnings = []string{"No token found with this accessor"}
		return env, nil
	case target == nil && c.below == "lookup-accessor":
		return nil, refuse(http.StatusBadRequest, "1 error occurred:\n\t* invalid accessor\n\n")
	case target == nil && c.below == "lookup":
		return nil, refuse(http.StatusForbidden, "bad token")
	case target == nil && c.below == "renew":
		return nil, refuse(http.StatusBadRequest, "token not found")
	case target == nil:
		return nil, nil
	case strings.HasPrefix(c.below, "lookup"):
		shown := v.shown(target, c.now)
		if c.below == "lookup-accessor" {
			shown["id"] = ""
		}
		return with(shown), nil
	case strings.HasPrefix(c.below, "renew"):
		return v.renewToken(c, target)
	case target.grant.Batch:
		return nil, refuse(http.StatusBadRequest, "batch tokens cannot be revoked")
	}
	v.drop(target)
	v.record.TokensRevoked++
	return nil, nil
}

// shown is what a lookup tells of a token.
func (v *Vault) shown(t *vaultToken, now time.Time) map[string]any {
	uses := t.usesLeft
	if t.spent {
		uses = -1
	}
	data := map[string]any{
		"accessor": t.accessor, "creation_time": t.made.Unix(), "creation_ttl": int64(t.ttl / time.Second), "display_name": t.display,
		"entity_id": t.entity, "expire_time": nil, "explicit_max_ttl": int64(t.explicitMax / time.Second), "id": t.id, "meta": t.meta,
		"num_uses": uses, "orphan": t.orphan, "path": t.path, "policies": t.policies, "ttl": int64(max(0, t.left(now)) / time.Second), "type": t.kind(),
	}
	if !t.ends.IsZero() {
		data["expire_time"], data["issue_time"] = stamp(t.ends), stamp(t.made)
		data["renewable"] = t.renewable
	}
	if t.role != "" {
		data["role"] = t.role
	}
	if t.grant.Period > 0 {
		data["period"] = int64(t.grant.Period / time.Second)
	}
	if t.namespace != "" {
		data["namespace_path"] = t.namespace
	}
	return data
}

// renewToken gives a token more time, up to its greatest age.
func (v *Vault) renewToken(c *vaultCall, t *vaultToken) (*envelope, *vaultError) {
	reason := ""
	switch {
	case t.grant.Batch:
		reason = "batch tokens cannot be renewed"
	case t.ends.IsZero():
		reason = "invalid lease ID"
	case !t.renewable:
		reason = "lease is not renewable"
	}
	if reason != "" {
		v.record.RenewalsRefused++
		return nil, refuse(http.StatusBadRequest, "%s", reason)
	}
	ttl, env := c.time("increment"), with(nil)
	if ttl <= 0 || t.grant.Period > 0 {
		ttl = t.ttl
	}
	longest := t.grant.MaxTTL
	if t.explicitMax > 0 && (longest == 0 || t.explicitMax < longest) {
		longest = t.explicitMax
	}
	if longest == 0 || t.grant.Period > 0 {
		longest = longestLease + c.now.Sub(t.made)
	}
	if most := t.made.Add(longest).Sub(c.now); ttl > most {
		env.Warnings = []string{capped(ttl, most)}
		ttl = most
	}
	t.ends = c.now.Add(ttl)
	v.record.Renewals++
	env.Auth = t.auth()
	env.Auth.LeaseDuration = int64(ttl / time.Second)
	for _, lease := range v.leases {
		if lease.token == t.accessor && lease.key != "" {
			v.o.Keys.until(lease.key, earlier(lease.ends, t.ends))
		}
	}
	return env, nil
}

// capped is the warning of a time that is longer than allowed, in which 5m0s is 5m.
func capped(ttl, most time.Duration) string {
	short := func(d time.Duration) string {
		return strings.ReplaceAll(strings.ReplaceAll(d.Round(time.Second).String(), "m0s", "m"), "h0m", "h")
	}
	return fmt.Sprintf("TTL of %q exceeded the effective max_ttl of %q; TTL value is capped accordingly", short(ttl), short(most))
}

// warnings are those at the birth of a token.
func (t *vaultToken) warnings() []string {
	if wanted := cmp.Or(t.grant.TTL, longestLease); t.grant.Period == 0 && t.grant.MaxTTL > 0 && wanted > t.grant.MaxTTL {
		return []string{capped(wanted, t.grant.MaxTTL)}
	}
	return nil
}

// createToken makes a child of the caller's token, by a role or within its policies.
func (v *Vault) createToken(c *vaultCall, name string) (*envelope, *vaultError) {
	if refusal := c.only(canUpdate); refusal != nil {
		return nil, refusal
	}
	if c.token.grant.Batch {
		return nil, refuse(http.StatusBadRequest, "batch tokens cannot create more tokens")
	}
	asked := c.texts("policies")
	grant, orphan := VaultGrant{Policies: asked}, name == "-orphan"
	if name != "" && !orphan {
		at := slices.IndexFunc(v.o.TokenRoles, func(r VaultTokenRole) bool { return r.Name == name })
		if at < 0 {
			return nil, refuse(http.StatusBadRequest, "unknown role %s", name)
		}
		role := v.o.TokenRoles[at]
		grant, orphan = role.VaultGrant, role.Orphan
		grant.Policies = role.Allowed
		if len(asked) > 0 {
			grant.Policies = asked
		}
		for _, policy := range asked {
			if !slices.Contains(role.Allowed, policy) {
				return nil, refuse(http.StatusBadRequest, "token policies (%q) must be subset of the role's allowed policies (%q) or glob policies (%q)", asked, role.Allowed, []string{})
			}
		}
	} else if !c.token.root {
		if len(asked) == 0 {
			grant.Policies = c.token.policies
		}
		for _, policy := range asked {
			if !slices.Contains(c.token.policies, policy) {
				return nil, refuse(http.StatusBadRequest, "child policies must be subset of parent")
			}
		}
	}
	return v.child(c, grant, orphan), nil
}

// child makes the token of createToken.
func (v *Vault) child(c *vaultCall, grant VaultGrant, orphan bool) *envelope {
	if ttl := c.time("ttl"); ttl > 0 {
		grant.TTL = ttl
	}
	if period := c.time("period"); period > 0 {
		grant.Period = period
	}
	if uses := int(c.time("num_uses") / time.Second); uses > 0 {
		grant.NumUses = uses
	}
	if c.text("type") == "batch" {
		grant.Batch = true
	}
	if most := c.time("explicit_max_ttl"); most > 0 && (grant.MaxTTL == 0 || most < grant.MaxTTL) {
		grant.MaxTTL = most
	}
	if renewable, given := c.fields["renewable"].(bool); given && !renewable {
		grant.Fixed = true
	}
	if none, _ := c.fields["no_default_policy"].(bool); none {
		grant.NoDefault = true
	}
	t := v.newToken(grant, c.namespace, c.now)
	if meta, ok := c.fields["meta"].(map[string]any); ok {
		t.meta = maps.Clone(t.meta)
		if t.meta == nil {
			t.meta = map[string]string{}
		}
		for key, value := range meta {
			t.meta[key] = fmt.Sprint(value)
		}
	}
	t.path, t.display, t.orphan, t.entity = c.path, "token", orphan, ""
	t.explicitMax = c.time("explicit_max_ttl")
	_, t.role, _ = strings.Cut(c.below, "/")
	if !orphan {
		t.parent = c.token.accessor
	}
	if slices.Contains(t.policies, "root") {
		t.root, t.ends, t.ttl = true, time.Time{}, 0
	}
	env := with(nil)
	env.Auth, env.Warnings = t.auth(), t.warnings()
	for _, policy := range t.policies {
		if _, known := v.policies[policy]; !known && policy != "root" {
			env.Warnings = append(env.Warnings, fmt.Sprintf("Policy %q does not exist", policy))
		}
	}
	return env
}

func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
