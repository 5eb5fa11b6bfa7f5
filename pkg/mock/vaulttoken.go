package mock

import (
	"cmp"
	"crypto/rand"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A vaultToken is a client token.
type vaultToken struct {
	id, accessor string
	namespace    string // with a slash at its end, or empty
	path         string // of the call that made it
	display      string
	role         string // of auth/token/create/
	entity       string
	grant        VaultGrant
	policies     []string
	meta         map[string]string
	root         bool
	orphan       bool
	renewable    bool
	parent       string // accessor
	made         time.Time
	ttl          time.Duration
	ends         time.Time // zero for never
	explicitMax  time.Duration
	usesLeft     int
	spent        bool // the last use is over
}

// longestLease is what a server gives without other settings: 768 hours.
const longestLease = 768 * time.Hour

// maxVault bounds how many tokens, leases and wraps there are, each by itself.
const maxVault = 100_000

func (t *vaultToken) kind() string {
	if t.grant.Batch {
		return "batch"
	}
	return "service"
}

// left is the rest of a token's life.
func (t *vaultToken) left(now time.Time) time.Duration {
	if t.ends.IsZero() {
		return 0
	}
	return t.ends.Sub(now)
}

// alive returns a token that can be used, and drops one that cannot any more. The
// caller holds state, as for all that is here.
func (v *Vault) alive(id string, now time.Time) *vaultToken {
	token, ok := v.tokens[id]
	if !ok {
		return nil
	}
	if token.spent || !token.ends.IsZero() && !now.Before(token.ends) {
		v.drop(token)
		return nil
	}
	return token
}

// drop ends a token, its leases, and the tokens that it made.
func (v *Vault) drop(token *vaultToken) {
	delete(v.tokens, token.id)
	for _, lease := range v.leases {
		if lease.token == token.accessor && token.accessor != "" {
			v.endLease(lease)
		}
	}
	for _, child := range v.tokens {
		if child.parent == token.accessor && token.accessor != "" {
			v.drop(child)
		}
	}
}

// addToken makes a token from the options.
func (v *Vault) addToken(o VaultToken) string {
	namespace := strings.Trim(o.Namespace, "/")
	if namespace != "" {
		namespace += "/"
	}
	token := v.newToken(o.VaultGrant, namespace, time.Now())
	if o.Root {
		token.root, token.policies, token.ends, token.ttl, token.renewable = true, []string{"root"}, time.Time{}, 0, false
	}
	token.path, token.display, token.orphan = "auth/token/create", "token", true
	if o.Root {
		token.path, token.display, token.entity = "auth/token/root", "root", ""
	}
	if o.ID != "" {
		delete(v.tokens, token.id)
		token.id = o.ID
		v.tokens[token.id] = token
	}
	return token.id
}

// newToken makes a token and keeps it.
func (v *Vault) newToken(grant VaultGrant, namespace string, now time.Time) *vaultToken {
	policies := slices.Clone(grant.Policies)
	if len(policies) == 0 {
		policies = []string{"purser"}
	}
	if !grant.NoDefault {
		policies = append(policies, "default")
	}
	slices.Sort(policies)
	ttl := cmp.Or(grant.Period, grant.TTL, longestLease)
	if grant.MaxTTL > 0 {
		ttl = min(ttl, grant.MaxTTL)
	}
	token := &vaultToken{
		id: v.tokenID(grant.Batch), namespace: namespace, grant: grant, policies: slices.Compact(policies), meta: maps.Clone(grant.Meta),
		made: now, ttl: ttl, ends: now.Add(ttl), usesLeft: grant.NumUses, entity: vaultID(), renewable: !grant.Batch && !grant.Fixed,
	}
	if !grant.Batch {
		token.accessor = rand.Text()[:24]
	}
	if len(v.tokens) >= maxVault {
		clear(v.tokens)
	}
	v.tokens[token.id] = token
	return token
}

// tokenID makes the text of a token. Nobody should conclude anything from its form.
func (v *Vault) tokenID(batch bool) string {
	prefix, length := "hvs.", 90
	switch {
	case v.o.OpenBao && batch:
		prefix, length = "b.", 300
	case v.o.OpenBao:
		prefix, length = "s.", 24+len(Marker)
	case batch:
		prefix, length = "hvb.", 300
	}
	return prefix + secret(length)
}

// auth is the part of an answer that hands out a token.
func (t *vaultToken) auth() *vaultAuth {
	return &vaultAuth{
		ClientToken: t.id, Accessor: t.accessor, Policies: t.policies, TokenPolicies: t.policies, Metadata: t.meta,
		LeaseDuration: int64(t.ttl / time.Second), Renewable: t.renewable, EntityID: t.entity, TokenType: t.kind(),
		Orphan: t.orphan, NumUses: t.usesLeft,
	}
}

// fromOneOf reports whether an address is in one of the networks, if there are any.
func fromOneOf(remote string, networks []string) bool {
	if len(networks) == 0 {
		return true
	}
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return false
	}
	address, err := netip.ParseAddr(host)
	return err == nil && slices.ContainsFunc(networks, func(text string) bool {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			one, err := netip.ParseAddr(text)
			return err == nil && one == address.Unmap()
		}
		return network.Contains(address.Unmap())
	})
}

// IssueToken makes a token and returns it, as an operator may for a token file. It is
// in the root namespace; VaultOptions.Tokens may be in others.
func (v *Vault) IssueToken(grant VaultGrant) string {
	v.state.Lock()
	defer v.state.Unlock()
	return v.addToken(VaultToken{VaultGrant: grant})
}

// RevokeToken ends a token, with its leases and children. It reports false if there is
// no such token.
func (v *Vault) RevokeToken(id string) bool {
	v.state.Lock()
	defer v.state.Unlock()
	token, ok := v.tokens[id]
	if ok {
		v.drop(token)
	}
	return ok
}

// RevokeTokens ends all tokens but root's.
func (v *Vault) RevokeTokens() {
	v.state.Lock()
	defer v.state.Unlock()
	for _, token := range v.tokens {
		if !token.root {
			v.drop(token)
		}
	}
}

// byAccessor finds a token.
func (v *Vault) byAccessor(accessor string) *vaultToken {
	for _, token := range v.tokens {
		if token.accessor == accessor && accessor != "" {
			return token
		}
	}
	return nil
}
