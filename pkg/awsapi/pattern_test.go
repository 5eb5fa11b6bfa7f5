package awsapi

import (
	"path"
	"strings"
	"testing"
)

func TestPatternsLeaveNeitherPartitionNorAccountOpen(t *testing.T) {
	for pattern, want := range map[RolePattern]string{
		"arn:aws:iam::123456789012:role/app-*":     "",
		"arn:aws:iam::123456789012:role/*":         "",
		"arn:aws:iam::123456789012:role/team/?/x":  "",
		"arn:aws:iam::123456789012:role/exact":     "",
		"":                                         "missing, such as",
		"*":                                        "is not a pattern",
		"arn:aws:iam::*:role/app":                  "is not a pattern",
		"arn:*:iam::123456789012:role/app":         "is not a pattern",
		"arn:aws:iam::123456789012:*":              "is not a pattern",
		"arn:aws:iam::123456789012:role/":          "is not a pattern",
		"arn:aws:iam::123456789012:role/team/":     "is not a pattern",
		"arn:aws:iam::123456789012:role/[a-z]":     "is not a pattern",
		`arn:aws:iam::123456789012:role/\*`:        "is not a pattern",
		"arn:aws:iam::123456789012:role/a b":       "is not a pattern",
		"arn:aws:iam::123456789012:user/*":         "is not a pattern",
		"arn:aws-cn:iam::123456789012:role/app-*":  "the roles are in the partition aws-cn, the region in aws",
		RolePattern(strings.Repeat("x", maxARN+1)): "is not a pattern",
	} {
		err := pattern.Check("aws")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want ...%s", pattern, err, want)
		}
	}
}

func TestPatternsMatchRolesAndNothingElse(t *testing.T) {
	const account = "arn:aws:iam::123456789012:"
	for _, c := range []struct {
		pattern RolePattern
		text    string
		want    bool
	}{
		{account + "role/app-*", account + "role/app-web", true},
		{account + "role/app-*", account + "role/app-", true},
		{account + "role/app-*", account + "role/app-web/admin", false},
		{account + "role/app-*", account + "role/team/app-web", false},
		{account + "role/team/*", account + "role/team/web", true},
		{account + "role/*/*", account + "role/team/web", true},
		{account + "role/app-*", "arn:aws:iam::210987654321:role/app-web", false},
		{account + "role/app-*", account + "role/app-*", false},
		{account + "role/app-*", account + "role/app-a b", false},
		{account + "role/app-*", account + "role/app-x\n", false},
		{account + "role/app-*", account + "role/app-" + strings.Repeat("x", 65), false},
		{account + "role/*", account + "role/", false},
		{account + "role/app", account + "role/app", true},
		{account + "role/app", account + "role/APP", false},
	} {
		if got := c.pattern.Matches(c.text); got != c.want {
			t.Errorf("%s and %q: got %v", c.pattern, c.text, got)
		}
	}
}

// TestOverlapIsWhatSomeTextShows compares Overlaps with all texts of a small alphabet.
func TestOverlapIsWhatSomeTextShows(t *testing.T) {
	words := func(alphabet string, longest int) (all []string) {
		all = []string{""}
		for i := 0; i < len(all); i++ {
			if len(all[i]) < longest {
				for _, c := range alphabet {
					all = append(all, all[i]+string(c))
				}
			}
		}
		return all
	}
	patterns, texts := words("a/*?", 4), words("ab/", 8)
	matched := map[string]map[string]bool{}
	for _, p := range patterns {
		matched[p] = map[string]bool{}
		for _, text := range texts {
			if ok, _ := path.Match(p, text); ok {
				matched[p][text] = true
			}
		}
	}
	for _, p := range patterns {
		for _, q := range patterns {
			want := false
			for text := range matched[p] {
				want = want || matched[q][text]
			}
			if got := RolePattern(p).Overlaps(RolePattern(q)); got != want {
				t.Fatalf("%q and %q: got %v, want %v", p, q, got, want)
			}
		}
	}
}
