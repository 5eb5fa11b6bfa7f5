package policy_test

import (
	"slices"
	"testing"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/policy"
)

// like is how a message about an unknown name ends here.
func like(name string, known []string) string { return "?" }

func TestGapsAreWhatGrantsNameAndNoUpstreamGives(t *testing.T) {
	for _, c := range []struct {
		credentials string
		want        string
	}{
		{"web", ""},
		{"later", ""}, // declared, and not in stock yet
		{"*", ""},
		{"w*", ""},
		{"arn:aws:iam::111122223333:role/app-*", ""},
		{"webb", `grant "everyone": no upstream gives "webb"?`},
		{"x*", `grant "everyone": no upstream gives anything like "x*"`},
		{"base", ""},
		{"bas*", `grant "everyone": "bas*" gives nothing, since all that it matches is the base of others; a grant must name that`},
	} {
		rules := policy.Rules{
			Grants:   []policy.Grant{{Name: "everyone", Credentials: []string{c.credentials}}},
			Bases:    []string{"base"},
			Declared: map[string]string{"later": "dc"}, Listing: []string{"other"},
		}
		gate, s, _, _ := shop(t, rules)
		got := gate.Gaps(like)
		if c.want == "" && len(got) > 0 || c.want != "" && !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s: got %q, want %q", c.credentials, got, c.want)
		}
		if s.SetComplete(false); len(gate.Gaps(like)) > 0 {
			t.Errorf("%s: got %q before every upstream has answered", c.credentials, gate.Gaps(like))
		}
	}
}

func TestGapsAreKnownAtOnceWhereEverythingIsDeclared(t *testing.T) {
	rules := policy.Rules{Grants: []policy.Grant{naming("web", "ghost")}, Declared: map[string]string{"web": "dc"}}
	gate, s, _, _ := shop(t, rules)
	if s.SetComplete(false); len(gate.Gaps(like)) != 1 {
		t.Errorf("got %q, want one", gate.Gaps(like))
	}
	set(gate, policy.Rules{Grants: rules.Grants})
	if got := gate.Gaps(like); got != nil {
		t.Errorf("got %q without any upstream", got)
	}
}

func TestChancesAreWhereTheFirstOfAListingComesFromAPattern(t *testing.T) {
	for _, c := range []struct {
		credentials []string
		bases       []string
		want        string
	}{
		{[]string{"*"}, nil, `grant "named": "*" gives 4 credentials, and programs that do not choose get the first by name, "backup"; to fix the choice name one first, such as credentials: ["backup", "*"]`},
		{[]string{"*"}, []string{"backup"}, `grant "named": "*" gives 3 credentials, and programs that do not choose get the first by name, "base"; to fix the choice name one first, such as credentials: ["base", "*"]`},
		{[]string{"ghost", "b*"}, nil, `grant "named": "b*" gives 2 credentials, and programs that do not choose get the first by name, "backup"; to fix the choice name one first, such as credentials: ["backup", "b*"]`},
		{[]string{"web", "*"}, nil, ""},
		{[]string{"w*", "*"}, nil, ""},
		{[]string{"web"}, nil, ""},
		{[]string{"x*"}, nil, ""},
	} {
		gate, s, _, _ := shop(t, policy.Rules{Grants: []policy.Grant{naming(c.credentials...)}, Bases: c.bases, Listing: []string{"dc"}})
		got := gate.Chances()
		if c.want == "" && len(got) > 0 || c.want != "" && !slices.Equal(got, []string{c.want}) {
			t.Errorf("%q: got %q, want %q", c.credentials, got, c.want)
		}
		if s.SetComplete(false); len(gate.Chances()) > 0 {
			t.Errorf("%q: got %q before every upstream has answered", c.credentials, gate.Chances())
		}
	}
}

func TestANameBeforeAStarIsListedFirst(t *testing.T) {
	gate, s, _, _ := shop(t, policy.Rules{Grants: []policy.Grant{{Name: policy.Everyone, Credentials: []string{"web", "*"}}}})
	for _, name := range []string{"aaa-new", "zzz-new"} {
		s.Announce(credential.Key{Name: name})
		if got, want := gate.View(bob).Names()[0], "web"; got != want {
			t.Errorf("with %s the first is %s, want %s", name, got, want)
		}
	}
}
