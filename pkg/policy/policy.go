// Package policy decides who may have what. Its Gate is the only door from the
// store to the front ends: a front end gets a View, which shows one caller what
// the grants give it and nothing else.
//
// What is not there and what is not for this caller are the same answer. A caller
// that could not be identified gets what everyone gets, never more. Finding out who
// the caller is belongs to pkg/caller, and the words of a refusal to the dialects.
package policy

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/credential"
)

// Everyone is the name of the one grant that has no condition.
const Everyone = "everyone"

// A Grant gives credentials to the callers that meet all of its conditions; a
// condition with several values is met by any of them. Without a condition it gives
// to everyone on this host.
type Grant struct {
	Name   string
	Users  []string // names or numbers
	Groups []string // names or numbers; a caller counts as a member by the user database
	Units  []string // globs of systemd unit names, as path.Match has them

	// Credentials are names or globs. A bare * covers neither keys on demand nor
	// credentials that are the base of others: a grant must name these.
	Credentials []string
	// IMDSv1 says whether the callers of this grant may use the AWS metadata service
	// without a session token; nil leaves it to less specific grants and the default.
	IMDSv1 *bool
}

// Rules are all grants and what applies where they say nothing.
type Rules struct {
	Grants []Grant
	IMDSv1 bool
	Bases  []string // names of credentials that serve as a base
	// BaseUpstreams are upstreams of which whatever they give serves as a base: its
	// names are not known ahead.
	BaseUpstreams []string

	// Declared is the upstream of each name that the configuration has, and Listing are
	// the upstreams that have to be asked what they give. Warnings depend on them, and
	// nothing else.
	Declared map[string]string
	Listing  []string
}

// A Store is what the gate reads; *store.Store fits.
type Store interface {
	Get(key credential.Key) (credential.Credential, error)
	Names() []string
	Listed(key credential.Key) bool
	Upstream(key credential.Key) string // that gives key
	Complete() bool
}

// Demand fetches keys that nobody configured ahead. It is told who wants one only so that
// nobody takes the room of others.
type Demand interface {
	Allows(key credential.Key) bool
	Want(ctx context.Context, key credential.Key, by caller.Identity) error
}

// Accounts is the user database. An error that is caller.ErrUnknownAccount says
// that there is no such account; any other, that the database did not answer.
type Accounts interface {
	UID(ctx context.Context, user string) (uint32, error)
	Members(ctx context.Context, group string) ([]uint32, error)
}

// A View is what one caller may have at one moment. It fits frontend.View.
type View interface {
	Names() []string
	Get(ctx context.Context, key credential.Key) (credential.Credential, error)
	IMDSv1() bool
	Pending() bool
}

// A Gate hands out views. All methods are safe for concurrent use; View, and the
// methods of a view, do not allocate for a caller that has been seen before.
type Gate struct {
	store    Store
	demand   Demand
	accounts Accounts

	setting sync.Mutex // serialises Prepare, Commit and Resolve
	rules   Rules
	known   accounts
	current atomic.Pointer[ruleset]
}

// NewGate returns a gate that gives nothing to anybody until Commit. demand may be nil.
func NewGate(store Store, demand Demand, accounts Accounts) *Gate {
	g := &Gate{store: store, demand: demand, accounts: accounts}
	g.current.Store(&ruleset{gate: g})
	return g
}

// Prepared are rules whose accounts were looked up, which takes as long as the user
// database does. They apply from Commit on.
type Prepared struct {
	rules Rules
	known accounts
	set   *ruleset
	// Warnings are what an operator should know about the rules, such as names that
	// match nobody.
	Warnings []string
}

// Prepare looks up the accounts of rules and changes nothing. Where the user
// database does not answer, what it said last stays in force.
func (g *Gate) Prepare(ctx context.Context, rules Rules) *Prepared {
	g.setting.Lock()
	defer g.setting.Unlock()
	return g.prepare(ctx, rules)
}

func (g *Gate) prepare(ctx context.Context, rules Rules) *Prepared {
	known, warnings := resolve(ctx, g.accounts, rules.Grants, g.known)
	return &Prepared{rules, known, newRuleset(g, rules, known), append(warnings, overlaps(rules, g.store)...)}
}

// Commit replaces the rules at once, also for connections that are open.
func (g *Gate) Commit(p *Prepared) {
	g.setting.Lock()
	defer g.setting.Unlock()
	g.commit(p)
}

func (g *Gate) commit(p *Prepared) {
	g.rules, g.known = p.rules, p.known
	g.current.Store(p.set)
}

// Resolve looks up all accounts of the present rules again: members of groups come
// and go.
func (g *Gate) Resolve(ctx context.Context) (warnings []string) {
	g.setting.Lock()
	defer g.setting.Unlock()
	p := g.prepare(ctx, g.rules)
	g.commit(p)
	return p.Warnings
}

// View is what the caller may have now. It follows the rules as they are: a front
// end asks for it with every request.
func (g *Gate) View(c caller.Identity) View { return g.current.Load().view(c) }
