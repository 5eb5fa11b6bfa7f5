package policy_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/policy"
)

func TestAStarCoversNothingOfAnUpstreamThatIsABase(t *testing.T) {
	star := policy.Grant{Name: "everyone", Credentials: []string{"*", "b*", "named"}}
	gate, s, _, _ := shop(t, policy.Rules{Grants: []policy.Grant{star}, BaseUpstreams: []string{"dc"}})
	for name, c := range map[string]struct {
		upstream string
		want     bool
	}{
		"base": {"dc", false}, "named": {"dc", true}, "web2": {"other", true}, "b2": {"other", true},
	} {
		s.For(c.upstream).Announce(credential.Key{Name: name})
		s.Put(credential.Key{Name: name}, keys())
		if got := may(gate, bob, name); got != c.want {
			t.Errorf("%s of upstream %s may be had: %v", name, c.upstream, got)
		}
		if got := slices.Contains(gate.View(bob).Names(), name); got != c.want {
			t.Errorf("%s of upstream %s is listed: %v", name, c.upstream, got)
		}
	}
	s.For("dc").Announce(credential.Key{Name: "b2"}) // it changes hands
	if may(gate, bob, "b2") {
		t.Error("b2 may be had although it is a base now")
	}
}

// TestPromise5AViewFromBeforeGivesNothingThatCameAfter: a request may be held up
// between the moment at which it got its view and the one at which it reads.
func TestPromise5AViewFromBeforeGivesNothingThatCameAfter(t *testing.T) {
	gate, s, _, _ := shop(t, policy.Rules{Grants: []policy.Grant{{Name: policy.Everyone, Credentials: []string{"*"}}}})
	before := gate.View(bob)
	gate.Commit(gate.Prepare(t.Context(), policy.Rules{Grants: []policy.Grant{{Name: policy.Everyone, Credentials: []string{"web"}}}}))
	payroll := credential.Key{Name: "payroll"}
	s.Announce(payroll)
	s.Put(payroll, keys())
	if c, err := before.Get(t.Context(), payroll); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("got %v, %v for what no grant gives any more", c, err)
	}
	if _, err := before.Get(t.Context(), credential.Key{Name: "web"}); err != nil {
		t.Errorf("what the new rules give: %v", err)
	}
}
