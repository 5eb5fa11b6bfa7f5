package ims

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/credential"
)

// lines returns n different names, one a line.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "role_%d\n", i)
	}
	return b.String()
}

func TestParseList(t *testing.T) {
	for _, test := range []struct {
		name    string
		body    string
		want    []string
		skipped int
		fault   string
	}{
		{"one role as AFP sends it", "test_role", []string{"test_role"}, 0, ""},
		{"several in their order", "web\nadmin\nbatch", []string{"web", "admin", "batch"}, 0, ""},
		{"blanks and line ends", "  web \r\n\r\n\tadmin\n\n", []string{"web", "admin"}, 0, ""},
		{"repetitions", "web\nadmin\nweb", []string{"web", "admin"}, 0, ""},
		{"characters of IAM names", "a+b=c,d.e@f-g_h", []string{"a+b=c,d.e@f-g_h"}, 0, ""},
		{"empty", "", nil, 0, ""},
		{"blank", " \r\n \n", nil, 0, ""},
		{"one bad name", "web\na/b\nadmin", []string{"web", "admin"}, 1, ""},
		{"a bad name twice", "a/b\nweb\na/b", []string{"web"}, 1, ""},
		{"bad names only", "Internal Server Error\nat line 3", nil, 0, "no line of the answer is the name of a role"},
		{"HTML", "<!DOCTYPE html>\n<p>log in</p>", nil, 0, "HTML or JSON"},
		{"JSON object", ` {"status":"404"}`, nil, 0, "HTML or JSON"},
		{"JSON list", `["web"]`, nil, 0, "HTML or JSON"},
		{"binary", "\x00\x01\x02", nil, 0, "no line of the answer"},
		{"not UTF-8", "web\n\xff\xfe", []string{"web"}, 1, ""},
		{"endless line", strings.Repeat("x", 100_000), nil, 0, "no line of the answer"},
		{"ten thousand", lines(maxRoles), slices.Collect(strings.FieldsSeq(lines(maxRoles))), 0, ""},
		{"more than ten thousand", lines(maxRoles + 1), nil, 0, "more than 10000 lines"},
	} {
		t.Run(test.name, func(t *testing.T) {
			names, skipped, err := parseList([]byte(test.body))
			switch {
			case test.fault == "" && err != nil:
				t.Fatal(err)
			case test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)):
				t.Fatalf("got %v, want ...%s...", err, test.fault)
			}
			if !slices.Equal(names, test.want) || len(skipped) != test.skipped {
				t.Errorf("got %d names %.200q and skipped %v, want %.200q and %d", len(names), names, skipped, test.want, test.skipped)
			}
		})
	}
}

func FuzzList(f *testing.F) {
	for _, seed := range []string{"", "test_role", "a\r\nb\n", "<html>", `{"Code":"Failed"}`, "a/b\n..\n\x00", "\xff", lines(3)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		names, _, err := parseList(body)
		if err != nil && names != nil {
			t.Errorf("names %q beside the error %v", names, err)
		}
		if len(names) > maxRoles {
			t.Errorf("%d names", len(names))
		}
		seen := map[string]bool{}
		for _, name := range names {
			if err := credential.CheckName(name); err != nil || seen[name] {
				t.Errorf("%q is listed: repeated %v, %v", name, seen[name], err)
			}
			seen[name] = true
		}
	})
}
