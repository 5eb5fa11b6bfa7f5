package policy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/policy"
	"github.com/purser-agent/purser/pkg/store"
)

// database is a user database with state.
type database struct {
	users  map[string]uint32
	groups map[string][]uint32
	down   bool
}

var errDown = errors.New("the directory does not answer")

func (d *database) UID(_ context.Context, user string) (uint32, error) {
	uid, ok := d.users[user]
	switch {
	case d.down:
		return 0, errDown
	case !ok:
		return 0, caller.ErrUnknownAccount
	}
	return uid, nil
}

func (d *database) Members(_ context.Context, group string) ([]uint32, error) {
	uids, ok := d.groups[group]
	switch {
	case d.down:
		return nil, errDown
	case !ok:
		return nil, caller.ErrUnknownAccount
	}
	return uids, nil
}

// demand gives keys on demand by putting them in the store.
type demand struct {
	store  *store.Store
	allows string
	wanted int
	by     caller.Identity // who wanted one last
}

func (d *demand) Allows(key credential.Key) bool { return strings.HasPrefix(key.Name, d.allows) }

func (d *demand) Want(_ context.Context, key credential.Key, by caller.Identity) error {
	d.wanted++
	d.by = by
	d.store.AnnounceUnlisted(key)
	d.store.Put(key, keys())
	return nil
}

func keys() *credential.AWS { return &credential.AWS{Expires: time.Now().Add(time.Hour)} }

var (
	alice   = caller.Identity{UID: 1001, Known: true, Unit: "session-1.scope"}
	bob     = caller.Identity{UID: 1002, Known: true}
	nginx   = caller.Identity{UID: 33, Known: true, Unit: "nginx.service"}
	root    = caller.Identity{UID: 0, Known: true, Unit: "cron.service"}
	unknown = caller.Identity{}
	self    = caller.Identity{UID: 33, Known: true, Unit: "nginx.service", Self: true}
)

// shop is a gate over a store in which web, db, backup and base are in stock.
func shop(t *testing.T, rules policy.Rules) (*policy.Gate, *store.Store, *database, *demand) {
	t.Helper()
	s := &store.Store{}
	for _, name := range []string{"backup", "base", "db", "web"} {
		s.Announce(credential.Key{Name: name})
		s.Put(credential.Key{Name: name}, keys())
	}
	s.SetComplete(true)
	accounts := &database{
		users:  map[string]uint32{"alice": 1001, "bob": 1002, "root": 0},
		groups: map[string][]uint32{"deploy": {1001, 1002}, "empty": nil},
	}
	d := &demand{store: s, allows: "arn:aws:iam::111122223333:role/"}
	gate := policy.NewGate(s, d, accounts)
	set(gate, rules)
	return gate, s, accounts, d
}

func set(g *policy.Gate, rules policy.Rules) (warnings []string) {
	p := g.Prepare(context.Background(), rules)
	g.Commit(p)
	return p.Warnings
}

func may(g *policy.Gate, c caller.Identity, name string) bool {
	_, err := g.View(c).Get(context.Background(), credential.Key{Name: name})
	return err == nil
}

