package mock

import (
	"slices"
	"strings"
	"time"
)

// A VaultRule is a path in a policy. It may end in * for everything below, and have +
// for one part.
type VaultRule struct {
	Path         string        `json:"path"`
	Capabilities []string      `json:"capabilities"` // create, read, update, delete, list, sudo, deny
	MinWrap      time.Duration `json:"min_wrap"`     // with either of them, answers must be wrapped
	MaxWrap      time.Duration `json:"max_wrap"`
}

// defaultPolicy is what every token may do that has the policy of this name.
var defaultPolicy = []VaultRule{
	{Path: "auth/token/lookup-self", Capabilities: []string{canRead}},
	{Path: "auth/token/renew-self", Capabilities: []string{canUpdate}},
	{Path: "auth/token/revoke-self", Capabilities: []string{canUpdate}},
	{Path: "sys/capabilities-self", Capabilities: []string{canUpdate}},
	{Path: "sys/leases/renew", Capabilities: []string{canUpdate}},
	{Path: "sys/leases/lookup", Capabilities: []string{canUpdate}},
	{Path: "sys/wrapping/wrap", Capabilities: []string{canUpdate}},
	{Path: "sys/wrapping/lookup", Capabilities: []string{canUpdate}},
	{Path: "sys/wrapping/unwrap", Capabilities: []string{canUpdate}},
}

// readAll is the policy "purser": it reads what is mounted here, and gives back leases.
func (v *Vault) readAll() []VaultRule {
	rules := []VaultRule{{Path: "sys/leases/revoke", Capabilities: []string{canUpdate}}}
	for path, mount := range v.mounts {
		for _, path := range v.seen(path) {
			switch mount.kind {
			case "aws":
				for _, below := range []string{"creds/*", "sts/*", "static-creds/*", "roles/*"} {
					rules = append(rules, VaultRule{Path: path + below, Capabilities: []string{canRead, canUpdate, canList}})
				}
			case "kv":
				rules = append(rules, VaultRule{Path: path + "*", Capabilities: []string{canRead, canList}})
			case "identity":
				rules = append(rules, VaultRule{Path: path + "oidc/token/*", Capabilities: []string{canRead}})
			}
		}
	}
	return rules
}

// seen is a whole path as it looks from the root and from each namespace around it.
func (v *Vault) seen(path string) []string {
	all := []string{path}
	for _, namespace := range v.o.Namespaces {
		if inside, ok := strings.CutPrefix(path, namespace+"/"); ok {
			all = append(all, inside)
		}
	}
	return all
}

// matches reports how well a rule fits a path: nothing at all, or the better the more.
func (r VaultRule) matches(path string) (int, bool) {
	pattern, below := strings.CutSuffix(r.Path, "*")
	fits := path == pattern
	if below {
		fits = strings.HasPrefix(path, pattern)
	}
	if !fits && strings.Contains(pattern, "+") {
		wanted, given := strings.Split(pattern, "/"), strings.Split(path, "/")
		fits = len(wanted) == len(given) || below && len(given) > len(wanted)
		for i := range min(len(wanted), len(given)) {
			last := below && i == len(wanted)-1
			fits = fits && (wanted[i] == "+" || wanted[i] == given[i] || last && strings.HasPrefix(given[i], wanted[i]))
		}
	}
	score := 2 * len(pattern)
	if !below {
		score++
	}
	return score, fits
}

// allowed returns the rules of a token's policies that decide about a path: those with
// the best fit. The path is the one below the token's namespace.
func (v *Vault) allowed(t *vaultToken, path string) []VaultRule {
	best := 0
	var rules []VaultRule
	for _, name := range t.policies {
		for _, rule := range v.policies[name] {
			score, fits := rule.matches(path)
			switch {
			case !fits || score < best:
			case score > best:
				best, rules = score, []VaultRule{rule}
			default:
				rules = append(rules, rule)
			}
		}
	}
	return rules
}

// capabilities are those of a token at a path, in the order of the alphabet.
func (v *Vault) capabilities(t *vaultToken, path string) []string {
	if t.root {
		return []string{"root"}
	}
	var all []string
	for _, rule := range v.allowed(t, path) {
		all = append(all, rule.Capabilities...)
	}
	if len(all) == 0 || slices.Contains(all, "deny") {
		return []string{"deny"}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// permit checks a call against the policies, and the time of its wrapping.
func (v *Vault) permit(c *vaultCall) *vaultError {
	if c.token.root {
		return nil
	}
	path := strings.TrimPrefix(c.namespace+c.path, c.token.namespace)
	can := v.capabilities(c.token, path)
	if !slices.Contains(can, c.does) && (c.does != canUpdate || !slices.Contains(can, "create")) {
		return errPolicy
	}
	for _, rule := range v.allowed(c.token, path) {
		if rule.MinWrap > 0 && c.wrap < rule.MinWrap || rule.MaxWrap > 0 && (c.wrap == 0 || c.wrap > rule.MaxWrap) {
			return errPolicy
		}
	}
	return nil
}
