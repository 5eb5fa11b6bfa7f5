package policy_test

import (
	"testing"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/policy"
)

func TestPrepareWarnsWhereEveryoneMayHaveWhatAnotherGrantNames(t *testing.T) {
	star := policy.Grant{Name: "everyone", Credentials: []string{"*"}}
	named := policy.Grant{Name: "backup", Users: []string{"bob"}, Credentials: []string{"backup"}}
	for _, c := range []struct {
		name  string
		rules policy.Rules
		want  int
	}{
		{"covered", policy.Rules{Grants: []policy.Grant{star, named}}, 1},
		{"a base is not covered", policy.Rules{Grants: []policy.Grant{star, named}, Bases: []string{"backup"}}, 0},
		{"no star", policy.Rules{Grants: []policy.Grant{named}}, 0},
		{"nor is what an upstream of bases declares", policy.Rules{Grants: []policy.Grant{star, naming("finance")}, BaseUpstreams: []string{"sts"}, Declared: map[string]string{"finance": "sts"}}, 0},
		{"nor what one lists", policy.Rules{Grants: []policy.Grant{star, naming("demo")}, BaseUpstreams: []string{"dc"}}, 0},
		{"what another upstream declares is", policy.Rules{Grants: []policy.Grant{star, naming("finance")}, BaseUpstreams: []string{"dc"}, Declared: map[string]string{"finance": "sts"}}, 1},
		{"and what another one lists", policy.Rules{Grants: []policy.Grant{star, naming("web")}, BaseUpstreams: []string{"dc"}}, 1},
		{"a name that nobody gives", policy.Rules{Grants: []policy.Grant{star, naming("ghost")}, Listing: []string{"other"}}, 0},
		{"a pattern that fits bases only", policy.Rules{Grants: []policy.Grant{star, naming("dem*")}, BaseUpstreams: []string{"dc"}}, 0},
		{"a pattern that fits more", policy.Rules{Grants: []policy.Grant{star, naming("d*")}, BaseUpstreams: []string{"dc"}}, 1},
		{"a pattern that fits nothing", policy.Rules{Grants: []policy.Grant{star, naming("x*")}, Listing: []string{"other"}}, 0},
		{"only stars", policy.Rules{Grants: []policy.Grant{star, {Name: "b", Users: []string{"bob"}, Credentials: []string{"*"}}}}, 0},
	} {
		gate, s, _, _ := shop(t, policy.Rules{})
		s.For("dc").Announce(credential.Key{Name: "demo"})
		if got := set(gate, c.rules); len(got) != c.want {
			t.Errorf("%s: got warnings %q", c.name, got)
		}
	}
}

func naming(credentials ...string) policy.Grant {
	return policy.Grant{Name: "named", Users: []string{"bob"}, Credentials: credentials}
}

// TestBeforeTheFirstListANameCountsAsCoveredUnlessItMayBeABase: an operator is told of
// it when it is known.
func TestBeforeTheFirstListANameCountsAsCoveredUnlessItMayBeABase(t *testing.T) {
	for _, c := range []struct {
		listing []string
		want    int
	}{{nil, 0}, {[]string{"other"}, 1}, {[]string{"dc"}, 0}, {[]string{"dc", "other"}, 0}} {
		rules := policy.Rules{Grants: []policy.Grant{{Name: "everyone", Credentials: []string{"*"}}, naming("late")}, BaseUpstreams: []string{"dc"}, Listing: c.listing}
		gate, s, _, _ := shop(t, policy.Rules{})
		s.SetComplete(false)
		if got := set(gate, rules); len(got) != c.want {
			t.Errorf("%q: got warnings %q", c.listing, got)
		}
		s.For("other").Announce(credential.Key{Name: "late"})
		if got := gate.Resolve(t.Context()); len(got) != 1 {
			t.Errorf("%q: when it is listed, got warnings %q", c.listing, got)
		}
	}
}

func TestAWarningNamesWhatEveryoneMayHaveIfThatIsNotAll(t *testing.T) {
	gate, _, _, _ := shop(t, policy.Rules{})
	got := set(gate, policy.Rules{Bases: []string{"base"}, Grants: []policy.Grant{{Name: "everyone", Credentials: []string{"*"}}, naming("base", "web", "db")}})
	want := `grant "named": of what it names, everyone may have "web", "db" too, because grants.everyone.credentials has "*"; list there what everyone may have`
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %s", got, want)
	}
}