func TestPromise5OnlyWhatAGrantGives(t *testing.T) {
	everyone := policy.Grant{Name: "everyone", Credentials: []string{"web"}}
	byUser := policy.Grant{Name: "by-user", Users: []string{"alice"}, Credentials: []string{"db"}}
	byNumber := policy.Grant{Name: "by-number", Users: []string{"0"}, Credentials: []string{"db"}}
	byGroup := policy.Grant{Name: "by-group", Groups: []string{"deploy"}, Credentials: []string{"backup"}}
	byUnit := policy.Grant{Name: "by-unit", Units: []string{"nginx*.service"}, Credentials: []string{"db", "backup"}}
	both := policy.Grant{Name: "both", Units: []string{"session-*.scope"}, Users: []string{"alice", "bob"}, Credentials: []string{"backup", "db"}}
	for _, c := range []struct {
		name   string
		grants []policy.Grant
		caller caller.Identity
		want   string // a listing
	}{
		{"no grant", nil, alice, ""},
		{"everyone", []policy.Grant{everyone}, alice, "web"},
		{"everyone, unknown caller", []policy.Grant{everyone}, unknown, "web"},
		{"everyone by *", []policy.Grant{{Name: "everyone", Credentials: []string{"*"}}}, bob, "backup base db web"},
		{"user", []policy.Grant{byUser}, alice, "db"},
		{"another user", []policy.Grant{byUser}, bob, ""},
		{"unknown caller is not root", []policy.Grant{{Name: "r", Users: []string{"root"}, Credentials: []string{"*"}}}, unknown, ""},
		{"root", []policy.Grant{{Name: "r", Users: []string{"root"}, Credentials: []string{"web"}}}, root, "web"},
		{"user that does not exist", []policy.Grant{{Name: "g", Users: []string{"ghost"}, Credentials: []string{"*"}}}, root, ""},
		{"group", []policy.Grant{byGroup}, bob, "backup"},
		{"group without members", []policy.Grant{{Name: "g", Groups: []string{"empty"}, Credentials: []string{"*"}}}, root, ""},
		{"group of others", []policy.Grant{byGroup}, nginx, ""},
		{"unit", []policy.Grant{byUnit}, nginx, "db backup"},
		{"other unit", []policy.Grant{byUnit}, root, ""},
		{"no unit", []policy.Grant{{Name: "g", Units: []string{"*"}, Credentials: []string{"*"}}}, bob, ""},
		{"all conditions", []policy.Grant{both}, alice, "backup db"},
		{"one of two conditions", []policy.Grant{both}, bob, ""},
		{"union, most specific first", []policy.Grant{everyone, byGroup, byUser}, alice, "db backup web"},
		{"more conditions first", []policy.Grant{{Name: "a", Units: []string{"session-1.scope"}, Credentials: []string{"web"}}, both}, alice, "backup db web"},
		{"then by name", []policy.Grant{{Name: "b", Users: []string{"bob"}, Credentials: []string{"web"}}, {Name: "a", Users: []string{"bob"}, Credentials: []string{"db"}}}, bob, "db web"},
		{"glob", []policy.Grant{{Name: "g", Users: []string{"bob"}, Credentials: []string{"b*"}}}, bob, "backup base"},
		{"what does not exist", []policy.Grant{{Name: "g", Users: []string{"bob"}, Credentials: []string{"ghost", "db"}}}, bob, "db"},
		{"ourselves", []policy.Grant{everyone, byUnit}, self, ""},
		{"a number that no user has", []policy.Grant{byNumber}, root, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			gate, _, _, _ := shop(t, policy.Rules{Grants: c.grants})
			names := gate.View(c.caller).Names()
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("got the listing %q, want %q", got, c.want)
			}
			for _, name := range []string{"backup", "base", "db", "web", "ghost"} {
				if got, want := may(gate, c.caller, name), slices.Contains(names, name); got != want {
					t.Errorf("%s is listed: %v, but may be had: %v", name, want, got)
				}
			}
		})
	}
}

