package policy_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/policy"
)

func TestALiteralRoleOnDemandIsNeverListedAndCoveredByNoStar(t *testing.T) {
	const arn = "arn:aws:iam::111122223333:role/app"
	rules := policy.Rules{Grants: []policy.Grant{{Name: "everyone", Credentials: []string{"*"}}, {Name: "app", Users: []string{"bob"}, Credentials: []string{arn, "web"}}}}
	gate, s, _, _ := shop(t, rules)
	s.SetComplete(false) // when literal names stand for what is to come
	if names := gate.View(bob).Names(); slices.Contains(names, arn) || names[0] != "web" {
		t.Errorf("got the listing %q", names)
	}
	rules.Grants[1].Credentials = []string{arn}
	if warnings := set(gate, rules); len(warnings) != 0 {
		t.Errorf("got the warnings %q", warnings)
	}
}

func TestAKeyOnDemandNeedsThePatternOfTheUpstreamToo(t *testing.T) {
	gate, _, _, d := shop(t, policy.Rules{Grants: []policy.Grant{{Name: "everyone", Credentials: []string{"arn:aws:iam::999999999999:role/app"}}}})
	if may(gate, bob, "arn:aws:iam::999999999999:role/app") || d.wanted != 0 {
		t.Error("asked for a role that no upstream allows")
	}
}

func TestAKeyOnDemandIsWantedInTheNameOfItsCaller(t *testing.T) {
	gate, _, _, d := shop(t, policy.Rules{Grants: []policy.Grant{{Name: "everyone", Credentials: []string{"arn:aws:iam::111122223333:role/*"}}}})
	for i, c := range []caller.Identity{alice, bob, unknown} {
		if !may(gate, c, fmt.Sprint("arn:aws:iam::111122223333:role/app", i)) || d.by != c {
			t.Errorf("%v is taken for %v", c, d.by)
		}
	}
}