func TestNotThereAndNotForYouAreTheSameAnswer(t *testing.T) {
	gate, _, _, _ := shop(t, policy.Rules{Grants: []policy.Grant{{Name: "g", Users: []string{"alice"}, Credentials: []string{"db"}}}})
	for _, name := range []string{"db", "ghost"} {
		if _, err := gate.View(bob).Get(t.Context(), credential.Key{Name: name}); err != credential.ErrNotFound {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAStarCoversNeitherBasesNorKeysOnDemand(t *testing.T) {
	star := policy.Grant{Name: "everyone", Credentials: []string{"*"}}
	const arn = "arn:aws:iam::111122223333:role/app"
	for _, c := range []struct {
		name        string
		credentials []string
		base, onARN bool
	}{
		{"star", []string{"*"}, false, false},
		{"glob", []string{"ba*", "arn:aws:iam::111122223333:role/a*"}, false, true},
		{"named", []string{"base", arn}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			star.Credentials = c.credentials
			gate, s, _, d := shop(t, policy.Rules{Grants: []policy.Grant{star}, Bases: []string{"base"}})
			if got := may(gate, bob, "base"); got != c.base {
				t.Errorf("the base may be had: %v", got)
			}
			if got := may(gate, bob, arn); got != c.onARN {
				t.Errorf("the key on demand may be had: %v", got)
			}
			if got := d.wanted > 0; got != c.onARN {
				t.Errorf("the upstream was asked: %v", got)
			}
			s.AnnounceUnlisted(credential.Key{Name: arn})
			s.Put(credential.Key{Name: arn}, keys())
			if got := may(gate, bob, arn); got != c.onARN {
				t.Errorf("once another caller has it in stock, it may be had: %v", got)
			}
			if slices.Contains(gate.View(bob).Names(), arn) {
				t.Error("a key on demand is listed")
			}
		})
	}
}

func TestUntilTheFirstListLiteralNamesStandForWhatIsToCome(t *testing.T) {
	s := &store.Store{}
	gate := policy.NewGate(s, nil, &database{})
	set(gate, policy.Rules{Grants: []policy.Grant{{Name: "everyone", Credentials: []string{"w*", "db", "*"}}}})
	view := gate.View(bob)
	if got := fmt.Sprint(view.Names()); got != "[db]" {
		t.Errorf("got %s before the list", got)
	}
	if _, err := view.Get(t.Context(), credential.Key{Name: "db"}); !errors.Is(err, credential.ErrUnavailable) {
		t.Errorf("got %v for a name that is listed before the list", err)
	}
	s.Announce(credential.Key{Name: "web"})
	s.SetComplete(true)
	if got := fmt.Sprint(view.Names()); got != "[web]" {
		t.Errorf("got %s after the list", got)
	}
	if _, err := view.Get(t.Context(), credential.Key{Name: "db"}); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("got %v for a name that turned out not to exist", err)
	}
}

// TestUntilTheFirstListANameThatAPatternCoversMayCome: whoever asks for it is told to
// ask again, and not that it does not exist.
func TestUntilTheFirstListANameThatAPatternCoversMayCome(t *testing.T) {
	const arn = "arn:aws:iam::111122223333:role/app"
	for _, c := range []struct {
		pattern, name string
		before        error
		pending       bool
	}{
		{"*", "web", credential.ErrUnavailable, true},
		{"w*", "web", credential.ErrUnavailable, true},
		{"w*", "db", credential.ErrNotFound, true},
		{"web", "web", credential.ErrUnavailable, false}, // and listed
		{"web", "db", credential.ErrNotFound, false},
		{"*", arn, credential.ErrNotFound, true},
	} {
		s := &store.Store{}
		gate := policy.NewGate(s, nil, &database{})
		set(gate, policy.Rules{Grants: []policy.Grant{{Name: "everyone", Credentials: []string{c.pattern}}}})
		view := gate.View(bob)
		if _, err := view.Get(t.Context(), credential.Key{Name: c.name}); !errors.Is(err, c.before) || view.Pending() != c.pending {
			t.Errorf("%s for %s: got error %v, pending %v, want %v, %v", c.pattern, c.name, err, view.Pending(), c.before, c.pending)
		}
		s.SetComplete(true)
		if _, err := view.Get(t.Context(), credential.Key{Name: c.name}); !errors.Is(err, credential.ErrNotFound) || view.Pending() {
			t.Errorf("%s for %s: after the list, got error %v, pending %v", c.pattern, c.name, err, view.Pending())
		}
	}
}

func TestIMDSv1IsDecidedByTheMostSpecificGrantThatSaysSo(t *testing.T) {
	yes, no := new(true), new(false)
	grants := []policy.Grant{
		{Name: "everyone", IMDSv1: no},
		{Name: "group", Groups: []string{"deploy"}, IMDSv1: yes},
		{Name: "user", Users: []string{"bob"}},
		{Name: "unit", Units: []string{"session-1.scope"}, IMDSv1: no},
	}
	gate, _, _, _ := shop(t, policy.Rules{Grants: grants, IMDSv1: true})
	for _, c := range []struct {
		caller caller.Identity
		want   bool
	}{{unknown, false}, {bob, true}, {alice, false}, {nginx, false}} {
		if got := gate.View(c.caller).IMDSv1(); got != c.want {
			t.Errorf("%v: got %v", c.caller, got)
		}
	}
	set(gate, policy.Rules{IMDSv1: true})
	if !gate.View(unknown).IMDSv1() {
		t.Error("the default does not apply where no grant says anything")
	}
}

func TestCommitAppliesToTheNextRequest(t *testing.T) {
	gate, _, _, _ := shop(t, policy.Rules{Grants: []policy.Grant{{Name: "everyone", Credentials: []string{"web"}}}})
	if !may(gate, bob, "web") {
		t.Fatal("not granted")
	}
	prepared := gate.Prepare(t.Context(), policy.Rules{})
	if !may(gate, bob, "web") {
		t.Error("preparing other rules took the present ones away")
	}
	gate.Commit(prepared)
	if may(gate, bob, "web") {
		t.Error("still granted after the rules changed")
	}
}

func TestResolveFollowsTheUserDatabaseAndSurvivesItsOutage(t *testing.T) {
	gate, _, accounts, _ := shop(t, policy.Rules{Grants: []policy.Grant{{Name: "g", Groups: []string{"deploy"}, Credentials: []string{"web"}}}})
	accounts.groups["deploy"] = []uint32{33}
	gate.Resolve(t.Context())
	if may(gate, bob, "web") || !may(gate, nginx, "web") {
		t.Error("a change of the group did not apply")
	}
	accounts.down = true
	if got := gate.Resolve(t.Context()); len(got) != 1 || !strings.Contains(got[0], "does not answer; using what was known before") {
		t.Errorf("got warnings %q", got)
	}
	if !may(gate, nginx, "web") {
		t.Error("an outage of the user database took a grant away")
	}
	accounts.down = false
	delete(accounts.groups, "deploy")
	if got := gate.Resolve(t.Context()); len(got) != 1 || !strings.Contains(got[0], `there is no group "deploy"`) {
		t.Errorf("got warnings %q", got)
	}
	if may(gate, nginx, "web") {
		t.Error("a group that is gone still grants")
	}
}

func TestManyCallersDoNotGrowWithoutBound(t *testing.T) {
	gate, _, _, _ := shop(t, policy.Rules{Grants: []policy.Grant{{Name: "everyone", Credentials: []string{"web"}}}})
	for uid := range uint32(5000) {
		if !may(gate, caller.Identity{UID: uid, Known: true, Unit: fmt.Sprintf("run-%d.service", uid)}, "web") {
			t.Fatalf("uid %d gets nothing", uid)
		}
	}
}

func TestReadingDoesNotAllocate(t *testing.T) {
	gate, _, _, _ := shop(t, policy.Rules{Grants: []policy.Grant{{Name: "everyone", Credentials: []string{"*"}}, {Name: "n", Units: []string{"nginx.service"}, Credentials: []string{"web"}}}})
	ctx := t.Context()
	if got := testing.AllocsPerRun(1000, func() {
		view := gate.View(nginx)
		_, _ = view.Get(ctx, credential.Key{Name: view.Names()[0]})
	}); got != 0 {
		t.Errorf("a read allocates %v times", got)
	}
}

func BenchmarkViewGet(b *testing.B) {
	s := &store.Store{}
	for i := range 50 {
		s.Announce(credential.Key{Name: fmt.Sprint("role", i)})
		s.Put(credential.Key{Name: fmt.Sprint("role", i)}, keys())
	}
	gate := policy.NewGate(s, nil, &database{})
	set(gate, policy.Rules{Grants: []policy.Grant{{Name: "everyone", Credentials: []string{"*"}}}})
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := gate.View(nginx).Get(ctx, credential.Key{Name: "role7"}); err != nil {
			b.Fatal(err)
		}
	}
}
